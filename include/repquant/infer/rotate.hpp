// SPDX-License-Identifier: MIT
/// Rotary positions of the running model, one token at a time.
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/kernel/one_nan.hpp>

#include <array>
#include <cstddef>
#include <span>

namespace repquant {

/// Turns each pair of neighbours of each head by the angle of its place:
///
///   out[2i] = x[2i] c[i] - x[2i + 1] s[i],   out[2i + 1] = x[2i] s[i] + x[2i + 1] c[i]
///
/// c and s are the cosines and sines of the token's position, the same for every head. Each product and each
/// sum is rounded once: the same bits on every architecture.
///
/// Shapes     x, out [heads head_dim]; cosines, sines [head_dim / 2]; `out` may be `x`
/// Requires   cosines.size() == sines.size() > 0 and divides x.size() / 2
/// Cost       two multiplications and one addition per value
/// Precision  |error| <= 2^-23 (|x[2i]| + |x[2i + 1]|) where c and s are at most 1; a NaN gives 0x7FC00000
/// Source     arXiv 2104.09864; pairs of neighbours as there and in llama2.c
template<class Arch = default_arch>
inline void rotate_row(std::span<const float> x, std::span<const float> cosines, std::span<const float> sines,
                       std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  constexpr std::size_t width = lane_width<V>;
  const std::size_t pairs = out.size() / 2;
  std::size_t angle = 0;
  for (std::size_t first = 0; first < pairs; first += width) {
    const std::size_t count = pairs - first < width ? pairs - first : width;
    std::array<float, width> even{}, odd{}, c{}, s{};
    for (std::size_t j = 0; j < count; ++j) {
      even[j] = x[2 * (first + j)];
      odd[j] = x[2 * (first + j) + 1];
      c[j] = cosines[angle];
      s[j] = sines[angle];
      angle = angle + 1 == cosines.size() ? 0 : angle + 1;
    }
    const V x0 = lane::load<V>(even.data());
    const V x1 = lane::load<V>(odd.data());
    const V cosine = lane::load<V>(c.data());
    const V sine = lane::load<V>(s.data());
    lane::store(even.data(), one_nan(lane::sub(lane::mul(x0, cosine), lane::mul(x1, sine))));
    lane::store(odd.data(), one_nan(lane::add(lane::mul(x0, sine), lane::mul(x1, cosine))));
    for (std::size_t j = 0; j < count; ++j) {
      out[2 * (first + j)] = even[j];
      out[2 * (first + j) + 1] = odd[j];
    }
  }
}

}  // namespace repquant
