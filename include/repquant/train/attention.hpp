// SPDX-License-Identifier: MIT
/// The pieces of multi-head attention on a tape: scores, their factor per head, softmax, values. Quantizers
/// stand between them. Scores and probabilities of all heads lie below each other: [heads tokens x keys].
#pragma once

#include <repquant/infer/softmax.hpp>
#include <repquant/train/tape.hpp>

#include <algorithm>

namespace repquant::differentiable {

/// How the rows of scores are to be read.
struct attention_heads {
  index heads = 1;
  index kv_heads = 1;   ///< each shared by heads / kv_heads query heads
  bool causal = false;  ///< token i of n sees the keys up to i + keys - n

  /// How many keys row i sees, always the first ones.
  [[nodiscard]] index visible(index i, index rows, index keys) const noexcept {
    const index tokens = rows / heads;
    return causal ? std::clamp(i % tokens + 1 + keys - tokens, index{0}, keys) : keys;
  }
};

/// out_h = q_h k_g^T, g the key head of h;  dq_h = G_h k_g,  dk_g = sum over its heads of G_h^T q_h.
///
/// Shapes  q [tokens x heads d], k [keys x kv_heads d], result [heads tokens x keys]
inline node attention_scores(tape& t, node q, node k, const attention_heads& a) {
  const index tokens = t.value(q).rows();
  const index d = t.value(q).cols() / a.heads;
  REPQUANT_ASSERT(t.value(k).cols() == d * a.kv_heads);
  const node out = t.result(a.heads * tokens, t.value(k).rows(), {q, k});
  const index group = a.heads / a.kv_heads;
  for (index h = 0; h < a.heads; ++h) {
    t.value_of(out).middleRows(h * tokens, tokens).noalias() =
        t.value(q).middleCols(h * d, d) * t.value(k).middleCols(h / group * d, d).transpose();
  }
  t.on_backward(out, [q, k, out, tokens, d, group, heads = a.heads](tape& u) {
    const matrix<>& g = u.gradient(out);
    for (index h = 0; h < heads; ++h) {
      const auto gh = g.middleRows(h * tokens, tokens);
      if (u.wanted(q)) {
        u.gradient_of(q).middleCols(h * d, d).noalias() += gh * u.value(k).middleCols(h / group * d, d);
      }
      if (u.wanted(k)) {
        u.gradient_of(k).middleCols(h / group * d, d).noalias() +=
            gh.transpose() * u.value(q).middleCols(h * d, d);
      }
    }
  });
  return out;
}

/// out = x times the factor of its head;  dx = g factor,  dfactor_h = sum(g_h x_h).
///
/// Shapes  x, result [heads rows x cols], factors [1 x heads]
inline node scale_heads(tape& t, node x, node factors) {
  const index heads = t.value(factors).cols();
  const index rows = t.value(x).rows() / heads;
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x, factors});
  for (index h = 0; h < heads; ++h) {
    t.value_of(out).middleRows(h * rows, rows) =
        t.value(x).middleRows(h * rows, rows) * t.value(factors)(0, h);
  }
  t.on_backward(out, [x, factors, out, heads, rows](tape& u) {
    const matrix<>& g = u.gradient(out);
    for (index h = 0; h < heads; ++h) {
      const auto gh = g.middleRows(h * rows, rows);
      if (u.wanted(x)) u.gradient_of(x).middleRows(h * rows, rows) += gh * u.value(factors)(0, h);
      if (u.wanted(factors)) {
        u.gradient_of(factors)(0, h) += gh.cwiseProduct(u.value(x).middleRows(h * rows, rows)).sum();
      }
    }
  });
  return out;
}

/// The softmax of every row over the keys it sees, 0 elsewhere;  dx = p (g - sum(g p)).
///
/// Shapes  x, result [heads tokens x keys]
inline node softmax_rows(tape& t, node x, const attention_heads& a = {}) {
  const index rows = t.value(x).rows();
  const index keys = t.value(x).cols();
  const node out = t.result(rows, keys, {x});
  matrix<>& p = t.value_of(out);
  for (index i = 0; i < rows; ++i) {
    const auto n = static_cast<std::size_t>(a.visible(i, rows, keys));
    softmax_row(std::span<const float>{t.value(x).row(i).data(), n}, std::span<float>{p.row(i).data(), n});
    p.row(i).tail(keys - static_cast<index>(n)).setZero();
  }
  t.on_backward(out, [x, out](tape& u) {
    const matrix<>& g = u.gradient(out);
    const matrix<>& y = u.value(out);
    u.add_gradient(x,
                   (y.array() * (g.array().colwise() - g.cwiseProduct(y).rowwise().sum().array())).matrix());
  });
  return out;
}

/// out = x on the keys that a row sees, 0 elsewhere: for probabilities whose quantizer has no zero.
///
/// Shapes  x, result [heads tokens x keys]
inline node mask_hidden(tape& t, node x, const attention_heads& a) {
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x});
  const auto hide = [a](matrix<>& m) {
    for (index i = 0; i < m.rows(); ++i) m.row(i).tail(m.cols() - a.visible(i, m.rows(), m.cols())).setZero();
  };
  t.value_of(out) = t.value(x);
  hide(t.value_of(out));
  t.on_backward(out, [x, out, hide](tape& u) {
    matrix<>& g = u.gradient_of(out);  // nobody reads it after this
    hide(g);
    u.add_gradient(x, g);
  });
  return out;
}

/// out_h = p_h v_g;  dp_h = G_h v_g^T,  dv_g = sum over its heads of p_h^T G_h.
///
/// Shapes  p [heads tokens x keys], v [keys x kv_heads d], result [tokens x heads d]
inline node attention_values(tape& t, node p, node v, const attention_heads& a) {
  const index tokens = t.value(p).rows() / a.heads;
  const index d = t.value(v).cols() / a.kv_heads;
  REPQUANT_ASSERT(t.value(p).cols() == t.value(v).rows());
  const node out = t.result(tokens, a.heads * d, {p, v});
  const index group = a.heads / a.kv_heads;
  for (index h = 0; h < a.heads; ++h) {
    t.value_of(out).middleCols(h * d, d).noalias() =
        t.value(p).middleRows(h * tokens, tokens) * t.value(v).middleCols(h / group * d, d);
  }
  t.on_backward(out, [p, v, out, tokens, d, group, heads = a.heads](tape& u) {
    const matrix<>& g = u.gradient(out);
    for (index h = 0; h < heads; ++h) {
      const auto gh = g.middleCols(h * d, d);
      if (u.wanted(p)) {
        u.gradient_of(p).middleRows(h * tokens, tokens).noalias() +=
            gh * u.value(v).middleCols(h / group * d, d).transpose();
      }
      if (u.wanted(v)) {
        u.gradient_of(v).middleCols(h / group * d, d).noalias() +=
            u.value(p).middleRows(h * tokens, tokens).transpose() * gh;
      }
    }
  });
  return out;
}

}  // namespace repquant::differentiable
