// SPDX-License-Identifier: MIT
/// What one attention head on codes is given, and what can be said before it runs: which arithmetic its
/// ranges prove.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/infer/probability.hpp>
#include <repquant/kernel/exact_range.hpp>
#include <repquant/kernel/log_product.hpp>

#include <algorithm>
#include <limits>

namespace repquant {

/// The numbers of one head.
///
///   S[i][j]   = sum_d (q[i][d] - q_zero[d])(k[j][d] - k_zero)               exact
///   P[i]      = encode(softmax(S[i] score_multiplier))                      over the visible keys
///   out[i][d] = sum_j P[i][j] (v[j][d] - v_zero[d]), exact, then value_row  (probability.hpp) with the
///               factor of its codes (code_weights.hpp)
///
/// Columns of q and k may have scales of their own as long as the product s_q[d] s_k[d] is the same for all
/// columns of the head; that product and the softmax scale make score_multiplier. Keys may have a zero point
/// of their own per column, and yet there is one k_zero, which may be any integer: another vector subtracted
/// from all keys changes all scores of a query by the same number, which the softmax takes out again,
/// exactly: it sees differences of S only.
///
/// Units  score_multiplier = s_q s_k times the softmax scale; value_scale = s_v; strides in values
struct attention_head {
  index queries = 0;
  index keys = 0;
  index head_dim = 0;
  std::span<const std::int32_t> q_zero;  ///< [head_dim]
  std::int32_t k_zero = 0;
  std::span<const std::int32_t> v_zero;  ///< [head_dim]
  int code_bits = 8;                     ///< of q, k and v; a smaller number proves smaller sums
  float score_multiplier = 1;
  std::span<const float> value_scale;  ///< [head_dim]
  probability_code probability;
  /// Query i sees keys up to i + keys - queries: the last query sees all.
  bool causal = false;

  /// How many keys query i sees, always the first ones.
  [[nodiscard]] constexpr index visible(index i) const noexcept {
    return causal ? std::clamp(i + keys - queries + 1, index{0}, keys) : keys;
  }
};

/// Where the operands of one head lie: pointer and distance between rows, which may be more than head_dim.
struct attention_operands {
  const std::uint8_t* q = nullptr;
  index q_stride = 0;
  const std::uint8_t* k = nullptr;
  index k_stride = 0;
  const std::uint8_t* v = nullptr;
  index v_stride = 0;
  float* out = nullptr;
  index out_stride = 0;
};

/// Is told nothing of the probability codes.
struct no_probability_sink {
  void operator()(index, const std::uint8_t*, index) const noexcept {}
};

namespace detail {

/// Queries that run together: whole tiles of gemm.hpp, few enough that their scores, exponentials and codes
/// stay in the first-level cache.
template<instruction_set Set>
inline constexpr index attention_block = [] {
  constexpr index rows = kernels_of<Set>::type::template rows<false>;
  return (16 + rows / 2) / rows * rows;
}();
/// The most of them on any instruction set.
inline constexpr index most_attention_block = 18;

/// The largest magnitude of a probability operand: a power of two, or a centred uniform code.
inline std::int64_t largest_probability(const probability_code& code) noexcept {
  return code.visit([]<class C>(const C& codec, const auto& p) -> std::int64_t {
    if constexpr (std::same_as<C, uniform>) {
      return center_largest(p.zero_point, codec.levels());
    } else {
      return std::int64_t{1} << largest_shift(codec);
    }
  });
}

/// Which arithmetic the ranges of a head prove.
///
/// Scores are made without what all keys of a query have in common: a softmax sees differences only, and they
/// are the same integers. So neither k_zero nor the query's own part of it matters, and
///
///   S'[j] = sum_d (q[d] - q_zero[d])(k[j][d] - shift),  |S'| <= sum_d max|q - q_zero| 2^(b-1)
struct attention_forms {
  bool score_wide = false;  ///< score sums are int64
  bool value_wide = false;  ///< so are value sums: of more keys than the next number
  index narrow_keys = 0;
  bool plain = false;      ///< uniform codes of which masked keys have weight: values by plain loops
  std::int64_t max_p = 0;  ///< largest magnitude of a probability operand
  std::int64_t sum_q = 0;  ///< largest sum_d |q[d] - q_zero[d]|
  std::int64_t far_k = 0;  ///< largest |k - k_zero|
  std::int64_t far_v = 0;  ///< largest |v[d] - v_zero[d]|
};
inline attention_forms forms_of(const attention_head& h) noexcept {
  const int levels = 1 << h.code_bits;
  attention_forms f;
  for (std::int32_t zero : h.q_zero) f.sum_q += center_largest(zero, levels);
  for (std::int32_t zero : h.v_zero) f.far_v = std::max(f.far_v, center_largest(zero, levels));
  f.far_k = center_largest(h.k_zero, levels);
  f.max_p = largest_probability(h.probability);
  f.score_wide = f.sum_q > ((1 << 30) - 1) / levels;
  f.narrow_keys = most_products(f.max_p, f.far_v);
  if (h.probability.kind != probability_kind::as_uniform)
    f.narrow_keys = std::min(f.narrow_keys, most_products(largest_power, f.far_v));
  f.value_wide = h.keys > f.narrow_keys;
  f.plain = h.probability.kind == probability_kind::as_uniform &&
            h.probability.masked() != h.probability.zero_point;
  return f;
}

/// True where int32 corrections of the values hold the sums of a product with them.
inline bool value_corrections_fit(instruction_set set, const attention_head& h,
                                  const attention_forms& f) noexcept {
  return h.probability.visit([&]<class C>(const C& codec, const auto&) {
    if constexpr (std::same_as<C, uniform>) {
      return !f.value_wide;
    } else {
      return log_corrections_fit(set, codec, h.keys, h.code_bits, f.far_v);
    }
  });
}

}  // namespace detail

/// The most keys that a head can have: beyond, its value sums could leave int64. The sizes in `h` do not
/// matter.
inline index most_keys(const attention_head& h) noexcept {
  const detail::attention_forms f = detail::forms_of(h);
  return static_cast<index>(std::numeric_limits<std::int64_t>::max() / (f.max_p * f.far_v));
}

/// Nothing, or why this head cannot run: a size below 1, a number of columns that are not head_dim, bits out
/// of range, a depth that the codec does not have, relative codes that are not well formed (got 1), a score
/// multiplier that is negative or not finite (got -1), or sums that even int64 cannot be proved to hold
/// (too_large; got and want are the largest sum_d |q - q_zero|, or the keys).
[[nodiscard]] inline failure check(const attention_head& h, std::string_view place) noexcept {
  if (h.queries < 1 || h.keys < 1 || h.head_dim < 1) {
    return {errc::empty, place, std::min({h.queries, h.keys, h.head_dim}), 1};
  }
  for (std::size_t columns : {h.q_zero.size(), h.v_zero.size(), h.value_scale.size()}) {
    if (static_cast<index>(columns) != h.head_dim)
      return {errc::shape_mismatch, place, static_cast<std::int64_t>(columns), h.head_dim};
  }
  if (h.code_bits < 2 || h.code_bits > 8) return {errc::bad_bits, place, h.code_bits, 8};
  if (h.probability.bits < 2 || h.probability.bits > 8) return {errc::bad_bits, place, h.probability.bits, 8};
  if (h.probability.depth < 0 || h.probability.depth > 30) {
    return {errc::bad_option, place, h.probability.depth, 30};
  }
  if (!h.probability.well_formed()) return {errc::bad_option, place, h.probability.relative ? 1 : 0, 0};
  if (!steps_of(h.score_multiplier).ordered) return {errc::bad_option, place, -1, 0};
  if (constexpr index most = detail::gemm_places<std::uint8_t>; h.head_dim > most) {
    return {errc::too_large, place, h.head_dim, most};
  }
  const detail::attention_forms f = detail::forms_of(h);
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (f.sum_q > most / f.far_k) return {errc::too_large, place, f.sum_q, most / f.far_k};
  if (h.keys > most_keys(h)) return {errc::too_large, place, h.keys, most_keys(h)};
  return {};
}

}  // namespace repquant
