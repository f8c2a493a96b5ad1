// SPDX-License-Identifier: MIT
/// codec_error: the squared error of a codec on a distribution of values, without encoding them one by one.
#pragma once

#include <repquant/calibrate/distribution.hpp>
#include <repquant/codec/concept.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace repquant {

/// The mean of (x - decode(encode(x)))^2 over a distribution, for one codec and any number of parameters.
///
/// A codec is monotone, so each code has an interval of values. Its ends are found by asking `encode`, and
/// the error of an interval follows from its moments: sum x^2 - 2 v sum x + v^2 n.
///
/// Precision  as the distribution: exact values and even spread inside bins
/// Cost       O(levels log bins) for each new set of parameters
template<Codec C>
class codec_error {
 public:
  /// `d` must outlive this.
  codec_error(const distribution& d, const C& codec) : distribution_(&d), codec_(codec) {}

  [[nodiscard]] double operator()(const typename C::params& p) {
    if (distribution_->few_values()) return one_by_one(p);
    levels(p);
    if (levels_ == last_levels_) return last_error_;  // the parameters differ where the codec does not look
    last_error_ = sum(p) / static_cast<double>(distribution_->count());
    last_levels_ = levels_;
    return last_error_;
  }

 private:
  /// Faster than looking for edges, and with nothing estimated.
  [[nodiscard]] double one_by_one(const typename C::params& p) const {
    double error = 0;
    for (const histogram::bin& b : distribution_->bins()) {
      const double e =
          static_cast<double>(b.lo) - static_cast<double>(codec_.decode(codec_.encode(b.lo, p), p));
      error += e * e * static_cast<double>(b.count);
    }
    return error / static_cast<double>(distribution_->count());
  }

  struct level {
    float value;
    std::int32_t code;
    friend bool operator==(const level&, const level&) = default;
  };

  /// The values that the codec can give, ascending.
  void levels(const typename C::params& p) {
    levels_.clear();
    for (int q = 0; q < codec_.levels(); ++q) {
      const float v = codec_.decode(q, p);
      if (codec_.encode(v, p) == q) levels_.push_back({v, q});  // else the code is never given
    }
    if (!levels_.empty() && levels_.front().value > levels_.back().value) {
      std::reverse(levels_.begin(), levels_.end());
    }
  }

  [[nodiscard]] double sum(const typename C::params& p) const {
    if (levels_.empty()) return std::numeric_limits<double>::infinity();
    double error = 0;
    distribution::moments from;
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      const bool last = i + 1 == levels_.size();
      const distribution::moments to =
          last ? distribution_->all() : distribution_->below(edge(levels_[i], levels_[i + 1], p));
      const double v = levels_[i].value - distribution_->center();
      error += std::fmax(
          0, (to.squares - from.squares) - 2 * v * (to.sum - from.sum) + v * v * (to.count - from.count));
      from = to;
    }
    return error;
  }

  /// Where the values of level a end and those of the next level b begin: the middle or the geometric middle
  /// where `encode` confirms it, else found by halving.
  [[nodiscard]] double edge(const level& a, const level& b, const typename C::params& p) const {
    const auto belongs_to_a = [&](double x) { return codec_.encode(static_cast<float>(x), p) == a.code; };
    double lo = a.value;
    double hi = b.value;
    const double near = (hi - lo) * 0x1p-10;
    const double guesses[] = {lo + (hi - lo) / 2, std::copysign(std::sqrt(std::fmax(0, lo * hi)), hi)};
    for (double guess : guesses) {
      if (belongs_to_a(guess - near) && !belongs_to_a(guess + near)) return guess;
    }
    for (int i = 0; i < 24; ++i) {
      const double middle = lo + (hi - lo) / 2;
      (belongs_to_a(middle) ? lo : hi) = middle;
    }
    return hi;
  }

  const distribution* distribution_;
  C codec_;
  std::vector<level> levels_;
  std::vector<level> last_levels_;
  double last_error_ = 0;
};

}  // namespace repquant
