// SPDX-License-Identifier: MIT
/// fit_rows_to_gram: ranges of weights by the error of the layer's output instead of the weights' own.
#pragma once

#include <repquant/calibrate/fit.hpp>
#include <repquant/calibrate/least_error.hpp>
#include <repquant/reconstruct/row_scales.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace repquant {

/// Which error of rounding to nearest a range is judged by; e = w - q.
enum class range_score : std::uint8_t {
  diagonal,     ///< sum of H_jj e_j^2: inputs as if uncorrelated
  full,         ///< e H e^T within the parameter set: what rounding to nearest pays
  conditional,  ///< sum of R_jj^2 e_j^2, H_d = R R^T by activation order: about what gptq pays
};

/// How ranges are searched.
struct range_options {
  range_score score = range_score::conditional;
  double smallest = 0.4;  ///< the furthest that an end shrinks, as a fraction of the minimum or maximum
  double step = 0.05;     ///< between two shrinks that are tried
  double damping = 0.01;  ///< of the conditional score
};

namespace detail {
/// The search over one parameter set of every row of a tile.
template<Codec C>
class range_tile {
 public:
  using params = typename C::params;
  range_tile(const C& codec, matrix_view w, index first_row, index height, index first_col, index count,
             const matrix<double>& weighting)
      : codec_(codec),
        w_(w),
        first_row_(first_row),
        first_col_(first_col),
        count_(count),
        weighting_(weighting),
        error_(height, count),
        sets_(static_cast<std::size_t>(height)) {}

  void run(const range_options& o) {
    std::vector<double> shrinks;
    for (int k = 0; 1 - k * o.step >= o.smallest - 1e-9; ++k) shrinks.push_back(1 - k * o.step);
    for (std::size_t r = 0; r < sets_.size(); ++r) {
      const std::span<const float> row =
          w_.row(first_row_ + static_cast<index>(r))
              .subspan(static_cast<std::size_t>(first_col_), static_cast<std::size_t>(count_));
      const auto ends = std::minmax_element(row.begin(), row.end());
      sets_[r].whole = {*ends.first, *ends.second};
    }
    for (double k : shrinks) offer([&](const set&) { return std::array{k, k}; });
    for (int round = 0; round < 2; ++round) {
      for (double k : shrinks) offer([&](const set& s) { return std::array{k, s.best[1]}; });
      for (double k : shrinks) offer([&](const set& s) { return std::array{s.best[0], k}; });
    }
    offer_least_error();
  }
  [[nodiscard]] range chosen(index r) const { return sets_[static_cast<std::size_t>(r)].chosen; }

 private:
  struct set {
    range whole;
    range tried;
    range chosen;
    std::array<double, 2> best = {1, 1};
    double least = std::numeric_limits<double>::infinity();
  };
  /// An end shrinks towards zero, or stays where zero is not inside.
  static float shrunk(float end, double k, bool across) noexcept {
    return across ? static_cast<float>(k * static_cast<double>(end)) : end;
  }
  template<class F>
  void offer(const F& shrinks_of) {
    std::vector<std::array<double, 2>> tried;
    for (set& s : sets_) {
      tried.push_back(shrinks_of(s));
      s.tried = {shrunk(s.whole.lo, tried.back()[0], s.whole.lo < 0),
                 shrunk(s.whole.hi, tried.back()[1], s.whole.hi > 0)};
      if (s.tried.lo > s.tried.hi) s.tried = s.whole;
    }
    const std::vector<bool> better = judge();
    for (std::size_t r = 0; r < sets_.size(); ++r) {
      if (better[r]) sets_[r].best = tried[r];
    }
  }
  void offer_least_error() {
    for (std::size_t r = 0; r < sets_.size(); ++r) {
      least_error observer;
      observer.observe(w_.row(first_row_ + static_cast<index>(r))
                           .subspan(static_cast<std::size_t>(first_col_), static_cast<std::size_t>(count_)));
      const result<range> found = observer.choose(codec_);
      sets_[r].tried = found ? *found : sets_[r].whole;
    }
    judge();
  }
  /// Rounds every row under its tried range; keeps the ranges that are better. Where `weighting_` has one row
  /// it is a diagonal.
  std::vector<bool> judge() {
    for (std::size_t r = 0; r < sets_.size(); ++r) {
      const params p = codec_.fit(sets_[r].tried);
      for (index j = 0; j < count_; ++j) {
        const float x = w_(first_row_ + static_cast<index>(r), first_col_ + j);
        error_(static_cast<index>(r), j) =
            static_cast<double>(x) - static_cast<double>(codec_.decode(codec_.encode(x, p), p));
      }
    }
    if (weighting_.rows() == 1) {
      weighted_ = error_.array().rowwise() * weighting_.row(0).array();
    } else {
      weighted_.noalias() = error_ * weighting_;
    }
    std::vector<bool> better;
    for (std::size_t r = 0; r < sets_.size(); ++r) {
      const double loss = error_.row(static_cast<index>(r)).dot(weighted_.row(static_cast<index>(r)));
      better.push_back(loss < sets_[r].least * (1 - 1e-9));
      if (!better.back()) continue;
      sets_[r].least = loss;
      sets_[r].chosen = sets_[r].tried;
    }
    return better;
  }

  const C& codec_;
  matrix_view w_;
  index first_row_;
  index first_col_;
  index count_;
  const matrix<double>& weighting_;
  matrix<double> error_;
  matrix<double> weighted_;
  std::vector<set> sets_;
};

/// The diagonal that the score weighs squared errors with, in the columns' own order; empty for `full`.
inline matrix<double> score_diagonal(const gram& h, const range_options& o) {
  if (o.score == range_score::full) return {};
  matrix<double> d = h.sum.diagonal().transpose();
  if (o.score == range_score::diagonal) return d;
  const gram_factor f = factor(h, o.damping, column_order::activation);
  if (!f.usable()) return d;
  for (std::size_t k = 0; k < f.order.size(); ++k) {
    const double pivot = f.lower(static_cast<index>(k), static_cast<index>(k));
    d(0, f.order[k]) = pivot * pivot;
  }
  return d;
}
}  // namespace detail

/// A quantizer for weights whose ranges have the least error of the layer's output when w is rounded to
/// nearest.
///
/// Candidates of each parameter set: minimum and maximum shrunk to zero by 1.0, 0.95, ... 0.4, first
/// together, then each end (an end on the far side of zero stays), and the range of least_error. The first of
/// equals wins. A set of columns that are all dead takes the range of least squared error of the weights.
///
/// Shapes    w [out x in], h [in x in]; granularity per_row or per_group
/// Errors    bad_bits, bad_option (step, smallest), empty, non_finite, group_mismatch (columns not divisible,
///           or rows that share parameter sets), shape_mismatch, not_positive_definite
/// Cost      about 66 roundings of w; for `full` as many times out * in * (columns of a set) multiply-adds
/// Example   const auto q = fit_rows_to_gram(uniform{.bits = 4}, per_row{}, w, h);
template<Codec C, Granularity G, Executor E = inline_executor>
result<quantizer<C, G>> fit_rows_to_gram(const C& codec, const G& granularity, matrix_view w, const gram& h,
                                         const range_options& options = {}, const E& exec = {}) {
  constexpr std::string_view place = "fit_rows_to_gram";
  if (failure f = check_codec(codec, place)) return f;
  if (failure f = check_finite(w, place)) return f;
  const index run = granularity.run(w.size());
  if (granularity.groups(w.size()) < 1) return failure{errc::group_mismatch, place, w.cols(), run};
  if (failure f = detail::check_own_sets(granularity, w.size(), place)) return f;
  if (failure f = check(h, w.cols(), "fit_rows_to_gram: gram")) return f;
  if (!(options.step >= 1e-3 && options.smallest > 0 && options.smallest <= 1)) {
    return failure{errc::bad_option, "fit_rows_to_gram: shrinks", 0, 1};
  }
  const matrix<double> diagonal = detail::score_diagonal(h, options);
  std::vector<range> ranges(static_cast<std::size_t>(granularity.groups(w.size())));
  constexpr index width = 64;
  exec((w.rows() + width - 1) / width, [&](index t) {
    const index first = t * width;
    const index height = std::min(width, w.rows() - first);
    for (index j = 0; j < w.cols(); j += run) {
      matrix<double> weighting = options.score == range_score::full
                                     ? matrix<double>(h.sum.block(j, j, run, run))
                                     : matrix<double>(diagonal.middleCols(j, run));
      if (weighting.isZero(0)) weighting = matrix<double>::Ones(1, run);
      detail::range_tile<C> tile(codec, w, first, height, j, run, weighting);
      tile.run(options);
      for (index r = 0; r < height; ++r) {
        ranges[static_cast<std::size_t>(granularity.group(w.size(), first + r, j))] = tile.chosen(r);
      }
    }
  });
  return quantizer_for(codec, granularity, w.size(), ranges);
}

}  // namespace repquant
