// SPDX-License-Identifier: MIT
/// The heads of a row in other bases, while the model runs.
#pragma once

#include <repquant/kernel/one_nan.hpp>

#include <array>
#include <cstddef>
#include <span>

namespace repquant {

namespace detail {

/// `Registers` registers of results of one head of d values x, from a column of its matrix m on.
template<std::size_t Registers, Lane V>
inline void mix_columns(const float* x, const float* m, std::size_t d, float* out) noexcept {
  constexpr std::size_t width = lane_width<V>;
  std::array<V, Registers> sums;
  for (std::size_t r = 0; r < Registers; ++r) sums[r] = lane::mul(V(x[0]), lane::load<V>(m + r * width));
  for (std::size_t i = 1; i < d; ++i) {
    const V factor(x[i]);
    const float* const row = m + i * d;
    for (std::size_t r = 0; r < Registers; ++r)
      sums[r] = lane::add(sums[r], lane::mul(factor, lane::load<V>(row + r * width)));
  }
  for (std::size_t r = 0; r < Registers; ++r) lane::store(out + r * width, one_nan(sums[r]));
}

/// One head from column j on, `Registers` and then fewer registers of results at a time: sums that do not
/// wait for each other. A last register that the head does not fill begins further left, where it ends with
/// the head, and gives some results twice; one that is wider than the head writes beyond it.
template<std::size_t Registers, Lane V>
inline void mix_head(const float* x, const float* m, std::size_t d, std::size_t j, float* out) noexcept {
  constexpr std::size_t width = lane_width<V>;
  for (; j + Registers * width <= d; j += Registers * width) mix_columns<Registers, V>(x, m + j, d, out + j);
  if (j == d) return;
  if constexpr (Registers > 1) {
    mix_head<Registers / 2, V>(x, m, d, j, out);
  } else {
    const std::size_t last = d < width ? 0 : d - width;
    mix_columns<1, V>(x, m + last, d, out + last);
  }
}

}  // namespace detail

/// Multiplies each head of a row by its own matrix:
///
///   out[h d + j] = sum_i x[h d + i] m[h d + i][j],   i = 0, 1, ..
///
/// Each product and each sum is rounded once, in that order: the same bits on every architecture.
///
/// Shapes     x, out [heads d]; matrices [heads d x d]
/// Requires   d > 0 divides x.size(); `out` does not overlap `x`
/// Cost       d multiply-adds per value
/// Precision  |error| <= d 2^-24 sum_i |x m|; products that are subnormal lose more; a NaN gives 0x7FC00000
template<class Arch = default_arch>
inline void mix_heads_row(std::span<const float> x, std::span<const float> matrices, std::size_t d,
                          std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  // What a register holds beyond a narrow head, the next heads overwrite. Where a register does not reach
  // beyond the row, it reads no more than the matrices: (width - d)(d - 1) >= 0.
  for (std::size_t head = 0; head < out.size(); head += d) {
    const float* const m = matrices.data() + head * d;
    if (out.size() - head >= static_cast<std::size_t>(lane_width<V>)) {
      detail::mix_head<8, V>(x.data() + head, m, d, 0, out.data() + head);
    } else {
      detail::mix_head<8, float>(x.data() + head, m, d, 0, out.data() + head);
    }
  }
}

}  // namespace repquant
