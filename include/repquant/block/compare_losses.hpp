// SPDX-License-Identifier: MIT
/// How the losses of samples are compared: what they say together, and whether a difference is more than
/// luck.
#pragma once

#include <repquant/core/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace repquant::detail {

/// Losses on the held-back samples.
struct refine_judgement {
  double start = 0;
  double best = 0;
  double now = 0;
  double training = 0;  ///< mean over the steps before the last judgement, of the samples trained on
};

/// A loss as a distance: its square root. Divergences of single samples differ by factors of a thousand, and
/// a mean of those is what the one or two largest are.
///
/// Requires  loss >= 0 but for rounding
inline double distance(double loss) { return std::sqrt(std::max(loss, 0.0)); }

/// What losses of samples say together to a judge: the square of their mean distance.
///
/// Requires  at least one
inline double judged(std::span<const double> losses) {
  double sum = 0;
  for (const double l : losses) sum += distance(l);
  const double mean = sum / static_cast<double>(losses.size());
  return mean * mean;
}

/// Whether the losses `after` are lower than `before` on the same samples, by their mean distance, and that
/// by at least `errors` standard errors of the mean difference:
///
///   d[i] = distance(before[i]) - distance(after[i]),   m > 0,   m^2 n (n - 1) >= errors^2 sum (d[i] - m)^2
///
/// with m the mean of the n differences. A single sample has no standard error: it satisfies errors = 0
/// alone.
///
/// Requires  as many of the one as of the other, at least one
inline bool clearly_lower(std::span<const double> after, std::span<const double> before, double errors) {
  REPQUANT_ASSERT(after.size() == before.size() && !before.empty());
  const auto n = static_cast<double>(before.size());
  double mean = 0;
  for (std::size_t i = 0; i < before.size(); ++i) mean += (distance(before[i]) - distance(after[i])) / n;
  double squares = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double d = distance(before[i]) - distance(after[i]) - mean;
    squares += d * d;
  }
  if (n < 2) return mean > 0 && errors == 0;
  return mean > 0 && mean * mean * n * (n - 1) >= errors * errors * squares;
}

}  // namespace repquant::detail
