// SPDX-License-Identifier: MIT
/// common_ratios: the ratios of channel scales on which several calls of one layer agree.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace repquant {

/// What coding the input of one call costs, channel by channel and scale by scale.
struct channel_costs {
  /// Scales tried are 2^(scale + first + k * step), k = 0 .. count - 1.
  static constexpr double first = -1;
  static constexpr double step = 0.25;
  static constexpr index count = 17;

  column<double> scale;  ///< log2 of the scale that suits each channel by itself
  matrix<double> error;  ///< [channels x count]: error of the layer's output that coding the channel makes

  /// The error of channel d at log2 scale t: linear between the scales tried, proportional to the square of
  /// the scale beyond them (below them, of its inverse).
  [[nodiscard]] double at(index d, double t) const noexcept {
    const double position = (t - scale(d) - first) / step;
    if (position <= 0) return error(d, 0) * std::exp2(-2 * position * step);
    const auto k = static_cast<index>(position);
    if (k >= count - 1) return error(d, count - 1) * std::exp2(2 * (position - (count - 1.0)) * step);
    const double part = position - static_cast<double>(k);
    return (1 - part) * error(d, k) + part * error(d, k + 1);
  }
};

/// Ratios r and a factor f for each call that minimise the error of all calls together,
///
///   sum over calls c and channels d of  error_cd(f_c r_d),
///
/// by turns, from the geometric means on: each factor, then each ratio, to the best of 37 eighths of an
/// octave. The sum never rises.
///
/// Shapes    result [channels], geometric mean 1
/// Requires  at least one call, all of the same channels; rounds >= 0, 0 for the geometric means themselves
/// Cost      74 evaluations for each round, channel and call
/// Source    ours
inline column<double> common_ratios(std::span<const channel_costs> calls, int rounds) {
  const auto count = static_cast<double>(calls.size());
  const index channels = calls.front().scale.size();
  column<double> ratio = column<double>::Zero(channels);
  for (const channel_costs& c : calls) ratio += (c.scale.array() - c.scale.mean()).matrix() / count;
  std::vector<double> factor;
  for (const channel_costs& c : calls) factor.push_back((c.scale - ratio).mean());
  const auto best = [](double from, const auto& cost) {
    double least = cost(from);
    double at = from;
    for (int k = -12; k <= 24; ++k) {
      const double t = from + k / 8.0;
      if (const double e = cost(t); e < least) {
        least = e;
        at = t;
      }
    }
    return at;
  };
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t c = 0; c < calls.size(); ++c) {
      factor[c] = best(factor[c], [&](double t) {
        double sum = 0;
        for (index d = 0; d < channels; ++d) sum += calls[c].at(d, t + ratio(d));
        return sum;
      });
    }
    for (index d = 0; d < channels; ++d) {
      ratio(d) = best(ratio(d), [&](double t) {
        double sum = 0;
        for (std::size_t c = 0; c < calls.size(); ++c) sum += calls[c].at(d, factor[c] + t);
        return sum;
      });
    }
  }
  return (std::log(2.0) * (ratio.array() - ratio.mean())).exp().matrix();
}

}  // namespace repquant
