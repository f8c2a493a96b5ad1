// SPDX-License-Identifier: MIT
/// clipping_problem: what the ranges of a layer's input channels cost its output, and how that changes with
/// each end of each range.
#pragma once

#include <repquant/codec/check.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/kernel/map.hpp>
#include <repquant/matrix/matrix.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

namespace repquant {

/// Tokens x of a value with D channels and the layers that read it. Each channel is coded under its own range
/// (l_d, h_d), and the cost is the squared error that the readers' outputs make of that:
///
///   J = sum over tokens t of  w_t e_t G e_t^T,   e_t = x^_t - x_t - m,   G = sum over readers of W^T W
///
/// m is the mean of x^ - x where the readers' biases will take it, else 0. A range enters through its own
/// channel alone, so that J is known for a changed range from one row of e and one of G e.
///
/// Guards that shapes agree and that all numbers are finite; every function of it then cannot fail.
class clipping_problem {
 public:
  /// Ranges of the channels with what they cost.
  struct solution {
    std::vector<range> ranges;
    double start = 0;  ///< J of the ranges that the search started from
    double error = 0;  ///< J of `ranges`, at most `start`
  };
  /// J and its derivatives by the lower and the upper end of each range.
  struct gradient {
    double error = 0;
    column<double> lo;
    column<double> hi;
  };

  /// `weight` is one number for each token, or empty where all count 1; `centred` says that biases take m.
  ///
  /// Shapes    x [tokens x D], weight [tokens] or empty, readers (G) [D x D]
  /// Errors    bad_bits; bad_option (a symmetric codec has one end only; a token that weighs less than
  ///           nothing); empty, non_finite; shape_mismatch
  /// Cost      memory: x in float; each use of the problem takes two matrices of its size in double
  static result<clipping_problem> make(const uniform& codec, matrix_view x, std::span<const double> weight,
                                       matrix<double> readers, bool centred) {
    if (failure f = check(codec, "clipping: codec")) return f;
    if (codec.symmetric) return failure{errc::bad_option, "clipping: a symmetric codec", 1, 0};
    if (failure f = check_finite(x, "clipping: tokens")) return f;
    if (readers.rows() != x.cols() || readers.cols() != x.cols()) {
      return failure{errc::shape_mismatch, "clipping: readers", readers.size(), x.cols() * x.cols()};
    }
    if (!readers.allFinite()) return failure{errc::non_finite, "clipping: readers", 1, 0};
    const auto tokens = static_cast<std::size_t>(x.rows());
    if (!weight.empty() && weight.size() != tokens) {
      return failure{errc::shape_mismatch, "clipping: weights of tokens",
                     static_cast<std::int64_t>(weight.size()), x.rows()};
    }
    clipping_problem p;
    p.codec_ = codec;
    p.centred_ = centred;
    p.x_ = x.eigen().transpose();
    p.readers_ = std::move(readers);
    p.root_weight_.setOnes(x.rows());
    for (std::size_t t = 0; t < weight.size(); ++t) {
      if (!(weight[t] >= 0 && std::isfinite(weight[t]))) {
        return failure{errc::bad_option, "clipping: weight of token", static_cast<std::int64_t>(t), x.rows()};
      }
      p.root_weight_(static_cast<index>(t)) = std::sqrt(weight[t]);
    }
    p.weight_sum_ = p.root_weight_.square().sum();
    return p;
  }

  using row_of_tokens = Eigen::Array<double, 1, Eigen::Dynamic>;

  [[nodiscard]] index channels() const noexcept { return x_.rows(); }
  [[nodiscard]] index tokens() const noexcept { return x_.cols(); }
  [[nodiscard]] const matrix<double>& readers() const noexcept { return readers_; }
  /// The tokens of channel d.
  [[nodiscard]] std::span<const float> tokens_of(index d) const noexcept {
    return {x_.row(d).data(), static_cast<std::size_t>(tokens())};
  }

  /// Nothing, or what is wrong with ranges for this problem: shape_mismatch; bad_option where an end is not
  /// finite or lo > hi (got = the channel).
  [[nodiscard]] failure check_ranges(std::span<const range> ranges) const noexcept {
    const auto count = static_cast<std::int64_t>(ranges.size());
    if (count != channels()) return {errc::shape_mismatch, "clipping: ranges", count, channels()};
    for (const range& r : ranges) {
      if (std::isfinite(r.lo) && std::isfinite(r.hi) && r.lo <= r.hi) continue;
      return {errc::bad_option, "clipping: range of channel", &r - ranges.data(), count};
    }
    return {};
  }

  /// sqrt(w_t) e_td of channel d under a range, for every token.
  void error_of(index d, const range& r, row_of_tokens& out) const {
    matrix<> coded(1, tokens());
    code(d, r, coded);
    out = coded.row(0).array().cast<double>() - x_.row(d).array().cast<double>();
    if (centred_ && weight_sum_ > 0) out -= (out * root_weight_.square()).sum() / weight_sum_;
    out *= root_weight_;
  }
  /// The same of all channels, [D x tokens].
  template<Executor E = inline_executor>
  [[nodiscard]] matrix<double> errors_of(std::span<const range> ranges, const E& exec = {}) const {
    matrix<double> e(channels(), tokens());
    exec(channels(), [&](index d) {
      row_of_tokens row;
      error_of(d, ranges[static_cast<std::size_t>(d)], row);
      e.row(d) = row.matrix();
    });
    return e;
  }
  /// G e, in stripes of a fixed height whatever the executor.
  template<Executor E = inline_executor>
  [[nodiscard]] matrix<double> pull_of(const matrix<double>& e, const E& exec = {}) const {
    matrix<double> pull(e.rows(), e.cols());
    constexpr index height = 64;
    exec((e.rows() + height - 1) / height, [&](index k) {
      const index rows = std::min(height, e.rows() - k * height);
      pull.middleRows(k * height, rows).noalias() = readers_.middleRows(k * height, rows) * e;
    });
    return pull;
  }
  /// J.
  ///
  /// Requires  check_ranges passed
  /// Cost      tokens D^2 multiply-adds
  template<Executor E = inline_executor>
  [[nodiscard]] double error(std::span<const range> ranges, const E& exec = {}) const {
    const matrix<double> e = errors_of(ranges, exec);
    return total(e, pull_of(e, exec));
  }
  /// J and its gradient, straight through the rounding: with r = (x^ - clamp(x, l, h)) / s held where it is,
  ///
  ///   x^ = clamp(x, l, h) + r s,  s = (h - l) / n:   dx^/dl = [x < l] - r / n,   dx^/dh = [x > h] + r / n
  ///   dJ/dl_d = 2 sum over t of sqrt(w_t) (G e)_td dx^/dl_d,   and so for h
  ///
  /// Requires  check_ranges passed
  /// Cost      as error
  /// Source    LSQ+ (arXiv 2004.09576) for ends instead of scale and zero point, the integer zero point's
  ///           residue in r
  template<Executor E = inline_executor>
  [[nodiscard]] gradient gradient_at(std::span<const range> ranges, const E& exec = {}) const {
    const matrix<double> e = errors_of(ranges, exec);
    const matrix<double> pull = pull_of(e, exec);
    gradient g{total(e, pull), column<double>::Zero(channels()), column<double>::Zero(channels())};
    const double n = codec_.levels() - 1;
    exec(channels(), [&](index d) {
      const range& r = ranges[static_cast<std::size_t>(d)];
      const auto step = static_cast<double>(codec_.fit(r).scale);
      matrix<> coded(1, tokens());
      code(d, r, coded);
      for (index t = 0; t < tokens(); ++t) {
        const float x = x_(d, t);
        const double inside = static_cast<double>(std::clamp(x, r.lo, r.hi));
        const double share = (static_cast<double>(coded(0, t)) - inside) / step / n;
        const double weighted = 2 * root_weight_(t) * pull(d, t);
        g.lo(d) += weighted * ((x < r.lo ? 1 : 0) - share);
        g.hi(d) += weighted * ((x > r.hi ? 1 : 0) + share);
      }
    });
    return g;
  }

 private:
  /// decode(encode(x)) of channel d.
  void code(index d, const range& r, matrix<>& out) const {
    using V = lane_of<default_arch>;
    map_row<default_arch>(
        std::span<float>(out.data(), static_cast<std::size_t>(tokens())),
        [codec = codec_, p = uniform::spread<V>(codec_.fit(r))](const V& x) {
          return codec.decode(codec.encode(x, p), p);
        },
        x_.row(d).data());
  }
  static double total(const matrix<double>& e, const matrix<double>& pull) {
    double sum = 0;
    for (index d = 0; d < e.rows(); ++d) sum += e.row(d).dot(pull.row(d));
    return std::fmax(sum, 0.0);
  }

  uniform codec_;
  bool centred_ = false;
  matrix<> x_;  // [D x tokens]
  matrix<double> readers_;
  row_of_tokens root_weight_;
  double weight_sum_ = 0;
};

}  // namespace repquant
