// SPDX-License-Identifier: MIT
/// Logarithmic codes times integers, exactly: the sums over even and over odd codes of powers of two times
/// values less their zero points. With D the largest shift in use and v the values,
///
///   log2        even = sum_j 2^(D - c_j) v_j                          value = even s 2^-D
///   log_sqrt2   even = sum over even c of 2^(D - c/2) v
///               odd  = sum over odd c of 2^(D - (c-1)/2) v            value = (even + odd sqrt 1/2) s 2^-D
///
/// Codes that mean zero add nothing. The powers go band by band, as bytes (power_rows.hpp), through the
/// products of gemm.hpp, and the sums of the bands are joined with their own powers.
///
/// Where an instruction set sums bytes in int16, how many products that holds is counted in the rows of
/// multipliers themselves: if the multipliers that meet in a sum add up to at most 2^15 / 2^(b-1), b the bits
/// of the values, no sum of theirs with values of -2^(b-1) .. 2^(b-1) - 1 leaves int16. A softmax adds up to
/// one: mostly a whole row fits, and nothing is widened before its end.
#pragma once

#include <repquant/kernel/gemm.hpp>
#include <repquant/kernel/power_rows.hpp>
#include <repquant/kernel/sum_rows.hpp>

namespace repquant {

/// The panels that log_product reads: of keys x columns values, which are codes of `bits` bits.
constexpr panel_layout value_layout(instruction_set set, index keys, index columns, int bits) noexcept {
  return layout_of_bits(set, keys, columns, 7, bits);
}

/// True where all band sums of k codes with values |v| <= max_v fit an int32.
constexpr bool log_bands_fit(index k, std::int64_t max_v) noexcept {
  return max_v == 0 || k <= 0x7FFFFFFF / 128 / max_v;
}
/// True where the joined sums do.
template<int Steps>
constexpr bool log_product_fits(const logarithmic<Steps>& c, index k, std::int64_t max_v) noexcept {
  return log_bands_fit(k, max_v) && (max_v == 0 || k <= (0x7FFFFFFFLL >> largest_shift(c)) / max_v);
}

/// Bytes of scratch that log_product needs for m rows; to be aligned to 8.
constexpr std::size_t log_product_scratch(index m, index keys) noexcept {
  const index width = (keys + power_block - 1) / power_block * power_block;
  // the sums of the rows, the rows, and what gemm asks for: at most int16 rows and two sums for each of them
  return static_cast<std::size_t>((m + 1) / 2 * 8 + m * width + detail::gemm_rows * (2 * width + 16));
}

namespace detail {

/// How many products an int16 sum holds, for rows of multipliers up to `largest` with these sums.
///
/// Values of b bits are packed as -2^(b-1) .. 2^(b-1) - 1. A lane sums at most the products of a run of
/// places, so its magnitude is at most 2^(b-1) times the sum of the run's multipliers.
inline std::int32_t products_of_rows(int bits, int largest, const std::uint8_t* rows,
                                     const std::int32_t* row_sums, index m, index blocks) noexcept {
  const std::int32_t most = 32768 >> (bits - 1);
  if (*std::max_element(row_sums, row_sums + m) <= most)
    return static_cast<std::int32_t>(blocks * power_block / 2);
  std::int32_t four = 0;  // the largest sums of four, two, one blocks
  std::int32_t two = 0;
  std::int32_t one = 0;
  for (index r = 0; r < m; ++r) {
    if (row_sums[r] <= most) continue;
    std::int32_t at[4] = {};
    for (index b = 0; b < blocks; ++b) {
      at[b % 4] = sum_of_block(rows + (r * blocks + b) * power_block);
      one = std::max(one, at[b % 4]);
      if (b % 2 == 1 || b == blocks - 1) two = std::max(two, at[b % 4] + (b % 2 == 1 ? at[b % 4 - 1] : 0));
      if (b % 4 == 3 || b == blocks - 1) {
        four = std::max(four, at[0] + at[1] + at[2] + at[3]);
        std::fill(at, at + 4, 0);
      }
    }
  }
  const index run = four <= most ? 4 : two <= most ? 2 : one <= most ? 1 : 0;
  if (run > 0) return static_cast<std::int32_t>(run * power_block / 2);
  return static_cast<std::int32_t>(
      products_in_range(largest, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, panel_storage::bytes));
}

}  // namespace detail

/// The exact even and odd sums of rows of codes with packed values.
///
/// Shapes    codes [m x v.summed_places()] with code_stride between rows, readable to the next multiple of
///           32; even and odd [m x n] with sum_stride between rows (odd unused for log2); visible(i) <=
///           v.summed_places(): codes behind it count as zero; scratch [log_product_scratch(m, k)]
/// Requires  v.layout = value_layout(Set, ...) of values of `bits` bits, v.slope[d] = layout.shift - zero
///           point of column d (or the wide ones, where not log_bands_fit); Sum int32: log_product_fits;
///           int64: k <= 2^17
/// Cost      Steps * power_bands(c) * m n k byte products
/// Precision exact
/// Source    even/odd form: RepQ-ViT (arXiv 2212.08254) eq. 11 without its rounding of the odd code
template<instruction_set Set, class Arch, int Steps, class Visible, class Sum>
inline void log_product(const logarithmic<Steps>& c, const std::uint8_t* codes, index m, index code_stride,
                        const Visible& visible, const gemm_weights& v, int bits, Sum* even, Sum* odd,
                        index sum_stride, std::span<std::byte> scratch) noexcept {
  static_assert(std::same_as<Sum, std::int32_t> || std::same_as<Sum, std::int64_t>);
  const index k = v.summed_places();
  const index blocks = (k + power_block - 1) / power_block;
  const index width = blocks * power_block;
  REPQUANT_ASSERT(scratch.size() >= log_product_scratch(m, k));
  auto* const row_sums = reinterpret_cast<std::int32_t*>(scratch.data());
  auto* const rows = reinterpret_cast<std::uint8_t*>(row_sums + (m + 1) / 2 * 2);
  const std::span<std::byte> rest = scratch.subspan(static_cast<std::size_t>((m + 1) / 2 * 8 + m * width));
  for (int parity = 0; parity < Steps; ++parity) {
    Sum* const sums = parity == 0 ? even : odd;
    int before = -1;  // the last shift of the bands so far
    for (int band = 0; band < power_bands(c); ++band) {
      const power_table table = make_power_table(c, parity, band);
      std::int32_t any = 0;
      for (index i = 0; i < m; ++i) {
        row_sums[i] = power_row<Arch>(table, codes + i * code_stride, std::min<index>(visible(i), k), blocks,
                                      rows + i * width);
        any |= row_sums[i];
      }
      const Sum times = before < 0 ? Sum{0} : Sum{1} << (table.last_shift - before);
      before = table.last_shift;
      if (any == 0) {  // nothing in this band
        for (index i = 0; i < m; ++i) {
          for (index j = 0; j < v.layout.n; ++j)
            sums[i * sum_stride + j] = times == 0 ? 0 : sums[i * sum_stride + j] * times;
        }
        continue;
      }
      gemm_weights w = v;
      if (w.layout.storage == panel_storage::bytes && !sums_bytes_exactly(Set)) {
        w.layout.products = detail::products_of_rows(bits, table.largest, rows, row_sums, m, blocks);
      }
      const auto run = [&](auto&& epilogue) {
        gemm<Set>(w, rows, m, width, 0, w.layout.panels(), rest, epilogue, row_sums);
      };
      if constexpr (std::same_as<Sum, std::int32_t>) {
        if (times == 0) {
          run(sum_rows{sums, sum_stride});
          continue;
        }
      }
      run([&](index i, index column, const auto* band_sums, index count) {
        Sum* const to = sums + i * sum_stride + column;
        for (index j = 0; j < count; ++j) {
          to[j] = (times == 0 ? Sum{0} : to[j] * times) + static_cast<Sum>(band_sums[j]);
        }
      });
    }
  }
}

}  // namespace repquant
