// SPDX-License-Identifier: MIT
/// What one attention head on codes is given, and what can be said before it runs: which arithmetic its
/// ranges prove, and how much scratch it needs.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/infer/probability.hpp>
#include <repquant/infer/workspace.hpp>

#include <algorithm>
#include <limits>

namespace repquant {

/// The numbers of one head.
///
///   S[i][j]   = sum_d (q[i][d] - q_zero[d])(k[j][d] - k_zero)               exact
///   P[i]      = encode(softmax(float(S[i]) score_multiplier))               over the visible keys
///   out[i][d] = sum_j P[i][j] (v[j][d] - v_zero[d]), exact, then value_row  (probability.hpp)
///
/// Columns of q and k may have scales of their own as long as the product s_q[d] s_k[d] is the same for all
/// columns of the head; that product and the softmax scale make score_multiplier. Keys may have a zero point
/// of their own per column, and yet there is one k_zero, which may be any integer: another vector subtracted
/// from all keys changes all scores of a query by the same number, which the softmax takes out again. (In
/// real arithmetic; S is rounded to float, so a k_zero amid the codes, which keeps |S| small, is best.)
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
  /// Keys beyond this many are padding; a negative number means that all are there.
  index key_count = -1;
  /// Query i sees keys up to i + keys - queries: the last query sees all.
  bool causal = false;

  /// How many keys query i sees, always the first ones.
  [[nodiscard]] constexpr index visible(index i) const noexcept {
    const index there = key_count < 0 ? keys : std::min(key_count, keys);
    return causal ? std::clamp(i + keys - queries + 1, index{0}, there) : there;
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

/// Queries that run together: enough for the tiles of product.hpp, few enough for the first-level cache.
inline constexpr index attention_block = 8;

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

/// The code nearest to a zero point.
inline std::int32_t nearest_code(const attention_head& h, std::int32_t zero) noexcept {
  return std::clamp(zero, 0, (1 << h.code_bits) - 1);
}

/// Which arithmetic the ranges of a head prove. Where int32 does not hold the sums because of zero points
/// beyond the codes, the operands are centred on the nearest codes, and what that leaves out is added in
/// int64 (attention_sums.hpp): the cost of a wide zero point is that of a pass over the keys, not of the
/// products.
struct attention_forms {
  bool score_fits = false;       ///< score sums fit int32
  bool value_fits = false;       ///< value sums fit int32
  bool score_near = false;       ///< q and k are centred on the codes nearest to their zero points
  bool value_near = false;       ///< v is
  bool value_by_product = true;  ///< false: a zero point of uniform probabilities that no int16 holds
  std::int64_t max_q = 0, max_k = 0, max_v = 0, max_p = 0;  ///< largest magnitudes of operands, as centred
  std::int64_t sum_q = 0;                                   ///< largest sum_d |q[d] - q_zero[d]|
  std::int64_t far_k = 0, far_v = 0;                        ///< largest |k - k_zero| and |v[d] - v_zero[d]|
};
inline attention_forms forms_of(const attention_head& h) noexcept {
  const int levels = 1 << h.code_bits;
  const bool log = h.probability.kind != probability_kind::as_uniform;
  const auto beyond = [&h](std::int32_t zero) { return zero != nearest_code(h, zero); };
  attention_forms f;
  bool score_beyond = beyond(h.k_zero);
  bool score_int16 = center_fits(h.k_zero);
  for (std::int32_t zero : h.q_zero) {
    const std::int64_t largest = center_largest(zero, levels);
    f.max_q = std::max(f.max_q, largest);
    f.sum_q += largest;
    score_beyond = score_beyond || beyond(zero);
    score_int16 = score_int16 && center_fits(zero);
  }
  bool value_beyond = false;
  bool value_int16 = true;
  for (std::int32_t zero : h.v_zero) {
    f.far_v = std::max(f.far_v, center_largest(zero, levels));
    value_beyond = value_beyond || beyond(zero);
    value_int16 = value_int16 && center_fits(zero);
  }
  f.far_k = center_largest(h.k_zero, levels);
  f.max_p = largest_probability(h.probability);
  f.value_by_product = log || center_fits(h.probability.zero_point);
  f.score_fits = score_int16 && f.sum_q <= 0x7FFFFFFF / f.far_k;
  f.value_fits = f.value_by_product && value_int16 && product_fits(h.keys, f.max_p, f.far_v) &&
                 (!log || f.max_p <= 1 << 14);
  f.score_near = !f.score_fits && score_beyond;
  f.value_near = f.value_by_product && !f.value_fits && value_beyond;
  if (f.score_near) f.max_q = levels - 1;
  f.max_k = f.score_near ? levels - 1 : f.far_k;
  f.max_v = f.value_near ? levels - 1 : f.far_v;
  return f;
}

}  // namespace detail

/// The most keys that a head can have: beyond, its value sums could leave int64. The sizes in `h` do not
/// matter.
inline index most_keys(const attention_head& h) noexcept {
  const detail::attention_forms f = detail::forms_of(h);
  return static_cast<index>(std::numeric_limits<std::int64_t>::max() / (f.max_p * f.far_v));
}

/// Nothing, or why this head cannot run: a size below 1, a number of columns that are not head_dim, bits out
/// of range, a depth that the codec does not have, or sums that even int64 cannot be proved to hold
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
  const detail::attention_forms f = detail::forms_of(h);
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (f.sum_q > most / f.far_k) return {errc::too_large, place, f.sum_q, most / f.far_k};
  if (h.keys > most_keys(h)) return {errc::too_large, place, h.keys, most_keys(h)};
  return {};
}

/// Bytes of scratch that a head of this size needs; more queries than a block of them need no more.
[[nodiscard]] constexpr std::size_t attention_scratch_size(index queries, index keys,
                                                           index head_dim) noexcept {
  const index block = std::min(queries, detail::attention_block);
  return workspace_alignment + workspace_bytes_of<std::int16_t>(keys * padded_row(head_dim)) +
         workspace_bytes_of<std::int16_t>(head_dim * padded_row(keys)) +
         workspace_bytes_of<std::int16_t>(block * padded_row(head_dim)) +
         workspace_bytes_of<std::int16_t>(block * padded_row(keys)) +
         workspace_bytes_of<std::int64_t>(block * keys) +
         2 * workspace_bytes_of<std::int64_t>(block * head_dim) + workspace_bytes_of<std::int16_t>(head_dim) +
         workspace_bytes_of<std::int32_t>(head_dim) + workspace_bytes_of<std::int64_t>(keys) +
         2 * workspace_bytes_of<float>(head_dim) + workspace_bytes_of<float>(probability_scratch(keys)) +
         workspace_bytes_of<std::uint8_t>(block * keys);
}

}  // namespace repquant
