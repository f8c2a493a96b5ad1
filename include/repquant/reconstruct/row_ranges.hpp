// SPDX-License-Identifier: MIT
/// reconstruct_with_ranges: the ranges of each row chosen by the loss that a reconstructor reaches with them.
#pragma once

#include <repquant/reconstruct/fit_rows_to_gram.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace repquant {

namespace detail {
/// Every parameter set's minimum and maximum, shrunk to zero.
template<Codec C, Granularity G>
result<quantizer<C, G>> fit_shrunk(const C& codec, const G& granularity, matrix_view w, double shrink) {
  const index run = granularity.run(w.size());
  std::vector<range> ranges(static_cast<std::size_t>(granularity.groups(w.size())));
  for (index i = 0; i < w.rows(); ++i) {
    for (index j = 0; j < w.cols(); j += run) {
      const auto part = w.row(i).subspan(static_cast<std::size_t>(j), static_cast<std::size_t>(run));
      const auto ends = std::minmax_element(part.begin(), part.end());
      const double lo = static_cast<double>(*ends.first);
      const double hi = static_cast<double>(*ends.second);
      ranges[static_cast<std::size_t>(granularity.group(w.size(), i, j))] = {
          static_cast<float>(lo < 0 ? shrink * lo : lo), static_cast<float>(hi > 0 ? shrink * hi : hi)};
    }
  }
  return quantizer_for(codec, granularity, w.size(), ranges);
}

/// (w - q) H (w - q)^T of each row.
template<Codec C, Granularity G>
std::vector<double> row_losses(const quantized<C, G>& q, matrix_view w, const gram& h) {
  const matrix<double> error = rounding_error(q, w);
  const matrix<double> product = error * h.sum;
  std::vector<double> losses;
  for (index i = 0; i < w.rows(); ++i) losses.push_back(product.row(i).dot(error.row(i)));
  return losses;
}

/// q -> solver(q, w, h, exec) for any number of quantizers like `first`. A factor of h, where the solver
/// takes one, is made once.
template<class R, Codec C, Granularity G, Executor E>
auto solver_of(const R& solver, const quantizer<C, G>& first, matrix_view w, const gram& h, const E& exec) {
  if constexpr (requires { solver(first, w, h, solver.factor_of(h), exec); }) {
    gram_factor shared = solver.factor_of(h);
    return [&solver, w, &h, shared = std::move(shared), &exec](const quantizer<C, G>& q) {
      return solver(q, w, h, shared, exec);
    };
  } else {
    return [&solver, w, &h, &exec](const quantizer<C, G>& q) { return run_solver(solver, q, w, h, exec); };
  }
}
}  // namespace detail

/// Codes and ranges by `solver`: it runs once with each candidate range, and every row keeps the one with
/// which its loss (w - q) H (w - q)^T is least.
///
/// Candidates, the same for all sets of a row: minimum and maximum shrunk to zero by 1.0, 0.95, ... 0.4, and
/// the ranges of fit_rows_to_gram. So no row is worse than the solver with min_max or fit_rows_to_gram.
///
/// Shapes    w [out x in], h [in x in]; granularity per_row or per_group
/// Errors    as fit_rows_to_gram and the solver
/// Cost      fourteen runs of the solver with the default options, which factor h once, and one
///           fit_rows_to_gram
/// Example   const auto r = reconstruct_with_ranges(uniform{.bits = 4}, per_row{}, w, h, gptq{});
template<Codec C, Granularity G, class R, Executor E = inline_executor>
requires ReconstructorFor<R, C, G> result<reconstruction<C, G>> reconstruct_with_ranges(
    const C& codec, const G& granularity, matrix_view w, const gram& h, const R& solver,
    const range_options& options = {}, const E& exec = {}) {
  const result<quantizer<C, G>> searched = fit_rows_to_gram(codec, granularity, w, h, options, exec);
  if (!searched) return searched.error();
  const auto solve = detail::solver_of(solver, *searched, w, h, exec);
  result<reconstruction<C, G>> first = solve(*searched);
  if (!first) return first;
  std::vector<double> least = detail::row_losses(first->weights, w, h);
  std::vector<typename C::params> params(searched->params().begin(), searched->params().end());
  matrix<code_type_t<C>> codes = first->weights.codes();
  for (int k = 0; 1 - k * options.step >= options.smallest - 1e-9; ++k) {
    const result<quantizer<C, G>> q = detail::fit_shrunk(codec, granularity, w, 1 - k * options.step);
    if (!q) return q.error();
    const result<reconstruction<C, G>> r = solve(*q);
    if (!r) return r;
    const std::vector<double> losses = detail::row_losses(r->weights, w, h);
    for (index i = 0; i < w.rows(); ++i) {
      const auto row = static_cast<std::size_t>(i);
      if (!(losses[row] < least[row] * (1 - 1e-9))) continue;
      least[row] = losses[row];
      codes.row(i) = r->weights.codes().row(i);
      for (index j = 0; j < w.cols(); j += granularity.run(w.size())) {
        params[static_cast<std::size_t>(granularity.group(w.size(), i, j))] = q->params_of(i, j);
      }
    }
  }
  result<quantizer<C, G>> chosen = quantizer<C, G>::make(codec, granularity, w.size(), std::move(params));
  if (!chosen) return chosen.error();
  reconstruction_report report = first->report;
  report.loss = 0;
  for (double l : least) report.loss += std::fmax(l, 0.0);
  quantized<C, G> weights(*std::move(chosen), std::move(codes));
  report.damped_loss =
      report.loss + detail::ridge_of(h, report.damping) * detail::rounding_error(weights, w).squaredNorm();
  return reconstruction<C, G>{std::move(weights), report};
}

}  // namespace repquant
