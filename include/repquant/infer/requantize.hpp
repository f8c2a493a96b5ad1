// SPDX-License-Identifier: MIT
/// From exact integer sums to float: the one step of a linear layer that rounds.
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/kernel/map.hpp>

#include <concepts>
#include <cstdint>

namespace repquant {

/// What an exact sum may be held in: int32, int64, or, in a simulation, a double that is an integer.
template<class T>
concept ExactSum = std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t> || std::same_as<T, double>;

/// out[i] = the float nearest to sums[i], half to even: the same for every type that holds the same integer.
///
/// Shapes    sums, out [n]
/// Requires  out.size() <= sums.size(); the two do not overlap
template<class Arch = default_arch, ExactSum Sum>
inline void real_row(std::span<const Sum> sums, std::span<float> out) noexcept {
  const Sum* from = sums.data();
  float* to = out.data();
  const std::size_t n = out.size();
  std::size_t i = 0;
  using V = lane_of<Arch>;
  constexpr std::size_t width = lane_width<V>;
  if constexpr (width > 1 && std::same_as<Sum, std::int32_t>) {
    for (; n - i >= width; i += width) {
      lane::store(to + i, lane::real(lane::load<ints_of<V>>(from + i)));
    }
  }
  for (; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

/// y[o] = float(sums[o]) m[o] + c[o]: int to float half to even, one multiply, one add, each rounded once.
/// An empty c leaves the addition out.
///
/// Shapes    sums, multiplier, y [n]; offset [n] or [0]
/// Units     m = s_x s_w[o], c the bias, in the unit of y
/// Requires  sums and y do not overlap
/// Precision the same bits for every Arch and every type of Sum
/// Source    docs/decisions/0004
template<class Arch = default_arch, ExactSum Sum>
inline void requantize_row(std::span<const Sum> sums, std::span<const float> multiplier,
                           std::span<const float> offset, std::span<float> y) noexcept {
  using V = lane_of<Arch>;
  const auto scaled = [](const V& s, const V& m) { return lane::mul(s, m); };
  const auto moved = [](const V& s, const V& m, const V& c) { return lane::add(lane::mul(s, m), c); };
  const float* m = multiplier.data();
  const float* c = offset.empty() ? nullptr : offset.data();
  float* to = y.data();
  std::size_t i = 0;
  constexpr std::size_t width = lane_width<V>;
  if constexpr (std::same_as<Sum, std::int32_t>) {  // whole registers in one pass
    for (; y.size() - i >= width; i += width) {
      const V s = lane::real(lane::load<ints_of<V>>(sums.data() + i));
      const V scale = lane::load<V>(m + i);
      lane::store(to + i, c == nullptr ? scaled(s, scale) : moved(s, scale, lane::load<V>(c + i)));
    }
  }
  if (i == y.size()) return;
  const std::span<float> rest = y.subspan(i);
  real_row<Arch>(sums.subspan(i), rest);
  if (c == nullptr) {
    map_row<Arch>(rest, scaled, rest.data(), m + i);
  } else {
    map_row<Arch>(rest, moved, rest.data(), m + i, c + i);
  }
}

}  // namespace repquant
