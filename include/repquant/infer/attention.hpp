// SPDX-License-Identifier: MIT
/// One attention head on codes: exact score sums, softmax in float, probability codes, exact value sums.
/// Grouped queries and several heads are the caller's loop: operands may be slices of one matrix.
#pragma once

#include <repquant/infer/attention_sums.hpp>

namespace repquant {

/// Runs one head.
///
/// Shapes    q [queries x head_dim], k and v [keys x head_dim], out [queries x head_dim]
/// Requires  check(h) says nothing; scratch of attention_scratch_size bytes, any alignment; out overlaps no
///           operand. `sink(i, codes, keys)` is called once per query with its probability codes
/// Cost      2 queries keys head_dim multiply-adds (3 for log_sqrt2), queries keys exponentials
/// Precision integer sums exact; the same bits on every Arch. A query that sees no key gives 0 (times the
///           scales); a NaN score gives code.masked() for every key
template<class Arch = default_arch, class Sink = no_probability_sink>
inline void attend(const attention_head& h, const attention_operands& x, std::span<std::byte> scratch,
                   Sink&& sink = Sink{}) noexcept {
  REPQUANT_ASSERT(scratch.size() >= attention_scratch_size(h.queries, h.keys, h.head_dim));
  const detail::attention_forms f = detail::forms_of(h);
  const index dim = h.head_dim;
  const index block = std::min(h.queries, detail::attention_block);
  const index dim_stride = padded_row(dim);
  const index key_stride = padded_row(h.keys);
  const auto width = static_cast<std::size_t>(dim);
  const auto row_of_keys = static_cast<std::size_t>(h.keys);

  workspace_parts parts(scratch);
  const auto k16 = parts.take<std::int16_t>(h.keys * dim_stride);
  const auto v16 = parts.take<std::int16_t>(dim * key_stride);
  const auto q16 = parts.take<std::int16_t>(block * dim_stride);
  const auto powers = parts.take<std::int16_t>(block * key_stride);
  const auto scores = parts.take<std::int64_t>(block * h.keys);
  const auto even = parts.take<std::int64_t>(block * dim);
  const auto odd = parts.take<std::int64_t>(block * dim);
  const auto q_zero = parts.take<std::int16_t>(dim);
  const auto v_zero = parts.take<std::int32_t>(dim);
  const auto parts_of_keys = parts.take<std::int64_t>(h.keys);
  const auto even_scale = parts.take<float>(dim);
  const auto odd_scale = parts.take<float>(dim);
  const auto probabilities = parts.take<float>(probability_scratch(h.keys));
  const auto codes = parts.take<std::uint8_t>(block * h.keys);

  const auto center_row = [dim, width, dim_stride](const std::uint8_t* row, auto zero, std::int16_t* to) {
    center<Arch>({row, width}, zero, {to, width});
    std::fill(to + dim, to + dim_stride, std::int16_t{0});
  };
  const auto centre = [&h](std::int32_t zero, bool near) {
    return near ? detail::nearest_code(h, zero) : zero;
  };
  for (std::size_t d = 0; d < width; ++d) {
    q_zero[d] = static_cast<std::int16_t>(centre(h.q_zero[d], f.score_near));
  }
  for (index j = 0; j < h.keys; ++j) {
    center_row(x.k + j * x.k_stride, centre(h.k_zero, f.score_near), k16.data() + j * dim_stride);
  }
  if (f.score_near) detail::score_parts_of_keys(h, x, parts_of_keys);
  if (f.value_by_product) {
    for (std::size_t d = 0; d < width; ++d) v_zero[d] = centre(h.v_zero[d], f.value_near);
    center_transposed(x.v, h.keys, dim, x.v_stride, v_zero, v16.data(), key_stride);
    for (index d = 0; d < dim; ++d) {
      std::fill(v16.data() + d * key_stride + h.keys, v16.data() + (d + 1) * key_stride, std::int16_t{0});
    }
  }
  const value_scales scales = scales_of<Arch>(h.probability, h.value_scale, even_scale, odd_scale);
  const bool two_sums = h.probability.kind == probability_kind::as_log_sqrt2;

  for (index i0 = 0; i0 < h.queries; i0 += block) {
    const index rows = std::min(block, h.queries - i0);
    const index seen = h.visible(i0 + rows - 1);  // the most of this block: later queries see no fewer
    // scores and codes of each query; Sum is what holds the score sums
    const auto rows_of_codes = [&]<class Sum>(const Sum* sums) {
      for (index r = 0; r < rows; ++r) {
        const std::span<std::uint8_t> row =
            codes.subspan(static_cast<std::size_t>(r) * row_of_keys, row_of_keys);
        probability_row<Arch>(h.probability, std::span<const Sum>(sums + r * h.keys, row_of_keys),
                              h.score_multiplier, h.visible(i0 + r), probabilities, row);
        sink(i0 + r, static_cast<const std::uint8_t*>(row.data()), h.keys);
      }
    };
    for (index r = 0; r < rows; ++r) {
      center_row(x.q + (i0 + r) * x.q_stride, std::span<const std::int16_t>(q_zero),
                 q16.data() + r * dim_stride);
    }
    if (f.score_fits) {
      auto* sums = reinterpret_cast<std::int32_t*>(scores.data());
      product<Arch>(q16.data(), rows, dim_stride, k16.data(), seen, dim_stride, dim_stride, sums, h.keys);
      rows_of_codes(static_cast<const std::int32_t*>(sums));
    } else {
      product_wide<Arch>(q16.data(), rows, dim_stride, k16.data(), seen, dim_stride, dim_stride, f.max_q,
                         f.max_k, scores.data(), h.keys);
      for (index r = 0; f.score_near && r < rows; ++r) {
        detail::complete_scores(h, q16.data() + r * dim_stride,
                                parts_of_keys.first(static_cast<std::size_t>(seen)),
                                scores.data() + r * h.keys);
      }
      rows_of_codes(static_cast<const std::int64_t*>(scores.data()));
    }
    // values; a row that sees fewer keys than its block has codes of no weight there, unless its codec has no
    // zero: then the rows go one by one
    const bool masked_is_zero = h.probability.kind == probability_kind::as_uniform
                                    ? h.probability.masked() == h.probability.zero_point
                                    : h.probability.zero == zero_rule::last_code;
    const bool together = f.value_by_product && (masked_is_zero || h.visible(i0) == seen);
    const index step = together ? rows : 1;
    for (index r0 = 0; r0 < rows; r0 += step) {
      const index keys = together ? seen : h.visible(i0 + r0);
      const std::uint8_t* from = codes.data() + r0 * h.keys;
      const auto finish = [&]<class Sum>(const Sum* e, const Sum* o) {
        for (index r = 0; r < step; ++r) {
          value_row<Arch>(std::span<const Sum>(e + r * dim, width),
                          std::span<const Sum>(o + r * dim, two_sums ? width : 0), scales,
                          std::span<float>(x.out + (i0 + r0 + r) * x.out_stride, width));
        }
      };
      if (f.value_fits) {
        auto* e = reinterpret_cast<std::int32_t*>(even.data());
        auto* o = reinterpret_cast<std::int32_t*>(odd.data());
        detail::value_sums<Arch>(h, f, from, step, v16.data(), key_stride, keys, e, o, powers);
        finish(static_cast<const std::int32_t*>(e), static_cast<const std::int32_t*>(o));
      } else {
        if (f.value_by_product) {
          detail::value_sums<Arch>(h, f, from, step, v16.data(), key_stride, keys, even.data(), odd.data(),
                                   powers);
          for (index r = 0; f.value_near && r < step; ++r) {
            detail::complete_values(h, from + r * h.keys, keys, even.data() + r * dim, odd.data() + r * dim);
          }
        } else {
          detail::plain_values(h, x, from, keys, even.data(), odd.data());
        }
        finish(static_cast<const std::int64_t*>(even.data()), static_cast<const std::int64_t*>(odd.data()));
      }
    }
  }
}

}  // namespace repquant
