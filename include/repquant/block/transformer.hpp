// SPDX-License-Identifier: MIT
/// A ready pre-norm encoder block: attention and MLP, each behind a layer norm, each added to the residual.
#pragma once

#include <repquant/block/concept.hpp>

namespace repquant {

/// h = x + out(attention(q(n), k(n), v(n))), n = norm1(x);  y = h + fc2(f(fc1(norm2(h)))).
///
/// Shapes    q, k, v, out [d x d] (k and v [d kv_heads / heads x d]), fc1 [hidden x d], fc2 [d x hidden]
/// Paths     ln1, attn.q, attn.k, attn.v, attn, attn.out, ln2, fc1, fc2
struct encoder_block {
  any_norm norm1;
  linear q;
  linear k;
  linear v;
  linear out;
  any_norm norm2;
  linear fc1;
  linear fc2;
  attention_options heads;
  activation function = activation::gelu_erf;

  value forward(trace& t, value x) const {
    const value n1 = t.norm("ln1", norm1, x);
    const value qkv[] = {t.linear("attn.q", q, n1), t.linear("attn.k", k, n1), t.linear("attn.v", v, n1)};
    const value a = t.attention("attn", heads, qkv[0], qkv[1], qkv[2]);
    const value h = t.add(x, t.linear("attn.out", out, a));
    const value n2 = t.norm("ln2", norm2, h);
    const value m = t.activate(function, t.linear("fc1", fc1, n2));
    return t.add(h, t.linear("fc2", fc2, m));
  }
};

}  // namespace repquant
