// SPDX-License-Identifier: MIT
/// fit_rows_to_gram: ranges of weights by the error of the layer's output instead of the weights' own.
#pragma once

#include <repquant/calibrate/fit.hpp>
#include <repquant/core/check_fraction.hpp>
#include <repquant/reconstruct/range_tile.hpp>
#include <repquant/reconstruct/row_scales.hpp>

#include <algorithm>
#include <limits>
#include <vector>

namespace repquant {

namespace detail {
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
  constexpr double most = std::numeric_limits<double>::max();
  if (failure f = detail::check_fraction(options.step, 1e-3, most, "fit_rows_to_gram: step (millionths)"))
    return f;
  if (failure f = detail::check_fraction(options.smallest, detail::above_zero, 1,
                                         "fit_rows_to_gram: smallest (millionths)"))
    return f;
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
