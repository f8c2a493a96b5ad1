// SPDX-License-Identifier: MIT
/// Multi-head attention on a tape: scores, softmax, the codes of probabilities, values. One operation,
/// because what stands between [heads tokens x keys] is larger than all else on a tape: only the softmax is
/// kept, and the rest is made again, some rows at a time, in the backward pass.
///
/// Length: one operation, forward and backward.
#pragma once

#include <repquant/infer/probability.hpp>
#include <repquant/infer/softmax.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/train/splitmix64.hpp>
#include <repquant/train/tape.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace repquant::differentiable {

/// How the rows of scores are to be read.
struct attention_heads {
  index heads = 1;
  index kv_heads = 1;   ///< each shared by heads / kv_heads query heads
  bool causal = false;  ///< token i of n sees the keys up to i + keys - n

  /// How many keys a token sees, always the first ones.
  [[nodiscard]] index visible(index token, index tokens, index keys) const noexcept {
    return causal ? std::clamp(token + 1 + keys - tokens, index{0}, keys) : keys;
  }
};

/// Whether probabilities become codes.
struct fake_probabilities {
  bool coded = false;
  probability_code code;   ///< its scale is that of the tape
  float drop = 0;          ///< share that stays as it is, at random
  std::uint64_t seed = 0;  ///< of that choice
};

namespace detail {

/// One attention and its operands. Rows are worked on in blocks, so that what belongs to one fits a cache.
struct attention_operation {
  static constexpr index block = 64;

  node q, k, v, factors, scale, out;
  attention_heads a;
  fake_probabilities codes;

  /// The keys that any token of first .. first + rows - 1 sees.
  [[nodiscard]] index keys_of(const tape& t, index first, index rows) const {
    return a.visible(first + rows - 1, t.value(q).rows(), t.value(k).rows());
  }
  template<class F>
  void for_each_block(const tape& t, F&& f) const {
    const index tokens = t.value(q).rows();
    for (index h = 0; h < a.heads; ++h) {
      for (index first = 0; first < tokens; first += block) {
        const index rows = std::min(block, tokens - first);
        f(h, first, rows, keys_of(t, first, rows));
      }
    }
  }
  [[nodiscard]] index width(const tape& t) const { return t.value(q).cols() / a.heads; }
  [[nodiscard]] index value_width(const tape& t) const { return t.value(v).cols() / a.kv_heads; }
  [[nodiscard]] index group(index head) const { return head / (a.heads / a.kv_heads); }

  /// What probabilities p [rows x keys] of a block become; 0 where a token does not see.
  ///
  /// `left`: 1 where chance leaves the probability as it is, or empty
  void encode(const tape& t, index h, index first, const matrix<>& p, matrix<>& y, matrix<>& left) const {
    const index tokens = t.value(q).rows();
    probability_code code = codes.code;
    code.scale = t.value(scale)(0, 0);
    y.setZero(p.rows(), p.cols());
    left.resize(codes.drop > 0 ? p.rows() : 0, p.cols());
    std::vector<std::uint8_t> buffer(static_cast<std::size_t>(p.cols()));
    for (index i = 0; i < p.rows(); ++i) {
      const auto n = static_cast<std::size_t>(a.visible(first + i, tokens, t.value(k).rows()));
      const std::span<std::uint8_t> row(buffer.data(), n);
      const float largest = code.relative && n > 0 ? p.row(i).maxCoeff() : 1.0F;
      y.row(i) = p.row(i) / largest;
      code.visit([&](const auto& codec, const auto& params) {
        repquant::encode<default_arch>(codec, params, std::span<const float>(y.row(i).data(), n), row);
        repquant::decode<default_arch>(codec, params, std::span<const std::uint8_t>(row),
                                       std::span<float>(y.row(i).data(), n));
      });
      if (code.relative && n > 0) y.row(i) /= y.row(i).sum();
      if (codes.drop <= 0) continue;
      splitmix64 random =
          splitmix64::of(codes.seed, static_cast<std::uint64_t>(h * t.value(q).rows() + first + i));
      for (index j = 0; j < p.cols(); ++j) left(i, j) = random.unit() < codes.drop ? 1.0F : 0.0F;
      y.row(i) += left.row(i).cwiseProduct(p.row(i) - y.row(i));
    }
  }
  /// The gradient of the softmax from that of its codes y, in place, and what the scale gets of it.
  float pull_codes(const tape& t, const matrix<>& p, const matrix<>& y, const matrix<>& left,
                   matrix<>& g) const {
    if (codes.code.relative) {  // the scale is fixed, and the softmax's own gradient knows of the division
      g.array() *= (y.array() != 0.0F).template cast<float>();
      return 0;
    }
    const float s = t.value(scale)(0, 0);
    matrix<> coded = g;
    if (left.size() != 0) coded.array() *= 1 - left.array();
    const auto inside = [&]() -> Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> {
      if (codes.code.kind == probability_kind::as_uniform)
        return ((y - p).array().abs() <= 0.5F * s).template cast<float>();
      return (y.array() != 0.0F && p.array() <= s).template cast<float>();
    }();
    const float slope = (coded.array() * (y.array() - inside * p.array())).sum() / s;
    g.array() -= coded.array() * (1 - inside);
    return slope;
  }

  void forward(tape& t) const {
    const index tokens = t.value(q).rows();
    const index keys = t.value(k).rows();
    const index d = width(t);
    const index dv = value_width(t);
    matrix<>& saved = t.saved(out);
    saved.resize(a.heads * tokens, keys);
    matrix<> p, y, left;
    for_each_block(t, [&](index h, index first, index rows, index n) {
      p.noalias() =
          t.value(q).block(first, h * d, rows, d) * t.value(k).block(0, group(h) * d, n, d).transpose();
      p *= t.value(factors)(0, h);
      for (index i = 0; i < rows; ++i) {
        const index seen = a.visible(first + i, tokens, keys);
        const std::span<float> row(p.row(i).data(), static_cast<std::size_t>(seen));
        softmax_row(std::span<const float>(row), row);
        p.row(i).tail(n - seen).setZero();
      }
      saved.block(h * tokens + first, 0, rows, n) = p;
      if (codes.coded) encode(t, h, first, p, y, left);
      t.value_of(out).block(first, h * dv, rows, dv).noalias() =
          (codes.coded ? y : p) * t.value(v).block(0, group(h) * dv, n, dv);
    });
  }

  void backward(tape& t) const {
    const index tokens = t.value(q).rows();
    const index d = width(t);
    const index dv = value_width(t);
    const matrix<>& g = t.gradient(out);
    matrix<> p, y, left, slope, dq;
    for_each_block(t, [&](index h, index first, index rows, index n) {
      p = t.saved(out).block(h * tokens + first, 0, rows, n);
      if (codes.coded) encode(t, h, first, p, y, left);
      const auto gh = g.block(first, h * dv, rows, dv);
      if (t.wanted(v)) {
        t.gradient_of(v).block(0, group(h) * dv, n, dv).noalias() += (codes.coded ? y : p).transpose() * gh;
      }
      slope.noalias() = gh * t.value(v).block(0, group(h) * dv, n, dv).transpose();
      if (codes.coded) {
        const float of_scale = pull_codes(t, p, y, left, slope);
        if (t.wanted(scale)) t.gradient_of(scale)(0, 0) += of_scale;
      }
      const matrix<> along = slope.cwiseProduct(p).rowwise().sum();
      slope.array() = p.array() * (slope.array().colwise() - along.col(0).array());
      const float factor = t.value(factors)(0, h);
      const auto qh = t.value(q).block(first, h * d, rows, d);
      dq.noalias() = slope * t.value(k).block(0, group(h) * d, n, d);
      if (t.wanted(factors)) t.gradient_of(factors)(0, h) += dq.cwiseProduct(qh).sum();
      if (t.wanted(q)) t.gradient_of(q).block(first, h * d, rows, d) += factor * dq;
      if (t.wanted(k)) {
        slope *= factor;
        t.gradient_of(k).block(0, group(h) * d, n, d).noalias() += slope.transpose() * qh;
      }
    });
  }
};

}  // namespace detail

/// For each head h, with g its key head and x_ij a token's visible scores:
///
///   x = factor_h q_h k_g^T,   p = softmax(x),   out_h = y v_g,   y = p, or the value of the code of p
///   dv_g += y^T G_h,   dp = G_h v_g^T straight through the codes,   dx = p (dp - sum(dp p)),
///   dq_h = factor_h dx k_g,   dk_g += factor_h dx^T q_h,   dfactor_h = sum(q_h (dx k_g))
///
/// Straight through: for logarithmic codes dp passes where 0 < y and p <= s, for uniform ones where
/// |y - p| <= s / 2; ds = dp (y - p) / s there, dp y / s elsewhere. For relative codes, y the value of the
/// code of p / max p over the sum of these, where 0 < y, and ds = 0.
///
/// Shapes    q [tokens x heads d], k [keys x kv_heads d], v [keys x kv_heads dv], factors [1 x heads], scale
///           of the codes [1 x 1], result [tokens x heads dv]
/// Requires  kv_heads divides heads; scale > 0 where there are codes
/// Cost      about 2 tokens keys heads (d + dv) multiply-adds forward, half of it where causal; memory
///           heads tokens keys
inline node attention(tape& t, node q, node k, node v, node factors, node scale, const attention_heads& a,
                      const fake_probabilities& codes = {}) {
  REPQUANT_ASSERT(a.heads % a.kv_heads == 0 && t.value(factors).cols() == a.heads);
  REPQUANT_ASSERT(t.value(k).cols() * a.heads == t.value(q).cols() * a.kv_heads);
  REPQUANT_ASSERT(t.value(k).rows() == t.value(v).rows());
  detail::attention_operation x{q, k, v, factors, scale, {}, a, codes};
  x.out = t.result(t.value(q).rows(), a.heads * x.value_width(t), {q, k, v, factors, scale});
  x.forward(t);
  t.on_backward(x.out, [x](tape& u) { x.backward(u); });
  return x.out;
}

}  // namespace repquant::differentiable
