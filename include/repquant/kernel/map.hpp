// SPDX-License-Identifier: MIT
/// One formula applied to every value of a row.
#pragma once

#include <repquant/core/lane.hpp>

#include <array>
#include <cstddef>
#include <span>

namespace repquant {

/// out[i] = formula(in[i]...), register by register; the places of the last register that the row does not
/// fill are computed and dropped, so every value takes the same path. `out` may be one of the inputs.
///
/// `formula` is called with lanes of `Arch`, of floats or of int32, and must treat each place alike.
///
/// Requires  every input has at least out.size() values, and either is `out` or does not overlap it
template<class Arch, class T, class Formula, class... In>
requires(std::same_as<T, float> ||
         std::same_as<T, std::int32_t>) inline void map_row(std::span<T> out, Formula formula,
                                                            const In*... in) noexcept {
  using V = std::conditional_t<std::same_as<T, float>, lane_of<Arch>, ints_of<lane_of<Arch>>>;
  constexpr std::size_t width = lane_width<lane_of<Arch>>;
  std::size_t i = 0;
  for (; out.size() - i >= width; i += width) lane::store(out.data() + i, formula(lane::load<V>(in + i)...));
  if (i == out.size()) return;
  const std::size_t rest = out.size() - i;
  const auto padded = [i, rest](const T* p) {
    std::array<T, width> places{};
    for (std::size_t j = 0; j < rest; ++j) places[j] = p[i + j];
    return lane::load<V>(places.data());
  };
  std::array<T, width> places{};
  lane::store(places.data(), formula(padded(in)...));
  for (std::size_t j = 0; j < rest; ++j) out[i + j] = places[j];
}

}  // namespace repquant
