// SPDX-License-Identifier: MIT
/// Exact integer products of int16 operands: codes minus their zero point. Sums are int32 where the ranges
/// prove that they fit, otherwise int64; nothing saturates, so the order of summation does not matter and
/// every architecture gives the same integers.
///
/// Length: the int32 and the int64 products share their blocks.
#pragma once

#include <repquant/kernel/center.hpp>
#include <repquant/kernel/pair_lane.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace repquant {

/// True where every sum of k products |a| |b| <= max_a max_b, and every part of it, fits an int32.
constexpr bool product_fits(index k, std::int64_t max_a, std::int64_t max_b) noexcept {
  const std::int64_t largest = max_a * max_b;
  return largest == 0 || k <= 0x7FFFFFFF / largest;
}

/// How many products may be summed in int32 before they are added to an int64: at least 1.
///
/// Requires  0 <= max_a, max_b <= 2^15
constexpr index product_chunk(std::int64_t max_a, std::int64_t max_b) noexcept {
  const std::int64_t largest = std::max<std::int64_t>(max_a * max_b, 1);
  return static_cast<index>(0x7FFFFFFF / largest);
}

/// `n` values rounded up to a whole number of registers of any architecture: the distance between rows that
/// products like best, with zeros behind each row of one operand.
constexpr index padded_row(index n) noexcept { return (n + 31) / 32 * 32; }

namespace detail {

/// Rows of a and of b that one tile multiplies: 2 x 4 sums and 6 operands fit 16 registers.
inline constexpr index tile_rows = 2;
inline constexpr index tile_cols = 4;

/// acc (+)= the product of Rows rows of a and four rows of b over k values. Rows of b beyond the matrix
/// are repeats of the last, whose sums `cols` drops.
template<class Arch, index Rows, class Sum, std::size_t... R>
inline void product_tile(const std::int16_t* a, index a_stride, const std::array<const std::int16_t*, 4>& b,
                         index k, index cols, Sum* acc, index acc_stride, bool first,
                         std::index_sequence<R...>) noexcept {
  using P = pair_lane<Arch>;
  using S = typename P::sums;
  // compile-time indices only: g++ keeps arrays that a loop indexes in memory
  S s0[Rows] = {(static_cast<void>(R), P::zero())...};
  S s1[Rows] = {(static_cast<void>(R), P::zero())...};
  S s2[Rows] = {(static_cast<void>(R), P::zero())...};
  S s3[Rows] = {(static_cast<void>(R), P::zero())...};
  const auto step = [&](const auto& load, index at) {
    const auto b0 = load(b[0] + at);
    const auto b1 = load(b[1] + at);
    const auto b2 = load(b[2] + at);
    const auto b3 = load(b[3] + at);
    const auto row = [&](auto r) {
      const auto x = load(a + static_cast<index>(r) * a_stride + at);
      s0[r] = P::madd(s0[r], x, b0);
      s1[r] = P::madd(s1[r], x, b1);
      s2[r] = P::madd(s2[r], x, b2);
      s3[r] = P::madd(s3[r], x, b3);
    };
    (row(std::integral_constant<std::size_t, R>{}), ...);
  };
  index i = 0;
  for (; i + P::width <= k; i += P::width) {
    step([](const std::int16_t* p) { return P::load(p); }, i);
  }
  if (i < k) {
    step([n = k - i](const std::int16_t* p) { return P::load_part(p, n); }, i);
  }
  const auto finish = [&](auto r) {
    alignas(16) std::int32_t totals[4];
    P::totals(s0[r], s1[r], s2[r], s3[r], totals);
    Sum* to = acc + static_cast<index>(r) * acc_stride;
    for (index j = 0; j < cols; ++j) to[j] = first ? static_cast<Sum>(totals[j]) : to[j] + totals[j];
  };
  (finish(std::integral_constant<std::size_t, R>{}), ...);
}

/// The product in blocks: a block of a and four rows of b in the first-level cache, a block of b in the
/// second.
template<class Arch, class Sum>
inline void product_blocks(const std::int16_t* a, index m, index a_stride, const std::int16_t* b, index n,
                           index b_stride, index k, Sum* acc, index acc_stride, bool first) noexcept {
  const index row_bytes = std::max<index>(1, k) * static_cast<index>(sizeof *a);
  const index block_m = std::max<index>(8, 16384 / row_bytes / tile_rows * tile_rows);
  const index block_n = std::max<index>(16, 131072 / row_bytes / tile_cols * tile_cols);
  for (index n0 = 0; n0 < n; n0 += block_n) {
    const index n1 = std::min(n, n0 + block_n);
    for (index m0 = 0; m0 < m; m0 += block_m) {
      const index m1 = std::min(m, m0 + block_m);
      for (index j = n0; j < n1; j += tile_cols) {
        const index cols = std::min(tile_cols, n1 - j);
        std::array<const std::int16_t*, 4> rows{};
        for (index r = 0; r < tile_cols; ++r) {
          rows[static_cast<std::size_t>(r)] = b + (j + std::min(r, cols - 1)) * b_stride;
        }
        index i = m0;
        for (; i + tile_rows <= m1; i += tile_rows) {
          product_tile<Arch, tile_rows>(a + i * a_stride, a_stride, rows, k, cols, acc + i * acc_stride + j,
                                        acc_stride, first, std::make_index_sequence<tile_rows>{});
        }
        for (; i < m1; ++i) {
          product_tile<Arch, 1>(a + i * a_stride, a_stride, rows, k, cols, acc + i * acc_stride + j,
                                acc_stride, first, std::make_index_sequence<1>{});
        }
      }
    }
  }
}

}  // namespace detail

/// acc[i][j] = sum_d a[i][d] b[j][d], in int32.
///
/// Shapes    a [m x k], b [n x k], acc [m x n], each with its distance between rows
/// Requires  product_fits(k, largest |a|, largest |b|); acc overlaps neither operand
/// Cost      m n k multiply-adds; fastest where k is a multiple of 32
template<class Arch = default_arch>
inline void product(const std::int16_t* a, index m, index a_stride, const std::int16_t* b, index n,
                    index b_stride, index k, std::int32_t* acc, index acc_stride) noexcept {
  detail::product_blocks<Arch>(a, m, a_stride, b, n, b_stride, k, acc, acc_stride, true);
}

/// acc[i][j] = sum_d a[i][d] b[j][d], in int64: for ranges that product_fits refuses. Sums over as many
/// places as fit an int32 are made in int32, and added up in int64. With `add`, onto what acc holds.
///
/// Shapes    as product
/// Requires  |a| <= max_a <= 2^15, |b| <= max_b <= 2^15
/// Cost      that of product where product_chunk(max_a, max_b) is large (at least 64), else a plain loop
template<class Arch = default_arch>
inline void product_wide(const std::int16_t* a, index m, index a_stride, const std::int16_t* b, index n,
                         index b_stride, index k, std::int64_t max_a, std::int64_t max_b, std::int64_t* acc,
                         index acc_stride, bool add = false) noexcept {
  const index chunk = product_chunk(max_a, max_b) / 32 * 32;
  if (chunk >= 64) {
    detail::product_blocks<Arch>(a, m, a_stride, b, n, b_stride, std::min(k, chunk), acc, acc_stride, !add);
    for (index d = chunk; d < k; d += chunk) {
      detail::product_blocks<Arch>(a + d, m, a_stride, b + d, n, b_stride, std::min(chunk, k - d), acc,
                                   acc_stride, false);
    }
    return;
  }
  for (index i = 0; i < m; ++i) {
    for (index j = 0; j < n; ++j) {
      std::int64_t sum = add ? acc[i * acc_stride + j] : 0;
      for (index d = 0; d < k; ++d) sum += std::int64_t{a[i * a_stride + d]} * b[j * b_stride + d];
      acc[i * acc_stride + j] = sum;
    }
  }
}

}  // namespace repquant
