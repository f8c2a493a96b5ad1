// SPDX-License-Identifier: MIT
/// A ready post-norm encoder block: each layer norm stands behind a residual addition, and its output is the
/// next residual, so that it must not be folded.
#pragma once

#include <repquant/block/concept.hpp>

namespace repquant {

/// h = norm1(x + out(attention(q(x), k(x), v(x))));  y = norm2(h + fc2(f(fc1(h)))).
///
/// Shapes    q, k, v, out [d x d] (k and v [d kv_heads / heads x d]), fc1 [hidden x d], fc2 [d x hidden]
/// Paths     attn.q, attn.k, attn.v, attn, attn.out, ln1, fc1, fc2, ln2
struct post_norm_block {
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
    const value qkv[] = {t.linear("attn.q", q, x), t.linear("attn.k", k, x), t.linear("attn.v", v, x)};
    const value a = t.attention("attn", heads, qkv[0], qkv[1], qkv[2]);
    const value h = t.norm("ln1", norm1, t.add(x, t.linear("attn.out", out, a)));
    const value m = t.activate(function, t.linear("fc1", fc1, h));
    return t.norm("ln2", norm2, t.add(h, t.linear("fc2", fc2, m)));
  }
};

}  // namespace repquant
