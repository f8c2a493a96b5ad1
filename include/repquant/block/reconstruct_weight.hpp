// SPDX-License-Identifier: MIT
/// reconstruct_weight: one weight of quantize_weights, from ranges to values; and groups that the columns do
/// not fill.
#pragma once

#include <repquant/block/weight_recipe.hpp>
#include <repquant/reconstruct/row_ranges.hpp>

#include <concepts>
#include <type_traits>

namespace repquant::detail {

/// Columns up to a multiple of the group: those added repeat the last, shorter group, so that its ranges stay
/// what they were, and see no input, so that nothing else changes.
inline matrix<> pad_columns(const matrix<>& w, index group) {
  const index in = w.cols();
  const index rest = in % group;
  if (rest == 0) return w;
  matrix<> padded(w.rows(), in + group - rest);
  padded.leftCols(in) = w;
  for (index j = in; j < padded.cols(); ++j) padded.col(j) = w.col(in - rest + (j - in) % rest);
  return padded;
}
inline gram pad_columns(const gram& h, index group) {
  const index in = h.size();
  const index rest = in % group;
  if (rest == 0) return h;
  gram padded{matrix<double>::Zero(in + group - rest, in + group - rest), h.tokens};
  padded.sum.topLeftCorner(in, in) = h.sum;
  return padded;
}

/// Ranges, codes and scales of one weight under one granularity; its values, and the report's part.
template<class Recipe, Granularity G, Executor E>
result<matrix<>> reconstruct_weight(const Recipe& r, const G& granularity, const matrix<>& w, const gram& h,
                                    const E& exec, reconstruction_report& report) {
  using range_policy = std::remove_cvref_t<decltype(r.range)>;
  constexpr bool by_output = std::same_as<range_policy, range_options>;
  const auto solve = [&]() -> result<reconstruction<uniform, G>> {
    if constexpr (by_output) {
      if (r.try_ranges) return reconstruct_with_ranges(r.weight, granularity, w, h, r.solver, r.range, exec);
      const auto q = fit_rows_to_gram(r.weight, granularity, w, h, r.range, exec);
      return q ? run_solver(r.solver, *q, w, h, exec) : q.error();
    } else {
      const auto q = fit(r.weight, granularity, r.range, w, "weight", exec);
      return q ? run_solver(r.solver, *q, w, h, exec) : q.error();
    }
  };
  const result<reconstruction<uniform, G>> solved = solve();
  if (!solved) return solved.error();
  report = solved->report;
  if (r.scale_rounds == 0) return dequantize(solved->weights);
  const auto scaled = descend_with_scales(solved->weights, w, h, r.scale_rounds, {}, exec);
  if (!scaled) return scaled.error();
  report.loss = scaled->report.loss;
  report.damped_loss = scaled->report.damped_loss;
  return dequantize(scaled->weights);
}

}  // namespace repquant::detail
