// SPDX-License-Identifier: MIT
/// range_tile: the search for ranges that fit_rows_to_gram makes, over one parameter set of several rows.
#pragma once

#include <repquant/calibrate/least_error.hpp>
#include <repquant/matrix/matrix.hpp>

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
}  // namespace detail

}  // namespace repquant
