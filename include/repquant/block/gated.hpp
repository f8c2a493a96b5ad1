// SPDX-License-Identifier: MIT
/// A ready decoder block as LLaMA's: norms in front, rotary positions, grouped queries, a gated MLP.
#pragma once

#include <repquant/block/concept.hpp>

namespace repquant {

/// The angles of rotary positions: cosines and sines [positions x head_dim / 2]; empty where there are none.
struct rotary_positions {
  matrix<> cosines;
  matrix<> sines;
};

/// h = x + out(attention(turned q(n), turned k(n), v(n))), n = norm1(x);
/// y = h + down(f(gate(m)) * up(m)), m = norm2(h).
///
/// Shapes    q [heads head_dim x d], k and v [kv_heads head_dim x d], out [d x heads head_dim],
///           gate and up [hidden x d], down [d x hidden]
/// Paths     ln1, attn.q, attn.k, attn.v, attn.q.turned, attn.k.turned, attn, attn.out, ln2, gate, up, down
/// Source    arXiv 2302.13971
struct gated_decoder_block {
  any_norm norm1;
  linear q;
  linear k;
  linear v;
  linear out;
  any_norm norm2;
  linear gate;
  linear up;
  linear down;
  attention_options heads{.causal = true};
  rotary_positions positions{};
  activation function = activation::silu;

  value forward(trace& t, value x) const {
    const value n1 = t.norm("ln1", norm1, x);
    value qkv[] = {t.linear("attn.q", q, n1), t.linear("attn.k", k, n1), t.linear("attn.v", v, n1)};
    if (positions.cosines.size() != 0) {
      const index groups = heads.kv_heads == 0 ? heads.heads : heads.kv_heads;
      qkv[0] = t.rotate("attn.q.turned", positions.cosines, positions.sines, heads.heads, qkv[0]);
      qkv[1] = t.rotate("attn.k.turned", positions.cosines, positions.sines, groups, qkv[1]);
    }
    const value a = t.attention("attn", heads, qkv[0], qkv[1], qkv[2]);
    const value h = t.add(x, t.linear("attn.out", out, a));
    const value n2 = t.norm("ln2", norm2, h);
    const value g = t.activate(function, t.linear("gate", gate, n2));
    return t.add(h, t.linear("down", down, t.multiply(g, t.linear("up", up, n2))));
  }
};

}  // namespace repquant
