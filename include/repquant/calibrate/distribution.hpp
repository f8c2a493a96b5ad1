// SPDX-License-Identifier: MIT
/// distribution: what a histogram knows, arranged for questions: quantiles, and moments of a part of the
/// values.
#pragma once

#include <repquant/calibrate/histogram.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace repquant {

/// The values of a histogram, sorted. The values of a bin are taken as spread evenly over it.
///
/// Cost  a snapshot: up to 256 bins of 48 bytes for each page of the histogram
class distribution {
 public:
  /// Count, sum and sum of squares of some values, the sums taken from center().
  struct moments {
    double count = 0;
    double sum = 0;
    double squares = 0;
  };

  /// Requires  h.count() > 0
  explicit distribution(const histogram& h)
      : bins_(h.bins()), count_(h.count()), center_((static_cast<double>(h.min()) + h.max()) / 2) {
    before_.reserve(bins_.size() + 1);
    ranks_.reserve(bins_.size());
    moments all;
    std::uint64_t rank = 0;
    for (const histogram::bin& b : bins_) {
      before_.push_back(all);
      rank += b.count;
      ranks_.push_back(rank);
      all = plus(all, b.lo, b.hi, static_cast<double>(b.count));
    }
    before_.push_back(all);
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// The values, ascending.
  [[nodiscard]] std::span<const histogram::bin> bins() const noexcept { return bins_; }
  /// True for up to 64 values, which are all exact.
  [[nodiscard]] bool few_values() const noexcept { return count_ <= 2 * histogram::tail; }
  [[nodiscard]] float min() const noexcept { return bins_.front().lo; }
  [[nodiscard]] float max() const noexcept { return bins_.back().hi; }
  /// Where moments are taken from: half way between the smallest and the largest value. That keeps the sums
  /// of a channel with a large mean from cancelling.
  [[nodiscard]] double center() const noexcept { return center_; }

  /// The p-quantile of the sorted values v by linear interpolation, the default of numpy.quantile and
  /// torch.quantile: with h = (count - 1) p and k = floor h, v[k] + (h - k) (v[k + 1] - v[k]).
  ///
  /// Requires   0 <= p <= 1
  /// Precision  exact (in double) where both ranks are among the 32 smallest or largest; else the middle of
  ///            the bin, at most 2^-9 of the value from v
  /// Cost       O(log bins)
  [[nodiscard]] double quantile(double p) const noexcept {
    const double h = static_cast<double>(count_ - 1) * p;
    const auto rank = static_cast<std::uint64_t>(h);
    const double below = value(rank);
    if (rank + 1 >= count_) return below;
    return below + (h - static_cast<double>(rank)) * (value(rank + 1) - below);
  }

  /// The moments of all values smaller than t.
  ///
  /// Cost  O(log bins)
  [[nodiscard]] moments below(double t) const noexcept {
    std::size_t near = bins_.size() / 2;
    return below(t, near);
  }
  /// The same, looked for from bin `near` outwards, which becomes the bin that was found.
  ///
  /// Requires  near <= bins().size()
  /// Cost      O(log of the bins between)
  [[nodiscard]] moments below(double t, std::size_t& near) const noexcept {
    near = first_bin(t, near);
    const moments& before = before_[near];
    const auto b = bins_.begin() + static_cast<std::ptrdiff_t>(near);
    if (b == bins_.end() || t <= static_cast<double>(b->lo)) return before;
    const double width = static_cast<double>(b->hi) - b->lo;
    return plus(before, b->lo, t, static_cast<double>(b->count) * ((t - b->lo) / width));
  }
  /// The moments of all values.
  [[nodiscard]] const moments& all() const noexcept { return before_.back(); }

 private:
  /// The first bin that does not end below t, or bins_.size(): steps from `near` that double until they have
  /// passed it, then halving.
  [[nodiscard]] std::size_t first_bin(double t, std::size_t near) const noexcept {
    const auto ends_below = [&](std::size_t at) { return static_cast<double>(bins_[at].hi) < t; };
    std::size_t lo = near;  // all bins before lo end below t
    std::size_t hi = near;  // no bin from hi on does
    if (near < bins_.size() && ends_below(near)) {
      for (std::size_t step = 1; hi < bins_.size() && ends_below(hi); step *= 2) {
        lo = hi + 1;
        hi = std::min(hi + step, bins_.size());
      }
    } else {
      for (std::size_t step = 1; lo > 0 && !ends_below(lo - 1); step *= 2) {
        hi = lo - 1;
        lo -= std::min(step, lo);
      }
    }
    while (lo < hi) {
      const std::size_t middle = lo + (hi - lo) / 2;
      if (ends_below(middle)) {
        lo = middle + 1;
      } else {
        hi = middle;
      }
    }
    return lo;
  }
  /// m and `count` more values, spread evenly over [lo, hi].
  [[nodiscard]] moments plus(const moments& m, double lo, double hi, double count) const noexcept {
    const double mean = lo + (hi - lo) / 2 - center_;
    const double variance = (hi - lo) * (hi - lo) / 12;
    return {m.count + count, m.sum + count * mean, m.squares + count * (mean * mean + variance)};
  }
  /// The value of this rank: exact, or the middle of its bin, or zero where zero is in the bin.
  [[nodiscard]] double value(std::uint64_t rank) const noexcept {
    const auto at = std::upper_bound(ranks_.begin(), ranks_.end(), rank) - ranks_.begin();
    const histogram::bin& b = bins_[static_cast<std::size_t>(at)];
    if (b.lo <= 0 && b.hi >= 0) return 0;  // zeros and, at most, values below 2^-134
    return b.lo + (static_cast<double>(b.hi) - b.lo) / 2;
  }

  std::vector<histogram::bin> bins_;
  std::vector<std::uint64_t> ranks_;  // how many values are in this bin and those before it
  std::vector<moments> before_;       // of the bins before this one
  std::uint64_t count_;
  double center_;
};

}  // namespace repquant
