// SPDX-License-Identifier: MIT
/// clip_position: where the ends of a channel's range stand, as two numbers that a search may move freely.
#pragma once

#include <repquant/calibrate/clipping_problem.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace repquant {

/// Positions (a, b) of the ends of a range in octaves of their distance from the channel's median:
///
///   h(a) = median + (h_0 - median) 2^-a,   l(b) = median - (median - l_0) 2^-b,   0 where the search starts
///
/// so both ends shrink towards the median and never towards zero: a one-signed range clips, it does not
/// widen.
class clip_position {
 public:
  /// How far an end moves: half an octave out, because a grid may like to shift, and twelve in.
  static constexpr double outermost = -0.5;
  static constexpr double innermost = 12;

  clip_position() = default;
  /// `median` inside `start`, or the end of it that is nearest.
  clip_position(const range& start, float median)
      : middle_(static_cast<double>(std::clamp(median, start.lo, start.hi))),
        up_(static_cast<double>(start.hi) - middle_),
        down_(middle_ - static_cast<double>(start.lo)) {}

  [[nodiscard]] range at(double a, double b) const noexcept {
    constexpr double limit = std::numeric_limits<float>::max();
    return {static_cast<float>(std::fmax(middle_ - down_ * std::exp2(-b), -limit)),
            static_cast<float>(std::fmin(middle_ + up_ * std::exp2(-a), limit))};
  }
  /// dh/da and dl/db at these positions.
  [[nodiscard]] double slope_hi(double a) const noexcept { return -ln2 * up_ * std::exp2(-a); }
  [[nodiscard]] double slope_lo(double b) const noexcept { return ln2 * down_ * std::exp2(-b); }

 private:
  static constexpr double ln2 = 0.69314718055994531;
  double middle_ = 0;
  double up_ = 0;
  double down_ = 0;
};

/// The positions of all channels of a problem, about the medians of their tokens (the upper one of an even
/// number).
///
/// Requires  check_ranges passed
inline std::vector<clip_position> clip_positions(const clipping_problem& p, std::span<const range> start) {
  std::vector<clip_position> positions;
  for (index d = 0; d < p.channels(); ++d) {
    std::vector<float> x(p.tokens_of(d).begin(), p.tokens_of(d).end());
    const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
    std::nth_element(x.begin(), middle, x.end());
    positions.emplace_back(start[static_cast<std::size_t>(d)], *middle);
  }
  return positions;
}

}  // namespace repquant
