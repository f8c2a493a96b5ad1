// SPDX-License-Identifier: MIT
/// hadamard_row: a row's values spread over all of its places, each scaled first.
#pragma once

#include <repquant/kernel/map.hpp>
#include <repquant/kernel/one_nan.hpp>

#include <bit>
#include <cstddef>
#include <span>

namespace repquant {

namespace detail {

/// Sums and differences of values `Stride` apart within each register of a block.
template<int Stride, Lane V>
inline V neighbour_sums(const V& v, const V& signs) noexcept {
  return lane::add(lane::swap_neighbours<Stride>(v), lane::mul(v, signs));
}

/// The last butterflies of a register, from `Stride` down to 1. signs[k] is 1 where bit k of the place is 0,
/// else -1: a - b is -b + a.
template<int Stride, Lane V, std::size_t Count>
inline V register_sums(const V& v, const std::array<V, Count>& signs) noexcept {
  constexpr auto bit = static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(Stride)));
  const V sums = neighbour_sums<Stride>(v, signs[bit]);
  if constexpr (Stride == 1) {
    return sums;
  } else {
    return register_sums<Stride / 2>(sums, signs);
  }
}

/// x = H x for a block of x.size() = 2^k values, H of entries 1 and -1.
template<class Arch>
inline void hadamard_block(std::span<float> x) noexcept {
  using V = lane_of<Arch>;
  constexpr std::size_t width = lane_width<V>;
  const std::size_t n = x.size();
  const std::size_t least = n < width ? 1 : width;
  for (std::size_t stride = n / 2; stride >= least && stride > 0; stride /= 2) {
    for (std::size_t first = 0; first < n; first += 2 * stride) {
      float* const low = x.data() + first;
      float* const high = low + stride;
      if (stride >= width) {
        for (std::size_t i = 0; i < stride; i += width) {
          const V a = lane::load<V>(low + i);
          const V b = lane::load<V>(high + i);
          lane::store(low + i, lane::add(a, b));
          lane::store(high + i, lane::sub(a, b));
        }
      } else {
        for (std::size_t i = 0; i < stride; ++i) {
          const float a = low[i];
          const float b = high[i];
          low[i] = a + b;
          high[i] = a - b;
        }
      }
    }
  }
  if constexpr (width > 1) {
    if (n < width) return;
    std::array<V, static_cast<std::size_t>(std::countr_zero(width))> signs;
    for (std::size_t bit = 0; bit < signs.size(); ++bit) {
      std::array<float, width> s{};
      for (std::size_t i = 0; i < width; ++i) s[i] = (i >> bit) % 2 == 0 ? 1.0F : -1.0F;
      signs[bit] = lane::load<V>(s.data());
    }
    for (std::size_t i = 0; i < n; i += width) {
      lane::store(x.data() + i,
                  register_sums<static_cast<int>(width / 2)>(lane::load<V>(x.data() + i), signs));
    }
  }
}

}  // namespace detail

/// Values of the block that hadamard_row mixes at a time: the largest power of two that fits.
constexpr std::size_t hadamard_block_size(std::size_t n) noexcept { return std::bit_floor(n); }

/// Scales a row and mixes it with Hadamard matrices of entries 1 and -1:
///
///   y = x * factors;  y[0 .. B) = H_B y[0 .. B);  where B < n: y[n - B .. n) = H_B y[n - B .. n)
///
/// with B = 2^k the largest power of two in n, and H_2B = [H_B H_B; H_B -H_B]. Strides go from B / 2 down to
/// 1; each product, sum and difference is rounded once: the same bits on every architecture.
///
/// Shapes     x, factors, out [n]; `out` may be `x`
/// Requires   n > 0
/// Cost       n products and n log2 B sums, twice those where B < n
/// Precision  |error| <= 2^-24 (log2 B + 1) S in the first block, S its sum |x * factors|; in the last block
///            2^-24 (2 log2 B + 1) times the sum of S for each place that both have and of |x * factors| for
///            the others: errors of the first add up there. Products that are subnormal lose more; a NaN
///            gives 0x7FC00000
/// Source     the fast Walsh-Hadamard transform; before low-bit codes: QuaRot (arXiv 2404.00456)
template<class Arch = default_arch>
inline void hadamard_row(std::span<const float> x, std::span<const float> factors,
                         std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  const std::size_t block = hadamard_block_size(out.size());
  map_row<Arch>(
      out, [](const V& a, const V& b) { return lane::mul(a, b); }, x.data(), factors.data());
  detail::hadamard_block<Arch>(out.first(block));
  if (block < out.size()) detail::hadamard_block<Arch>(out.last(block));
  map_row<Arch>(
      out, [](const V& a) { return one_nan(a); }, out.data());
}

}  // namespace repquant
