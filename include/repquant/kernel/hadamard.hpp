// SPDX-License-Identifier: MIT
/// hadamard_row: a row's values spread over all of its places, each scaled first.
#pragma once

#include <repquant/core/each.hpp>
#include <repquant/core/shuffle.hpp>
#include <repquant/kernel/map.hpp>
#include <repquant/kernel/one_nan.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace repquant {

namespace detail {

/// signs[k][i] is 1 where bit k of i is 0, else -1.
template<std::size_t Width>
inline constexpr auto signs_of_places = [] {
  std::array<std::array<float, Width>, static_cast<std::size_t>(std::countr_zero(Width))> signs{};
  for (std::size_t k = 0; k < signs.size(); ++k) {
    for (std::size_t i = 0; i < Width; ++i) signs[k][i] = (i >> k) % 2 == 0 ? 1.0F : -1.0F;
  }
  return signs;
}();

/// Sums and differences of values `Stride`, `Stride` / 2 .. 1 places apart in a register: a - b is -b + a.
template<std::size_t Stride, Lane V>
inline V register_sums(const V& v) noexcept {
  if constexpr (Stride == 0) {
    return v;
  } else {
    constexpr auto& signs = signs_of_places<static_cast<std::size_t>(lane_width<V>)>;
    const V sign = lane::load<V>(signs[static_cast<std::size_t>(std::countr_zero(Stride))].data());
    return register_sums<Stride / 2>(
        lane::add_signed(lane::swap_neighbours<static_cast<int>(Stride)>(v), v, sign));
  }
}

/// Sums and differences of registers `Stride`, `Stride` / 2 .. 1 apart.
template<std::size_t Stride, Lane V, std::size_t Count>
inline void sums_of_registers(std::array<V, Count>& v) noexcept {
  if constexpr (Stride > 0) {
    const auto one = [&v](std::size_t low) REPQUANT_ALWAYS_INLINE {
      const V a = v[low];
      const V b = v[low + Stride];
      v[low] = lane::add(a, b);
      v[low + Stride] = lane::sub(a, b);
    };
    each<Count / 2>([&one](auto i) REPQUANT_ALWAYS_INLINE { one(i / Stride * 2 * Stride + i % Stride); });
    sums_of_registers<Stride / 2>(v);
  }
}

/// Sums and differences of values Count / 2 * stride .. 2 * stride, stride apart; the last ones of a block,
/// at the width of a register, go on within each register down to 1.
template<bool Last, std::size_t Count, Lane V>
inline void hadamard_pass(std::span<float> x, std::size_t stride) noexcept {
  constexpr std::size_t width = lane_width<V>;
  for (std::size_t first = 0; first < x.size(); first += Count * stride) {
    for (std::size_t i = first; i < first + stride; i += width) {
      float* const p = x.data() + i;
      std::array<V, Count> v;
      for (std::size_t r = 0; r < Count; ++r) v[r] = lane::load<V>(p + r * stride);
      sums_of_registers<Count / 2>(v);
      for (std::size_t r = 0; r < Count; ++r) {
        if constexpr (Last) v[r] = one_nan(register_sums<width / 2>(v[r]));
        lane::store(p + r * stride, v[r]);
      }
    }
  }
}

/// The last pass over parts of `registers` registers, a power of two of at most Count.
template<std::size_t Count, Lane V>
inline void hadamard_last_pass(std::span<float> x, std::size_t registers) noexcept {
  if constexpr (Count > 1) {
    if (registers < Count) return hadamard_last_pass<Count / 2, V>(x, registers);
  }
  hadamard_pass<true, Count, V>(x, lane_width<V>);
}

/// x = H x for a block of x.size() = 2^k values, H of entries 1 and -1. Up to three strides a pass; in the
/// last one of eight registers or, where there are 32 of 16 values, of sixteen.
template<class Arch>
inline void hadamard_block(std::span<float> x) noexcept {
  using V = lane_of<Arch>;
  constexpr std::size_t width = lane_width<V>;
  constexpr std::size_t last = width == 16 ? 16 : 8;
  if (x.size() < width) return hadamard_block<scalar_arch>(x);
  std::size_t registers = x.size() / width;  // of a part whose sums are not made yet
  while (registers > last) {
    const std::size_t parts = std::min<std::size_t>(registers / last, 8);
    registers /= parts;
    if (parts == 8) {
      hadamard_pass<false, 8, V>(x, registers * width);
    } else if (parts == 4) {
      hadamard_pass<false, 4, V>(x, registers * width);
    } else {
      hadamard_pass<false, 2, V>(x, registers * width);
    }
  }
  hadamard_last_pass<last, V>(x, registers);
}

}  // namespace detail

/// Values of the block that hadamard_row mixes at a time: the largest power of two that fits.
constexpr std::size_t hadamard_block_size(std::size_t n) noexcept { return std::bit_floor(n); }

/// True for half of the places, in no pattern that a Hadamard matrix has: signs that keep such a matrix from
/// taking apart what another one mixed.
constexpr bool hadamard_negates(std::size_t place) noexcept {
  return (static_cast<std::uint32_t>(place) * 2654435761U) >> 31 != 0;
}

/// Scales a row and mixes it with Hadamard matrices of entries 1 and -1:
///
///   y = x * factors;  y[0 .. B) = H_B y[0 .. B)
///   where B < n:  y[j] = -y[j] for j in n - B .. B where hadamard_negates(j);  y[n - B .. n) = H_B y[n - B
///   .. n)
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
  if (block == out.size()) return;
  for (std::size_t j = out.size() - block; j < block; ++j) {
    if (hadamard_negates(j)) out[j] = -out[j];
  }
  detail::hadamard_block<Arch>(out.last(block));
}

}  // namespace repquant
