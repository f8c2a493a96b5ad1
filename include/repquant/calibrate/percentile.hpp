// SPDX-License-Identifier: MIT
/// percentile: a range that leaves out a fixed share of each tail.
#pragma once

#include <repquant/calibrate/concept.hpp>
#include <repquant/calibrate/distribution.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/core/check_fraction.hpp>

namespace repquant {

/// The range between two quantiles of a distribution: 1 - keep and keep.
inline range quantile_range(const distribution& d, double keep) noexcept {
  return {static_cast<float>(d.quantile(1 - keep)), static_cast<float>(d.quantile(keep))};
}

/// Nothing, or bad_option where a share to keep is outside (0.5, 1]; numbers in millionths.
inline failure check_keep(double keep, std::string_view place) noexcept {
  return detail::check_fraction(keep, 0.5 + 0x1p-53, 1, place);
}

/// The range from the (1 - keep)-quantile to the keep-quantile, by linear interpolation as in numpy and
/// torch.
///
/// Requires   0.5 < keep <= 1; 1 is min_max
/// Errors     empty, non_finite, bad_option
/// Precision  exact while a tail that is left out holds fewer than 32 values; else 2^-9 of the value
/// Cost       memory of one histogram
struct percentile {
  double keep = 0.9999;
  histogram seen = {};

  void observe(std::span<const float> xs) { seen.observe(xs); }
  void merge(const percentile& other) { seen.merge(other.seen); }
  template<Codec C>
  [[nodiscard]] result<range> choose(const C&) const {
    if (failure f = check_keep(keep, "percentile.keep (millionths)")) return f;
    if (failure f = check_seen(seen, "percentile")) return f;
    return quantile_range(distribution(seen), keep);
  }
};

}  // namespace repquant
