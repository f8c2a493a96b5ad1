// SPDX-License-Identifier: MIT
/// reconstruct_with_scales: codes and scales of a weight by turns, each the best given the other. A
/// reconstructor may not change parameters; this may, and returns codes with a quantizer of their own.
#pragma once

#include <repquant/core/check_fraction.hpp>
#include <repquant/reconstruct/coordinate_descent.hpp>

#include <utility>
#include <vector>

namespace repquant {

namespace detail {
/// Parameters whose values are proportional to a scale: x^ = s u(code).
template<class C>
concept HasScale = requires(typename C::params p) {
  { p.scale } -> std::convertible_to<float>;
};

/// Nothing, or group_mismatch where two rows share a parameter set.
template<Granularity G>
failure check_own_sets(const G& granularity, shape size, std::string_view place) {
  const index runs = size.rows * (size.cols / std::max<index>(1, granularity.run(size)));
  const index groups = granularity.groups(size);
  return groups == runs ? failure{} : failure{errc::group_mismatch, place, groups, runs};
}

/// One row under least-squares scales.
template<Codec C>
struct row_scale_fit {
  const C& codec;
  const gram& h;
  double ridge;
  std::span<const code_type_t<C>> codes;
  std::vector<double> error;                      ///< W - Q
  Eigen::Matrix<double, 1, Eigen::Dynamic> pull;  ///< (W - Q) H_d

  [[nodiscard]] double plain_loss() const {
    double sum = 0;
    for (std::size_t j = 0; j < error.size(); ++j) {
      sum += error[j] * (pull(static_cast<index>(j)) - ridge * error[j]);
    }
    return sum;
  }
  /// The scale of the run [first, first + count) that minimises the loss given all other runs:
  /// s + (u . pull) / (u H_d u^T). True where it was better and taken.
  bool refit(index first, index count, typename C::params& p) {
    const auto value = [&](index k, const typename C::params& with) {
      return static_cast<double>(
          codec.decode(static_cast<std::int32_t>(codes[static_cast<std::size_t>(first + k)]), with));
    };
    const auto scale = static_cast<double>(p.scale);
    Eigen::Matrix<double, 1, Eigen::Dynamic> u(count);
    for (index k = 0; k < count; ++k) u(k) = value(k, p) / scale;
    const auto own = h.sum.block(first, first, count, count);
    const double curvature = (u * own).dot(u) + ridge * u.squaredNorm();
    if (!(curvature > 0)) return false;
    const double best = scale + u.dot(pull.segment(first, count)) / curvature;
    if (!(best >= 0x1p-100 && best <= 0x1p100)) return false;
    typename C::params changed = p;
    changed.scale = static_cast<float>(best);
    for (index k = 0; k < count; ++k) u(k) = value(k, changed) - value(k, p);
    const double square = (u * own).dot(u) + ridge * u.squaredNorm();
    if (!(square - 2 * u.dot(pull.segment(first, count)) < -1e-9 * square)) return false;
    pull -= u * h.sum.middleRows(first, count);
    pull.segment(first, count) -= ridge * u;
    for (index k = 0; k < count; ++k) error[static_cast<std::size_t>(first + k)] -= u(k);
    p = changed;
    return true;
  }
};
}  // namespace detail

/// The same codes under the scales that suit them best.
///
///   s = (w H_d u^T) / (u H_d u^T)     u = code - zero point (or the power of two of a logarithmic code)
///
/// for each parameter set of a row, given the others of the row, from left to right. A row whose loss under
/// H itself would rise keeps its scales. Dead columns are rounded to nearest under the new scale.
///
/// Shapes    w and the codes [out x in], h [in x in]
/// Requires  a codec whose parameters have a scale that values are proportional to
/// Errors    group_mismatch where rows share parameter sets (per_tensor, per_col); shape_mismatch, empty,
///           non_finite, not_positive_definite
/// Cost      4 out in^2 multiply-adds; rows run on the executor, the same bits for any number of threads
/// Precision double; scales are rounded to float before they are compared
template<Codec C, Granularity G, Executor E = inline_executor>
requires detail::HasScale<C> result<quantized<C, G>> refit_scales(const quantized<C, G>& start, matrix_view w,
                                                                  const gram& h, double damping = 0.01,
                                                                  const E& exec = {}) {
  const quantizer<C, G>& q = start.quantizer();
  if (failure f = detail::check_problem(q, w, h)) return f;
  if (failure f = detail::check_own_sets(q.granularity(), w.size(), "refit_scales: parameter sets")) return f;
  if (start.rows() != w.rows() || start.cols() != w.cols()) {
    return failure{errc::shape_mismatch, "refit_scales: codes", start.rows() * start.cols(),
                   w.rows() * w.cols()};
  }
  if (failure f = detail::check_fraction(damping, 0, 1e6, "refit_scales: damping (millionths)")) return f;

  const double ridge = detail::ridge_of(h, damping);
  const matrix<double> error = detail::rounding_error(start, w);
  std::vector<typename C::params> params(q.params().begin(), q.params().end());
  matrix<code_type_t<C>> codes = start.codes();
  const index run = q.granularity().run(w.size());
  const auto n = static_cast<std::size_t>(w.cols());
  constexpr index width = 64;
  exec((w.rows() + width - 1) / width, [&](index t) {
    const index first = t * width;
    const index height = std::min(width, w.rows() - first);
    const matrix<double> product = error.middleRows(first, height) * h.sum;
    for (index r = 0; r < height; ++r) {
      const index i = first + r;
      detail::row_scale_fit<C> row{q.codec(), h, ridge, {start.codes().row(i).data(), n}, {}, {}};
      row.error.assign(error.row(i).data(), error.row(i).data() + n);
      row.pull = product.row(r) + ridge * error.row(i);
      const double before = row.plain_loss();
      std::vector<typename C::params> own;
      bool changed = false;
      for (index j = 0; j < w.cols(); j += run) {
        own.push_back(q.params_of(i, j));
        changed |= row.refit(j, run, own.back());
      }
      if (!changed || !(row.plain_loss() <= before)) continue;
      for (index j = 0; j < w.cols(); ++j) {
        const auto& p = own[static_cast<std::size_t>(j / run)];
        params[static_cast<std::size_t>(q.granularity().group(q.size(), i, j))] = p;
        if (h.sum(j, j) == 0) codes(i, j) = static_cast<code_type_t<C>>(q.codec().encode(w(i, j), p));
      }
    }
  });
  result<quantizer<C, G>> changed =
      quantizer<C, G>::make(q.codec(), q.granularity(), q.size(), std::move(params));
  if (!changed) return changed.error();
  return quantized<C, G>(*std::move(changed), std::move(codes));
}

/// `rounds` times: scales refitted to the codes (refit_scales), codes descending under the new scales
/// (descend). Ends early when a round no longer helps.
///
/// Never worse than its start, in tr((W - Q) H (W - Q)^T) and with H damped; row by row.
///
/// Shapes    w and the codes [out x in], h [in x in]
/// Errors    as refit_scales and descend; bad_option (rounds < 0)
/// Cost      at most 5 out in^2 multiply-adds a round
template<Codec C, Granularity G, Executor E = inline_executor>
requires detail::HasScale<C> result<reconstruction<C, G>> descend_with_scales(
    const quantized<C, G>& start, matrix_view w, const gram& h, int rounds,
    const descent_options& options = {}, const E& exec = {}) {
  if (rounds < 0) return failure{errc::bad_option, "descend_with_scales: rounds", rounds, 0};
  result<reconstruction<C, G>> now = descend(start, w, h, options, exec);
  for (int round = 0; round < rounds && now; ++round) {
    const result<quantized<C, G>> scaled = refit_scales(now->weights, w, h, options.damping, exec);
    if (!scaled) return scaled.error();
    result<reconstruction<C, G>> next = descend(*scaled, w, h, options, exec);
    if (!next) return next;
    const bool enough = next->report.loss > (1 - 1e-4) * now->report.loss;
    now = std::move(next);
    if (enough) break;
  }
  return now;
}

/// Codes by `solver`, then descend_with_scales: codes and a quantizer whose scales suit them.
///
/// Never worse than the solver alone, in tr((W - Q) H (W - Q)^T) and with H damped; row by row.
///
/// Shapes    w [out x in], h [in x in]
/// Errors    as the solver and descend_with_scales
/// Cost      the solver, and at most 5 out in^2 multiply-adds a round
/// Example   const auto r = reconstruct_with_scales(*q, w, h, gptq{}, 4);
template<Codec C, Granularity G, class R, Executor E = inline_executor>
requires detail::HasScale<C> && ReconstructorFor<R, C, G> result<reconstruction<C, G>>
reconstruct_with_scales(const quantizer<C, G>& q, matrix_view w, const gram& h, const R& solver, int rounds,
                        const descent_options& options = {}, const E& exec = {}) {
  const result<reconstruction<C, G>> first = detail::run_solver(solver, q, w, h, exec);
  if (!first) return first;
  result<reconstruction<C, G>> r = descend_with_scales(first->weights, w, h, rounds, options, exec);
  if (!r) return r;
  r->report.start_from(first->report);
  return r;
}

}  // namespace repquant
