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
///   S[i][j] = sum_d (q[i][d] - q_zero)(k[j][d] - k_zero)              exact
///   P[i]    = encode(softmax(float(S[i]) score_multiplier))           over the visible keys
///   out[i]  = sum_j P[i][j] (v[j] - v_zero), exact, then value_row    (probability.hpp)
///
/// Units  score_multiplier = s_q s_k times the softmax scale; value_scale = s_v; strides in values
struct attention_head {
  index queries = 0;
  index keys = 0;
  index head_dim = 0;
  std::int32_t q_zero = 0;
  std::int32_t k_zero = 0;
  std::int32_t v_zero = 0;
  int code_bits = 8;  ///< of q, k and v; a smaller number proves smaller sums
  float score_multiplier = 1;
  float value_scale = 1;
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

/// Which arithmetic the ranges of a head prove.
struct attention_forms {
  bool centered = false;    ///< all operands fit int16 after their zero points
  bool score_fits = false;  ///< score sums fit int32
  bool value_fits = false;  ///< value sums fit int32
  std::int64_t max_q = 0, max_k = 0, max_v = 0, max_p = 0;
};
inline attention_forms forms_of(const attention_head& h) noexcept {
  const int levels = 1 << h.code_bits;
  attention_forms f;
  f.max_q = center_largest(h.q_zero, levels);
  f.max_k = center_largest(h.k_zero, levels);
  f.max_v = center_largest(h.v_zero, levels);
  f.max_p = largest_probability(h.probability);
  const bool log = h.probability.kind != probability_kind::as_uniform;
  f.centered = center_fits(h.q_zero) && center_fits(h.k_zero) && center_fits(h.v_zero) &&
               (log || center_fits(h.probability.zero_point));
  f.score_fits = f.centered && product_fits(h.head_dim, f.max_q, f.max_k);
  f.value_fits = f.centered && product_fits(h.keys, f.max_p, f.max_v) && (!log || f.max_p <= 1 << 14);
  return f;
}

}  // namespace detail

/// Nothing, or why this head cannot run: a size below 1, bits out of range, a depth or a scale that the codec
/// does not have, or sums that even int64 could not be proved to hold (too_large).
[[nodiscard]] inline failure check(const attention_head& h, std::string_view place) noexcept {
  if (h.queries < 1 || h.keys < 1 || h.head_dim < 1) {
    return {errc::empty, place, std::min({h.queries, h.keys, h.head_dim}), 1};
  }
  if (h.code_bits < 2 || h.code_bits > 8) return {errc::bad_bits, place, h.code_bits, 8};
  if (h.probability.bits < 2 || h.probability.bits > 8) return {errc::bad_bits, place, h.probability.bits, 8};
  if (h.probability.depth < 0 || h.probability.depth > 30) {
    return {errc::bad_option, place, h.probability.depth, 30};
  }
  const detail::attention_forms f = detail::forms_of(h);
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (f.max_q * f.max_k > most / h.head_dim)
    return {errc::too_large, place, h.head_dim, most / (f.max_q * f.max_k)};
  if (f.max_p * f.max_v > most / h.keys) return {errc::too_large, place, h.keys, most / (f.max_p * f.max_v)};
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
         2 * workspace_bytes_of<std::int64_t>(block * head_dim) + workspace_bytes_of<float>(keys) +
         workspace_bytes_of<std::uint8_t>(block * keys);
}

}  // namespace repquant
