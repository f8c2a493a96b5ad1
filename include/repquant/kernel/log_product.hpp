// SPDX-License-Identifier: MIT
/// Logarithmic codes times integers, exactly: the sums over even and over odd codes of powers of two times
/// centred values. With D the largest shift in use and v the centred values,
///
///   log2        even = sum_j 2^(D - c_j) v_j                          value = even s 2^-D
///   log_sqrt2   even = sum over even c of 2^(D - c/2) v
///               odd  = sum over odd c of 2^(D - (c-1)/2) v            value = (even + odd sqrt 1/2) s 2^-D
///
/// Codes that mean zero add nothing. The powers go through the int16 products of product.hpp: up to shift 14
/// as they are, above in bands of 15 bits whose sums are joined in int64.
#pragma once

#include <repquant/codec/logarithmic.hpp>
#include <repquant/kernel/product.hpp>

namespace repquant {

/// The largest shift that codec c produces, D above.
template<int Steps>
constexpr int largest_shift(const logarithmic<Steps>& c) noexcept {
  return logarithmic<Steps>::shift(c.smallest());
}

/// How many bands of 15 bits its powers need: 1 up to shift 14, at most 3.
template<int Steps>
constexpr int power_bands(const logarithmic<Steps>& c) noexcept {
  return largest_shift(c) / 15 + 1;
}

/// True where sums of k values, |v| <= max_v, fit an int32.
template<int Steps>
constexpr bool log_product_fits(const logarithmic<Steps>& c, index k, std::int64_t max_v) noexcept {
  return power_bands(c) == 1 && product_fits(k, std::int64_t{1} << largest_shift(c), max_v);
}

/// The multiplier of every code for one parity (code % Steps) and one band; 0 for all other codes.
struct power_table {
  std::array<std::int16_t, 256> of{};
};
template<int Steps>
constexpr power_table make_power_table(const logarithmic<Steps>& c, int parity, int band) noexcept {
  power_table t;
  for (int q = parity; q <= c.smallest(); q += Steps) {
    const int exponent = largest_shift(c) - logarithmic<Steps>::shift(q);
    if (exponent / 15 == band)
      t.of[static_cast<std::size_t>(q)] = static_cast<std::int16_t>(1 << exponent % 15);
  }
  return t;
}

/// The exact even and odd sums of rows of codes with the rows of v (transposed: a row of v per result).
///
/// Shapes    codes [m x k], v [n x k] centred, even and odd [m x n] (odd unused for log2), each with its
///           distance between rows; scratch [m * max(k, v_stride)]. Fastest where v_stride is padded_row(k)
/// Requires  every row of v can be read up to v_stride, whatever stands behind k; |v| <= max_v <= 2^15. Sum
/// int32: log_product_fits(c, k, max_v). Sum int64: k <= 2^17 Cost      Steps * power_bands(c) * m n k
/// multiply-adds Precision exact Source    even/odd form: RepQ-ViT (arXiv 2212.08254) eq. 11 without its
/// rounding of the odd code
template<class Arch = default_arch, int Steps, class Sum>
inline void log_product(const logarithmic<Steps>& c, const std::uint8_t* codes, index m, index code_stride,
                        const std::int16_t* v, index n, index v_stride, index k, std::int64_t max_v,
                        Sum* even, Sum* odd, index sum_stride, std::span<std::int16_t> scratch) noexcept {
  static_assert(std::same_as<Sum, std::int32_t> || std::same_as<Sum, std::int64_t>);
  // rows of powers end in zeros, so that no product has a part of a register at its end
  const index width = std::max(k, std::min(v_stride, padded_row(k)));
  REPQUANT_ASSERT(static_cast<index>(scratch.size()) >= m * width);
  std::int16_t* powers = scratch.data();
  const int bands = power_bands(c);
  const std::int64_t max_power = std::int64_t{1} << std::min(largest_shift(c), 14);
  for (int parity = 0; parity < Steps; ++parity) {
    Sum* sums = parity == 0 ? even : odd;
    for (int band = bands - 1; band >= 0; --band) {
      const power_table table = make_power_table(c, parity, band);
      for (index i = 0; i < m; ++i) {
        std::int16_t* const row = powers + i * width;
        for (index j = 0; j < k; ++j) row[j] = table.of[codes[i * code_stride + j]];
        std::fill(row + k, row + width, std::int16_t{0});
      }
      if constexpr (std::same_as<Sum, std::int32_t>) {
        REPQUANT_ASSERT(log_product_fits(c, k, max_v));
        product<Arch>(powers, m, width, v, n, v_stride, width, sums, sum_stride);
      } else {
        const bool join = band != bands - 1;
        if (join) {
          for (index i = 0; i < m; ++i) {
            for (index j = 0; j < n; ++j) sums[i * sum_stride + j] *= 1 << 15;
          }
        }
        product_wide<Arch>(powers, m, width, v, n, v_stride, width, max_power, max_v, sums, sum_stride, join);
      }
    }
  }
}

}  // namespace repquant
