// SPDX-License-Identifier: MIT
/// percentile_search: the best of a few percentile ranges. What RepQ-ViT does.
#pragma once

#include <repquant/calibrate/codec_error.hpp>
#include <repquant/calibrate/percentile.hpp>

#include <vector>

namespace repquant {

/// Of the ranges that keep these shares, the one with the smallest squared error under the codec; the first
/// of equals.
///
/// Requires   0.5 < keep <= 1 for each, and at least one
/// Errors     empty, non_finite, bad_option
/// Precision  see percentile and codec_error
/// Cost       memory of one histogram
/// Source     RepQ-ViT (arXiv 2212.08254), whose code tries these three
struct percentile_search {
  std::vector<double> keep = {0.999, 0.9999, 0.99999};
  histogram seen = {};

  void observe(std::span<const float> xs) { seen.observe(xs); }
  void merge(const percentile_search& other) { seen.merge(other.seen); }
  template<Codec C>
  [[nodiscard]] result<range> choose(const C& codec) const {
    if (keep.empty()) return failure{errc::bad_option, "percentile_search.keep: shares to try", 0, 1};
    for (double share : keep) {
      if (failure f = check_keep(share, "percentile_search.keep (millionths)")) return f;
    }
    if (failure f = check_seen(seen, "percentile_search")) return f;
    const distribution d(seen);
    codec_error<C> error(d, codec);
    range best = quantile_range(d, keep[0]);
    double least = error(codec.fit(best));
    for (std::size_t i = 1; i < keep.size(); ++i) {
      const range r = quantile_range(d, keep[i]);
      if (const double e = error(codec.fit(r)); e < least) {
        best = r;
        least = e;
      }
    }
    return best;
  }
};

}  // namespace repquant
