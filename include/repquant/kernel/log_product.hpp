// SPDX-License-Identifier: MIT
/// Logarithmic codes times integers, exactly: the sums over even and over odd codes of powers of two times
/// values less their zero points. With D the largest shift in use and v the values,
///
///   log2        even = sum_j 2^(D - c_j) v_j                          value = even s 2^-D
///   log_sqrt2   even = sum over even c of 2^(D - c/2) v
///               odd  = sum over odd c of 2^(D - (c-1)/2) v            value = (even + odd sqrt 1/2) s 2^-D
///
/// Codes that mean zero add nothing. The powers go band by band (power_rows.hpp), and the sums of the bands
/// are joined with their own powers (log_bands.hpp). Three forms, by what an instruction set multiplies:
///
///   bytes, summed in int32 at once   rows of bytes through the products of gemm.hpp
///   bytes, summed in int16           the same, or lists of the bytes that are not zero (power_list.hpp), row
///   by
///                                    row. A list costs as much as a row has places, whatever the columns
///                                    are, and saves products: it is taken where the columns are more than a
///                                    panel and either int16 holds fewer than eight products of any byte and
///                                    value, or at most a fifth of the bytes are not zero
///   int16                            one band where bytes need two: all of log2 up to shift 14
///
/// If the bytes of a row add up to at most 2^15 / 2^(b-1), b the bits of the values, no sum of theirs with
/// values of -2^(b-1) .. 2^(b-1) - 1 leaves int16. A softmax adds up to one: mostly the whole row fits, and
/// nothing is widened before its end.
#pragma once

#include <repquant/kernel/exact_range.hpp>
#include <repquant/kernel/log_bands.hpp>

namespace repquant {

/// The largest multiplier of a band of bytes.
inline constexpr std::int64_t largest_power = 128;

/// True where all band sums of k codes with values |v| <= max_v fit an int32.
constexpr bool log_bands_fit(index k, std::int64_t max_v) noexcept {
  return product_fits(k, largest_power, max_v);
}
/// True where the joined sums do.
template<int Steps>
constexpr bool log_product_fits(const logarithmic<Steps>& c, index k, std::int64_t max_v) noexcept {
  return log_bands_fit(k, max_v) && (max_v == 0 || k <= (0x7FFFFFFFLL >> largest_shift(c)) / max_v);
}

/// True where the rows of an instruction set are one band of int16: where it does not sum bytes in int32 at
/// once, and int32 holds the band of this many keys.
template<int Steps>
constexpr bool log_rows_are_words(instruction_set set, const logarithmic<Steps>& c, index keys,
                                  int bits) noexcept {
  return powers_fit_words(c) && !sums_bytes_exactly(set) &&
         log_product_fits(c, keys, (std::int64_t{1} << bits) - 1);
}

/// True where weights with int32 corrections hold the sums of a band; otherwise they take the wide ones.
template<int Steps>
constexpr bool log_corrections_fit(instruction_set set, const logarithmic<Steps>& c, index keys, int bits,
                                   std::int64_t max_v) noexcept {
  return log_rows_are_words(set, c, keys, bits) ? log_product_fits(c, keys, max_v)
                                                : log_bands_fit(keys, max_v);
}

/// The panels that log_product reads: of keys x columns values, which are codes of `bits` bits.
template<int Steps>
constexpr panel_layout value_layout(instruction_set set, const logarithmic<Steps>& c, index keys,
                                    index columns, int bits) noexcept {
  panel_layout l = layout_of_bits(set, keys, columns, 7, bits);
  if (multiplies_bytes(set)) {
    l.storage = log_rows_are_words(set, c, keys, bits) ? panel_storage::pairs : panel_storage::bytes;
  }
  return l;
}

/// Bytes of scratch that log_product needs for m rows; to be aligned to 8.
constexpr std::size_t log_product_scratch(index m, index keys) noexcept {
  const index width = (keys + power_block - 1) / power_block * power_block;
  // the sums of the rows; int16 rows, or lists of fours; and what gemm asks for: at most int16 rows and two
  // sums for each of them
  return static_cast<std::size_t>((m + 1) / 2 * 8 + m * 2 * width + detail::gemm_rows * (2 * width + 16));
}

namespace detail {

/// Places of which the products of powers up to 2^7 with int8 values add up within an int32: 2^7 times -2^7
/// times 2^17 is its least number, and 2^7 - 1 is the largest value.
inline constexpr index most_listed_places = index{1} << 17;

/// True where more than a fifth of the bytes of all bands are not zero, by the n codes of one row: two of
/// three fours of them, so that lists would save less than they cost.
template<int Steps>
inline bool fills_rows(const logarithmic<Steps>& c, const std::uint8_t* codes, index n) noexcept {
  index used = 0;
  for (index i = 0; i < n; ++i) used += codes[i] <= c.smallest() ? 1 : 0;
  return 5 * used >= n * Steps * power_bands(c);
}

}  // namespace detail

/// The exact even and odd sums of rows of codes with packed values.
///
/// Shapes    codes [m x v.summed_places()] with code_stride between rows, readable to the next multiple of
///           32; even and odd [m x n] with sum_stride between rows (odd unused for log2); visible(i) <=
///           v.summed_places(): codes behind it count as zero; scratch [log_product_scratch(m, k)]; weights
///           null, or [m], to which the sums go that a column of ones would have
/// Requires  v.layout = value_layout(Set, c, ...) of values of `bits` bits, v.slope[d] = layout.shift - zero
///           point of column d (or the wide ones, with wide_offset 0, where not log_corrections_fit); Sum
///           int32: log_product_fits; int64: k < 2^24, so that the powers of a row add up within an int32
/// Cost      rows of bytes: Steps * power_bands(c) * m n k products; lists: those of fours of places with a
///           code of the band; int16: m n k products
/// Precision exact
/// Source    even/odd form: RepQ-ViT (arXiv 2212.08254) eq. 11 without its rounding of the odd code
template<instruction_set Set, class Arch, int Steps, class Visible, class Sum>
inline void log_product(const logarithmic<Steps>& c, const std::uint8_t* codes, index m, index code_stride,
                        const Visible& visible, const gemm_weights& v, int bits, Sum* even, Sum* odd,
                        index sum_stride, std::span<std::byte> scratch,
                        weight_sums* weights = nullptr) noexcept {
  static_assert(std::same_as<Sum, std::int32_t> || std::same_as<Sum, std::int64_t>);
  const index k = v.summed_places();
  REPQUANT_ASSERT(scratch.size() >= log_product_scratch(m, k));
  REPQUANT_ASSERT(v.offset == nullptr && v.common_slope == 0);
  detail::log_rows<Sum> rows{codes, m, code_stride, k, even, sum_stride, weights};
  if (weights != nullptr) std::fill(weights, weights + m, weight_sums{});
  if constexpr (Steps == 1 && !sums_bytes_exactly(Set)) {
    if (log_rows_are_words(Set, c, v.layout.k, bits)) {
      detail::multiply_band<Set, Arch, std::int16_t>(make_power_table(c, 0, 0, 15), rows, visible, v, 0,
                                                     Sum{0}, scratch);
      return;
    }
  }
  const std::int32_t fitting = 32768 >> (bits - 1);
  [[maybe_unused]] bool listed = false;
  if constexpr (detail::ListsRows<Set>) {
    // a list adds up bytes times bytes in int32, whatever the corrections are
    listed = k <= detail::most_listed_places && v.layout.panels() > 1 &&
             (v.layout.products < 8 ||
              !detail::fills_rows(c, codes + (m - 1) * code_stride, std::min<index>(visible(m - 1), k)));
  }
  for (int parity = 0; parity < Steps; ++parity) {
    rows.sums = parity == 0 ? even : odd;
    rows.parity = parity == 0 ? &weight_sums::even : &weight_sums::odd;
    int before = -1;  // the last shift of the bands so far
    for (int band = 0; band < power_bands(c); ++band) {
      const power_table table = make_power_table(c, parity, band);
      const Sum times = before < 0 ? Sum{0} : Sum{1} << (table.last_shift - before);
      before = table.last_shift;
      if constexpr (detail::ListsRows<Set>) {
        if (listed) {
          detail::multiply_listed_band<Set, Arch>(table, rows, visible, v, fitting, times, scratch);
          continue;
        }
      }
      detail::multiply_band<Set, Arch, std::uint8_t>(table, rows, visible, v, fitting, times, scratch);
    }
  }
}

}  // namespace repquant
