// SPDX-License-Identifier: MIT
/// least_error: the range of smallest squared error under the codec that will be used.
#pragma once

#include <repquant/calibrate/codec_error.hpp>
#include <repquant/calibrate/percentile.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace repquant {

namespace detail {

/// A deterministic search over ranges. A range is a pair of positions (a, b) in octaves:
///
///   hi(a) = median + (max - median) 2^-a        lo(b) = median - (median - min) 2^-b
///
/// so both ends shrink towards the median and never towards zero: a one-signed range clips, it does not
/// widen.
template<Codec C>
class range_search {
 public:
  range_search(const distribution& d, const C& codec)
      : error_(d, codec), codec_(codec), distribution_(d), median_(d.quantile(0.5)) {}

  range run() {
    range_ = {distribution_.min(), distribution_.max()};
    least_ = error_(codec_.fit(range_));
    for (double keep : {0.99999, 0.9999, 0.999}) offer_quantiles(keep);
    const std::vector<double> his =
        positions(octaves(distribution_.max() - median_, distribution_.quantile(0.75) - median_));
    const std::vector<double> los =
        positions(octaves(median_ - distribution_.min(), median_ - distribution_.quantile(0.25)));
    for (double a : his.size() > los.size() ? his : los) offer({a, a});
    for (int round = 0; round < 4; ++round) {
      const double before = least_;
      for (double a : his) offer({a, best_.b});
      for (double b : los) offer({best_.a, b});
      if (!(least_ < before)) break;
    }
    for (double step = coarse / 2; step >= finest; step /= 2) {
      for (int round = 0; round < 8; ++round) {
        const double before = least_;
        const position from = best_;
        for (double s : {-3 * step, -2 * step, -step, step, 2 * step, 3 * step}) {
          offer({from.a + s, from.b});
          offer({from.a, from.b + s});
          offer({from.a + s, from.b + s});
          offer({from.a + s, from.b - s});
        }
        if (!(least_ < before)) break;
      }
    }
    return range_;
  }

 private:
  static constexpr double coarse = 1.0 / 8;
  static constexpr double finest = 1.0 / 256;
  static constexpr double deepest = 12;

  struct position {
    double a;
    double b;
  };
  /// Where an end is tried: from half an octave outside, because a grid may like to shift, to the quartile
  /// closely, and from there to the median sparsely.
  static std::vector<double> positions(double quartile) {
    std::vector<double> p;
    for (double a = -0.5; a <= deepest; a += a < quartile ? coarse : 1) p.push_back(a);
    return p;
  }
  static double octaves(double whole, double part) noexcept {
    if (!(whole > 0)) return 0;
    return part > 0 ? std::fmin(std::log2(whole / part), deepest) : deepest;
  }
  void offer(position p) {
    const double hi = median_ + (distribution_.max() - median_) * std::exp2(-p.a);
    const double lo = median_ - (median_ - distribution_.min()) * std::exp2(-p.b);
    constexpr double limit = std::numeric_limits<float>::max();
    offer({static_cast<float>(std::fmax(lo, -limit)), static_cast<float>(std::fmin(hi, limit))}, p);
  }
  void offer_quantiles(double keep) {
    const range r = quantile_range(distribution_, keep);
    offer(r, {octaves(distribution_.max() - median_, r.hi - median_),
              octaves(median_ - distribution_.min(), median_ - r.lo)});
  }
  void offer(range r, position p) {
    const std::optional<double> e = error_.below(codec_.fit(r), least_);
    if (!e || !(*e < least_)) return;
    least_ = *e;
    range_ = r;
    best_ = p;
  }

  codec_error<C> error_;
  C codec_;
  const distribution& distribution_;
  double median_;
  position best_ = {0, 0};
  range range_;
  double least_ = 0;
};

}  // namespace detail

/// The range of smallest mean squared error under the codec, for any monotone codec. Starting from min_max
/// and the three percentile ranges of RepQ-ViT, it searches coarse to fine: both ends together, then each
/// end, in steps of 1/8 octave of the distance from the median, then around the best down to 1/256 octave.
/// The first of equals wins, so an end that does not matter stays.
///
/// Never worse than min_max or percentile_search by its own measure, codec_error.
///
/// Errors     empty, non_finite
/// Precision  the error of a local optimum, measured by codec_error: within 3 % of the best of a fine grid,
///            or 10 % where most values lie within three steps far from zero, so that it matters how levels
///            fall
/// Cost       memory of one histogram; choose tries about 300 ranges
struct least_error {
  histogram seen = {};

  void observe(std::span<const float> xs) { seen.observe(xs); }
  void merge(const least_error& other) { seen.merge(other.seen); }
  template<Codec C>
  [[nodiscard]] result<range> choose(const C& codec) const {
    if (failure f = check_seen(seen, "least_error")) return f;
    return detail::range_search<C>(distribution(seen), codec).run();
  }
};

}  // namespace repquant
