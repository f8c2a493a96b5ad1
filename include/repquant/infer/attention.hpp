// SPDX-License-Identifier: MIT
/// One attention head on codes: exact score sums, softmax straight to probability codes, exact value sums.
/// Grouped queries and several heads are the caller's loop: operands may be slices of one matrix, and heads
/// that share keys and values share their packed form.
///
/// Length: the two products of a block of queries, whose operands have the same preparation.
#pragma once

#include <repquant/infer/attention_sums.hpp>
#include <repquant/infer/packed_keys_values.hpp>
#include <repquant/infer/prepared_head.hpp>

namespace repquant {

namespace detail {

/// True where the zero points of the queries could be codes of a query.
inline bool zeros_are_codes(const attention_head& h) noexcept {
  return std::all_of(h.q_zero.begin(), h.q_zero.end(),
                     [&](std::int32_t z) { return z >= 0 && z < 1 << h.code_bits; });
}

/// out[j] = -sum_d q_zero[d] k'[j][d], k' the packed keys: what makes scores of q those of q - q_zero.
template<instruction_set Set>
inline void key_offsets(const attention_head& h, const attention_operands& x,
                        const packed_keys_values& packed, std::span<std::uint8_t> row,
                        std::span<std::byte> scratch, std::int64_t* wide, std::int32_t* out) noexcept {
  if (out != nullptr && zeros_are_codes(h)) {  // the zero points are one more query
    std::copy(h.q_zero.begin(), h.q_zero.end(), row.begin());
    gemm<Set>(gemm_weights{packed.keys, packed.key_panels}, row.data(), 1, h.head_dim, 0,
              packed.keys.panels(), scratch, [out](index, index column, const auto* sums, index count) {
                for (index j = 0; j < count; ++j) out[column + j] = static_cast<std::int32_t>(-sums[j]);
              });
    return;
  }
  for (index j = 0; j < h.keys; ++j) {
    std::int64_t sum = 0;
    for (index d = 0; d < h.head_dim; ++d) {
      sum -=
          std::int64_t{h.q_zero[static_cast<std::size_t>(d)]} * (x.k[j * x.k_stride + d] - packed.keys.shift);
    }
    if (out != nullptr) out[j] = static_cast<std::int32_t>(sum);
    if (wide != nullptr) wide[j] = sum;
  }
}

/// True where probabilities have a zero point.
inline bool has_uniform_zero(const attention_head& h) noexcept {
  return h.probability.kind == probability_kind::as_uniform && h.probability.zero_point != 0;
}

/// slope and offset of packed values whose first columns are of another head: the zero points of the columns,
/// and that of uniform codes.
template<class T>
inline void value_corrections(const attention_head& h, const attention_operands& x, const panel_layout& l,
                              index first_column, T* slope, T* offset) noexcept {
  const bool uniform_zero = has_uniform_zero(h);
  for (index column = 0; column < l.padded_n(); ++column) {
    const index d = column - first_column;
    const bool own = d >= 0 && d < h.head_dim;
    const std::int64_t zero = own ? h.v_zero[static_cast<std::size_t>(d)] : 0;
    std::uint64_t sum = 0;
    for (index j = 0; uniform_zero && own && j < h.keys; ++j) {
      sum += static_cast<std::uint64_t>(x.v[j * x.v_stride + d] - zero);
    }
    slope[column] = static_cast<T>(own ? l.shift - zero : 0);
    offset[column] =
        static_cast<T>(0 - static_cast<std::uint64_t>(std::int64_t{h.probability.zero_point}) * sum);
  }
}

}  // namespace detail

/// True where attend needs keys and values as codes, too, beside panels and offsets of keys: for scores
/// beyond int32, and for uniform probabilities with a zero point.
[[nodiscard]] inline bool reads_codes(const attention_head& h, const detail::attention_forms& f) noexcept {
  return f.score_wide || f.plain || detail::has_uniform_zero(h);
}

/// Bytes of scratch that a head of this size needs, on any architecture; more queries than a block of them
/// need no more. It includes packed_keys_values_size.
[[nodiscard]] constexpr std::size_t attention_scratch_size(index queries, index keys,
                                                           index head_dim) noexcept {
  const index block = std::min(queries, detail::most_attention_block);
  const index dim = padded_scores(head_dim) + detail::widest_panel;
  const index row = padded_scores(keys);
  return workspace_alignment + packed_keys_values_size(keys, head_dim) + prepared_head_bytes(head_dim) +
         workspace_bytes_of<std::int64_t>(block * row) +  // scores
         workspace_bytes_of<float>(std::max(block * row, probability_scratch(keys))) +
         workspace_bytes_of<std::uint8_t>(block * row) +      // codes
         2 * workspace_bytes_of<std::int64_t>(block * dim) +  // value sums
         workspace_bytes_of<std::int64_t>(row) +              // parts of keys
         2 * workspace_bytes_of<std::int64_t>(dim) +          // parts of values
         workspace_bytes_of<std::uint8_t>(dim) +              // zero points of queries
         workspace_bytes_of<std::byte>(static_cast<index>(log_product_scratch(block, keys))) +
         workspace_bytes_of<std::int16_t>(detail::gemm_rows * (8 + std::max(dim, row)));
}

/// Runs one head that was prepared, and whose keys and values are packed.
///
/// Shapes    q [queries x head_dim], k and v [keys x head_dim], out [queries x head_dim]
/// Requires  check(h) says nothing; `head` made by prepare_head<Arch> of it; `packed` made by
///           pack_keys_values<Arch> of the same keys, values and sizes, or kept for Arch
///           (kept_keys_values.hpp): then k and v are read only if reads_codes says so; scratch of
///           attention_scratch_size bytes, any alignment; out overlaps no operand. `sink(i, codes, keys)` is
///           called once per query with its probability codes
/// Cost      2 queries keys head_dim multiply-adds (3 for log_sqrt2), queries keys exponentials
/// Precision integer sums exact; the same bits on every Arch. A query that sees no key gives 0 (times the
///           scales); a score multiplier that is negative or not finite gives code.masked() for every key
template<class Arch = default_arch, class Sink = no_probability_sink>
inline void attend(const attention_head& h, const prepared_head& head, const attention_operands& x,
                   const packed_keys_values& packed, std::span<std::byte> scratch,
                   Sink&& sink = Sink{}) noexcept {
  constexpr instruction_set set = instruction_set_of<Arch>;
  REPQUANT_ASSERT(head.of->set == set);
  detail::attention_forms f = head.of->forms;
  f.value_wide = h.keys > f.narrow_keys;
  const index dim = h.head_dim;
  const index block = std::min(h.queries, detail::attention_block<set>);
  const index stride = padded_scores(h.keys);
  const index own = packed.first_column;
  const index sum_stride = padded_scores(own + dim);
  const auto width = static_cast<std::size_t>(dim);

  workspace_parts parts(scratch);
  const auto scores = parts.take<std::int64_t>(block * stride);
  const auto exponentials = parts.take<float>(std::max(block * stride, probability_scratch(h.keys)));
  const auto codes = parts.take<std::uint8_t>(block * stride);
  const auto even = parts.take<std::int64_t>(block * sum_stride);
  const auto odd = parts.take<std::int64_t>(block * sum_stride);
  const auto key_parts = parts.take<std::int64_t>(stride);
  const auto slope = parts.take<std::int64_t>(sum_stride);
  const auto offset = parts.take<std::int64_t>(sum_stride);
  const auto zero_row = parts.take<std::uint8_t>(sum_stride);
  const index value_places = std::max(h.keys, packed.values.k);  // more where the panels have room for more
  const auto powers = parts.take<std::byte>(static_cast<index>(log_product_scratch(block, value_places)));
  const auto words = parts.take<std::byte>(
      static_cast<index>(std::max(gemm_scratch_bytes(packed.keys), gemm_scratch_bytes(packed.values))));

  gemm_weights keys{packed.keys, packed.key_panels};
  if (f.score_wide) {
    detail::key_offsets<set>(h, x, packed, zero_row, words, key_parts.data(), nullptr);
  } else if (packed.key_offsets != nullptr) {
    keys.offset = packed.key_offsets;
  } else {
    auto* const narrow = reinterpret_cast<std::int32_t*>(key_parts.data());
    std::fill(narrow + h.keys, narrow + stride, 0);  // the kernels read whole panels
    detail::key_offsets<set>(h, x, packed, zero_row, words, nullptr, narrow);
    keys.offset = narrow;
  }
  gemm_weights values{packed.values, packed.value_panels};
  if (!detail::value_corrections_fit(set, h, f)) {
    detail::value_corrections(h, x, packed.values, own, slope.data(), offset.data());
    values.wide_slope = slope.data();
    values.wide_offset = offset.data();
  } else if (detail::has_uniform_zero(h)) {
    auto* const narrow_slope = reinterpret_cast<std::int32_t*>(slope.data());
    auto* const narrow_offset = reinterpret_cast<std::int32_t*>(offset.data());
    detail::value_corrections(h, x, packed.values, own, narrow_slope, narrow_offset);
    values.slope = narrow_slope;
    values.offset = narrow_offset;
  } else {
    values.slope = head.slope - own;
  }
  const bool two_sums = head.of->has_odd;
  const std::uint8_t masked = head.of->masked;

  for (index i0 = 0; i0 < h.queries; i0 += block) {
    const index rows = std::min(block, h.queries - i0);
    const index seen = h.visible(i0 + rows - 1);  // the most of this block: later queries see no fewer
    const auto visible = [&h, i0](index r) { return h.visible(i0 + r); };
    const index panels = (seen + packed.keys.width() - 1) / packed.keys.width();
    const std::uint8_t* q = x.q + i0 * x.q_stride;
    if (!f.score_wide) {
      auto* const sums = reinterpret_cast<std::int32_t*>(scores.data());
      keys.layout.n = keys.layout.padded_n();  // rows have room for whole panels, which are stored at once
      gemm<set>(keys, q, rows, x.q_stride, 0, panels, words, sum_rows{sums, stride});
      h.probability.visit([&](const auto& codec, const auto& p) {
        probability_codes<Arch>(codec, p, sums, rows, h.keys, visible, h.score_multiplier, masked,
                                exponentials.data(), codes.data(), h.probability.relative);
      });
    } else {
      gemm<set>(keys, q, rows, x.q_stride, 0, panels, words,
                [&](index r, index column, const auto* from, index count) {
                  std::int64_t* const to = scores.data() + r * stride + column;
                  for (index j = 0; j < count; ++j)
                    to[j] = from[j] + key_parts[static_cast<std::size_t>(column + j)];
                });
      const auto n = static_cast<std::size_t>(h.keys);
      for (index r = 0; r < rows; ++r) {
        probability_row<Arch>(h.probability, std::span<const std::int64_t>(scores.data() + r * stride, n),
                              h.score_multiplier, visible(r), exponentials,
                              std::span(codes.data() + r * stride, n));
      }
    }
    for (index r = 0; r < rows; ++r) {
      sink(i0 + r, static_cast<const std::uint8_t*>(codes.data() + r * stride), h.keys);
    }

    std::array<weight_sums, detail::most_attention_block> weights{};  // of relative codes
    const auto value_sums = [&]<class Sum>(Sum* e, Sum* o) {
      if (f.plain || seen == 0) {
        for (index r = 0; r < rows; ++r) {
          detail::plain_values(h, x, codes.data() + r * stride, visible(r), e + r * sum_stride + own,
                               o + r * sum_stride + own);  // of absolute codes: their factor asks no weights
        }
        return;
      }
      h.probability.visit([&]<class C>(const C& codec, const auto& p) {
        if constexpr (std::same_as<C, uniform>) {
          values.places = p.zero_point == 0 ? seen : h.keys;  // masked codes are the zero point
          constexpr index most_summed = 0x7FFFFFFF / 255;     // codes that an int32 adds up
          std::array<std::int32_t, detail::most_attention_block> code_sums{};
          for (index r = 0; r < rows; ++r) {
            const std::int64_t sum = detail::row_sum(codes.data() + r * stride, values.places);
            code_sums[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(sum);
            weights[static_cast<std::size_t>(r)] = {sum, 0};  // relative codes have no zero point
          }
          const auto run = [&](auto&& epilogue) {
            gemm<set>(values, codes.data(), rows, stride, 0, values.layout.panels(), words, epilogue,
                      values.places <= most_summed ? code_sums.data() : nullptr);
          };
          if constexpr (std::same_as<Sum, std::int32_t>) {
            values.layout.n = values.layout.padded_n();  // as above
            run(sum_rows{e, sum_stride});
          } else {
            run([e, sum_stride](index r, index column, const auto* from, index count) {
              std::copy(from, from + count, e + r * sum_stride + column);
            });
          }
        } else {
          values.places = seen;
          log_product<set, Arch>(codec, codes.data(), rows, stride, visible, values, h.code_bits, e, o,
                                 sum_stride, powers, h.probability.relative ? weights.data() : nullptr);
        }
      });
    };
    const auto finish = [&]<class Sum>(Sum* e, Sum* o) {
      value_sums(e, o);
      for (index r = 0; r < rows; ++r) {
        value_row<Arch>(std::span<const Sum>(e + r * sum_stride + own, width),
                        std::span<const Sum>(o + r * sum_stride + own, two_sums ? width : 0), head.scales,
                        std::span<float>(x.out + (i0 + r) * x.out_stride, width),
                        head.of->factor(weights[static_cast<std::size_t>(r)]));
      }
    };
    if (f.value_wide || f.plain) {
      finish(even.data(), odd.data());
    } else {
      finish(reinterpret_cast<std::int32_t*>(even.data()), reinterpret_cast<std::int32_t*>(odd.data()));
    }
  }
}

/// Runs one head whose keys and values are packed: prepares it, and goes on as above.
template<class Arch = default_arch, class Sink = no_probability_sink>
inline void attend(const attention_head& h, const attention_operands& x, const packed_keys_values& packed,
                   std::span<std::byte> scratch, Sink&& sink = Sink{}) noexcept {
  workspace_parts parts(scratch);
  const auto memory = parts.take<std::byte>(static_cast<index>(prepared_head_bytes(h.head_dim)));
  const prepared_head head = prepare_head<Arch>(h, memory);
  attend<Arch>(h, head, x, packed, parts.rest(), std::forward<Sink>(sink));
}

/// Runs one head: packs its keys and values, and goes on as above.
///
/// Requires  check(h) says nothing; scratch of attention_scratch_size bytes, any alignment; out overlaps no
/// operand
template<class Arch = default_arch, class Sink = no_probability_sink>
inline void attend(const attention_head& h, const attention_operands& x, std::span<std::byte> scratch,
                   Sink&& sink = Sink{}) noexcept {
  REPQUANT_ASSERT(scratch.size() >= attention_scratch_size(h.queries, h.keys, h.head_dim));
  const std::size_t front = packed_keys_values_size(h.keys, h.head_dim);
  const packed_keys_values packed = pack_keys_values<Arch>(h, x, scratch.first(front));
  attend<Arch>(h, x, packed, scratch.subspan(front), std::forward<Sink>(sink));
}

}  // namespace repquant
