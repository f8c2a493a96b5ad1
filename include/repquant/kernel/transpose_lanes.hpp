// SPDX-License-Identifier: MIT
/// transpose_lanes: as many registers as a register has places, rows and columns exchanged.
#pragma once

#include <repquant/core/each.hpp>
#include <repquant/core/lane.hpp>
#include <repquant/core/shuffle.hpp>

#include <array>
#include <cstddef>

namespace repquant {

/// Place j of register i becomes place i of register j.
///
/// Requires  as many registers as a register has places; Distance is where the steps begin: leave it at 1
/// Cost      a shuffle or two per register and doubling of the width
template<std::size_t Distance = 1, Lane V, std::size_t Width>
inline void transpose_lanes(std::array<V, Width>& v) noexcept {
  static_assert(Width == lane_width<V>);
  if constexpr (Distance < Width) {
    detail::each<Width / 2>([&v](auto i) REPQUANT_ALWAYS_INLINE {
      constexpr std::size_t low = i / Distance * 2 * Distance + i % Distance;
      lane::exchange<static_cast<int>(Distance)>(v[low], v[low + Distance]);
    });
    transpose_lanes<2 * Distance>(v);
  }
}

}  // namespace repquant
