// SPDX-License-Identifier: MIT
/// codec_error: the squared error of a codec on a distribution of values, without encoding them one by one.
#pragma once

#include <repquant/calibrate/distribution.hpp>
#include <repquant/codec/concept.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

namespace repquant {

/// The mean of (x - decode(encode(x)))^2 over a distribution, for one codec and any number of parameters.
///
/// A codec is monotone, so each code has an interval of values. Its ends are found by asking `encode`, and
/// the error of an interval follows from its moments: sum x^2 - 2 v sum x + v^2 n.
///
/// Precision  as the distribution: exact values and even spread inside bins
/// Cost       O(levels) for parameters near the last ones, up to O(levels log bins)
template<Codec C>
class codec_error {
 public:
  /// `d` must outlive this.
  codec_error(const distribution& d, const C& codec) : distribution_(&d), codec_(codec) {}

  [[nodiscard]] double operator()(const typename C::params& p) {
    return *below(p, std::numeric_limits<double>::infinity());
  }
  /// The same where it may be less than `least`; nothing as soon as it is seen not to be.
  [[nodiscard]] std::optional<double> below(const typename C::params& p, double least) {
    if (distribution_->few_values()) return one_by_one(p);
    levels(p);
    if (levels_ == last_levels_) return last_error_;  // the parameters differ where the codec does not look
    const auto count = static_cast<double>(distribution_->count());
    const std::optional<double> error = sum(p, least * count * (1 + 0x1p-40));
    if (!error) return {};
    last_error_ = *error / count;
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

  /// What lies below a level, and in which bin it begins: with the next parameters that will be near.
  struct level_edge {
    distribution::moments from = {};
    std::size_t near = 0;
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

  /// The squared errors of all values, unless they come to more than `most`.
  [[nodiscard]] std::optional<double> sum(const typename C::params& p, double most) {
    if (levels_.empty()) return std::numeric_limits<double>::infinity();
    edges_.resize(levels_.size() + 1);
    edges_.back().from = distribution_->all();
    const auto find_edge = [&](std::size_t i) {
      edges_[i].from = distribution_->below(edge(levels_[i - 1], levels_[i], p), edges_[i].near);
    };
    // what is clipped is at the ends, and ranges that clip too much are most of those that are asked for
    const std::size_t last = levels_.size() - 1;
    if (last > 0) {
      find_edge(1);
      find_edge(last);
      if (error_of(0) + error_of(last) > most) return {};
    }
    double error = 0;
    for (std::size_t i = 0; i <= last; ++i) {
      if (i >= 1 && i + 1 < last) find_edge(i + 1);
      error += error_of(i);
      if (error > most) return {};
    }
    return error;
  }
  /// The squared errors of the values of one level, whose edges are known.
  [[nodiscard]] double error_of(std::size_t i) const noexcept {
    const distribution::moments& from = edges_[i].from;
    const distribution::moments& to = edges_[i + 1].from;
    const double v = levels_[i].value - distribution_->center();
    const double e =
        (to.squares - from.squares) - 2 * v * (to.sum - from.sum) + v * v * (to.count - from.count);
    return e > 0 ? e : 0;
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
  std::vector<level_edge> edges_;  // before each level, and after the last one
  double last_error_ = 0;
};

}  // namespace repquant
