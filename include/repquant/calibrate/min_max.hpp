// SPDX-License-Identifier: MIT
/// min_max: the range from the smallest to the largest value.
#pragma once

#include <repquant/calibrate/concept.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace repquant {

/// Smallest and largest value of a stream. Minus zero counts as zero.
class extent {
 public:
  void observe(std::span<const float> xs) noexcept {
    float lo = lo_;
    float hi = hi_;
    std::uint64_t finite = 0;
    for (float x : xs) {
      const bool ok = std::fabs(x) <= std::numeric_limits<float>::max();
      finite += ok ? 1U : 0U;
      lo = ok && x < lo ? x : lo;
      hi = ok && x > hi ? x : hi;
    }
    lo_ = lo;
    hi_ = hi;
    count_ += finite;
    non_finite_ += xs.size() - finite;
  }
  void merge(const extent& other) noexcept {
    lo_ = std::min(lo_, other.lo_);
    hi_ = std::max(hi_, other.hi_);
    count_ += other.count_;
    non_finite_ += other.non_finite_;
  }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t non_finite() const noexcept { return non_finite_; }
  /// Requires  count() > 0
  [[nodiscard]] float min() const noexcept { return lo_ + 0.0F; }
  /// Requires  count() > 0
  [[nodiscard]] float max() const noexcept { return hi_ + 0.0F; }

 private:
  float lo_ = std::numeric_limits<float>::infinity();
  float hi_ = -std::numeric_limits<float>::infinity();
  std::uint64_t count_ = 0;
  std::uint64_t non_finite_ = 0;
};

/// Nothing, or why no range can be chosen from what was seen: NaN or infinities, or no value at all.
template<class Seen>
failure check_seen(const Seen& seen, std::string_view place) noexcept {
  if (seen.non_finite() != 0) {
    return {errc::non_finite, place, static_cast<std::int64_t>(seen.non_finite()), 0};
  }
  if (seen.count() == 0) return {errc::empty, place, 0, 1};
  return {};
}

/// The range of all values: nothing is clipped, and one outlier makes every step larger.
///
/// Cost  24 bytes
struct min_max {
  extent seen = {};

  void observe(std::span<const float> xs) noexcept { seen.observe(xs); }
  void merge(const min_max& other) noexcept { seen.merge(other.seen); }
  template<Codec C>
  [[nodiscard]] result<range> choose(const C&) const {
    if (failure f = check_seen(seen, "min_max")) return f;
    return range{seen.min(), seen.max()};
  }
};

}  // namespace repquant
