// SPDX-License-Identifier: MIT
/// The heads of a row in other bases, while the model runs.
#pragma once

#include <repquant/kernel/map.hpp>
#include <repquant/kernel/one_nan.hpp>

#include <cstddef>
#include <span>

namespace repquant {

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
  for (std::size_t head = 0; head < out.size(); head += d) {
    const std::span<float> y = out.subspan(head, d);
    for (std::size_t i = 0; i < d; ++i) {
      const V factor(x[head + i]);
      const float* const row = matrices.data() + (head + i) * d;
      if (i == 0) {
        map_row<Arch>(
            y, [factor](const V& m) { return lane::mul(factor, m); }, row);
      } else {
        map_row<Arch>(
            y, [factor](const V& sum, const V& m) { return lane::add(sum, lane::mul(factor, m)); }, y.data(),
            row);
      }
    }
  }
  map_row<Arch>(
      out, [](const V& a) { return one_nan(a); }, out.data());
}

}  // namespace repquant
