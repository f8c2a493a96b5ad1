// SPDX-License-Identifier: MIT
/// Reductions over a row in one fixed order: 16 virtual lanes, whatever the register holds.
///
/// Lane l combines x[l], x[l + 16], x[l + 32], ... in that order; places beyond the end combine the neutral
/// element. Then lanes l and l + 8 are combined, l and l + 4, l and l + 2, l and l + 1. A register of 4, 8 or
/// 16 floats, and plain scalar code, walk the same tree, so every architecture gives the same bits. A NaN
/// result has one bit pattern, 0x7FC00000.
#pragma once

#include <repquant/core/shuffle.hpp>
#include <repquant/kernel/one_nan.hpp>

#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>

namespace repquant::reduce {

/// How many virtual lanes a reduction has.
inline constexpr int lanes = 16;

/// Combines the 16 virtual lanes, held in registers, in the order of this file.
template<Lane V, std::size_t N, class Combine>
inline float over_lanes(std::array<V, N> held, Combine combine) noexcept {
  constexpr std::size_t width = lane_width<V>;
  static_assert(N * width == lanes);
  for (std::size_t half = N / 2; half > 0; half /= 2) {
    for (std::size_t r = 0; r < half; ++r) held[r] = combine(held[r], held[r + half]);
  }
  // place 0 of the register combines what the tree says; what stands in the others does not matter
  const auto neighbours = [&combine]<int Distance>(V& v) {
    if constexpr (width > Distance) v = combine(v, lane::swap_neighbours<Distance>(v));
  };
  neighbours.template operator()<8>(held[0]);
  neighbours.template operator()<4>(held[0]);
  neighbours.template operator()<2>(held[0]);
  neighbours.template operator()<1>(held[0]);
  return one_nan(lane::first(held[0]));
}

/// Combines term(x[i]) over the row in the order of this file.
///
/// `term` maps a lane to a lane, `combine(lane, term)` is the operation; both are called with float and with
/// registers and must do the same in each place. `neutral` stands in the lanes at the start, and for every
/// place beyond the end.
///
/// Cost  one pass
template<class Arch, class Term, class Combine>
inline float over_row(std::span<const float> x, float neutral, Term term, Combine combine) noexcept {
  using V = lane_of<Arch>;
  constexpr std::size_t width = lane_width<V>;
  static_assert(lanes % width == 0);
  std::array<V, lanes / width> held;
  for (V& h : held) h = V(neutral);

  const float* const from = x.data();
  const std::size_t n = x.size();
  std::size_t i = 0;
  for (; n - i >= lanes; i += lanes) {
    for (std::size_t r = 0; r < held.size(); ++r) {
      held[r] = combine(held[r], term(lane::load<V>(from + i + r * width)));
    }
  }
  std::array<float, lanes> places{};
  if (const std::size_t rest = n - i; rest > 0) {
    for (std::size_t j = 0; j < rest; ++j) places[j] = from[i + j];
    for (std::size_t r = 0; r < held.size(); ++r) {
      lane::store(places.data() + r * width, term(lane::load<V>(places.data() + r * width)));
    }
    for (std::size_t j = rest; j < places.size(); ++j) places[j] = neutral;
    for (std::size_t r = 0; r < held.size(); ++r) {
      held[r] = combine(held[r], lane::load<V>(places.data() + r * width));
    }
  }
  return over_lanes(held, combine);
}

/// The sum of the row; 0 where it is empty.
///
/// Precision  each addition rounded once; |error| <= (ceil(n / 16) + 3) 2^-24 sum |x| to first order
template<class Arch = default_arch>
[[nodiscard]] inline float sum(std::span<const float> x) noexcept {
  return over_row<Arch>(
      x, 0.0F, [](const auto& v) { return v; },
      [](const auto& held, const auto& v) { return lane::add(held, v); });
}

/// The sum of (x[i] - centre)^2; 0 where the row is empty.
template<class Arch = default_arch>
[[nodiscard]] inline float squares(std::span<const float> x, float centre) noexcept {
  return over_row<Arch>(
      x, 0.0F,
      [centre](const auto& v) {
        using V = std::remove_cvref_t<decltype(v)>;
        const V d = lane::sub(v, V(centre));
        return lane::mul(d, d);
      },
      [](const auto& held, const auto& v) { return lane::add(held, v); });
}

/// The largest value that is not NaN; -infinity where there is none.
template<class Arch = default_arch>
[[nodiscard]] inline float largest(std::span<const float> x) noexcept {
  // max(a, b) returns b where a is NaN, and the lanes start at a number: no NaN is ever held
  return over_row<Arch>(
      x, -std::numeric_limits<float>::infinity(), [](const auto& v) { return v; },
      [](const auto& held, const auto& v) { return lane::max(v, held); });
}

}  // namespace repquant::reduce
