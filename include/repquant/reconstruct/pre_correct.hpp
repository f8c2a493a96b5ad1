// SPDX-License-Identifier: MIT
/// pre_correct: weights that give the float target from quantized inputs, as well as a linear layer can.
/// Quantize these instead of the trained ones, with ranges fitted to them.
#pragma once

#include <repquant/core/check_fraction.hpp>
#include <repquant/reconstruct/cross_gram.hpp>
#include <repquant/reconstruct/gram_factor.hpp>

namespace repquant {

namespace detail {
/// right H_d^-1 with the factor of H_d; columns of dead inputs become zero. Rows in tiles of fixed height.
inline matrix<double> divide_by_gram(const matrix<double>& right, const gram_factor& f) {
  const auto live = static_cast<index>(f.order.size());
  matrix<double> result = matrix<double>::Zero(right.rows(), right.cols());
  matrix<double> b(right.rows(), live);
  for (index k = 0; k < live; ++k) b.col(k) = right.col(f.order[static_cast<std::size_t>(k)]);
  // X L^T L = B
  f.lower.triangularView<Eigen::Lower>().solveInPlace<Eigen::OnTheRight>(b);
  f.lower.transpose().triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(b);
  for (index k = 0; k < live; ++k) result.col(f.order[static_cast<std::size_t>(k)]) = b.col(k);
  return result;
}

/// w + alpha right H_d^-1.
inline result<matrix<>> corrected(matrix_view w, const matrix<double>& right, const gram& h, double damping,
                                  double alpha) {
  const gram_factor f = factor(h, damping, column_order::natural);
  if (!f.usable()) {
    return failure{errc::not_positive_definite, "pre_correct: gram", 0, static_cast<index>(f.order.size())};
  }
  const matrix<double> change = alpha * divide_by_gram(right, f);
  matrix<> corrected = (w.eigen().cast<double>() + change).cast<float>();
  if (failure bad = check_finite(corrected, "pre_correct: result")) return bad;
  return corrected;
}

inline failure check_correction(matrix_view w, const cross_gram& c, index rows, const gram& h, double damping,
                                double alpha) noexcept {
  if (failure f = check_finite(w, "pre_correct: weight")) return f;
  if (failure f = check(h, w.cols(), "pre_correct: gram")) return f;
  if (failure f = check(c, rows, w.cols(), "pre_correct: cross gram")) return f;
  if (c.tokens != h.tokens) return {errc::shape_mismatch, "pre_correct: tokens", c.tokens, h.tokens};
  if (failure f = check_fraction(damping, 0, 1e6, "pre_correct: damping (millionths)")) return f;
  return check_fraction(alpha, 0, 1, "pre_correct: alpha (millionths)");
}
}  // namespace detail

/// Weights for quantized inputs: W' = W + alpha W C H_d^-1.
///
/// At alpha = 1 without damping, W' minimises the sum over tokens of |W' x^ - W x|^2, and that of any Q
/// differs from tr((W' - Q) H (W' - Q)^T) by a constant. Smaller alphas and larger dampings trust few tokens
/// less.
///
/// Shapes    w [out x in]; c the cross Gram matrix [in x in] of x - x^ with x^, h [in x in] of x^ with itself
/// Units     damping is a fraction of the mean live diagonal, alpha in 0 .. 1
/// Errors    empty, shape_mismatch, non_finite, bad_option, not_positive_definite
/// Cost      in^3 / 3 + 2 out in^2 multiply-adds
/// Precision double, rounded to float at the end; columns of dead inputs stay as they are
/// Source    the normal equations; GPTAQ (arXiv 2504.02692) has the same target column by column
inline result<matrix<>> pre_correct(matrix_view w, const cross_gram& c, const gram& h, double damping,
                                    double alpha) {
  if (failure f = detail::check_correction(w, c, w.cols(), h, damping, alpha)) return f;
  const matrix<double> right = w.eigen().cast<double>() * c.sum;
  return detail::corrected(w, right, h, damping, alpha);
}

/// Weights that also take back the error of the residual stream their output is added to:
/// W' = W + alpha E H_d^-1.
///
/// With r + W x the float stream and r^ + W' x^ the quantized one, the best W' at alpha = 1 is
/// W + (W C + E) H^-1: both corrections, one after the other.
///
/// Shapes    w [out x in]; e the cross Gram matrix [out x in] of r - r^ with x^, h [in x in]
/// Units, Errors, Cost, Precision  as pre_correct
inline result<matrix<>> pre_correct_residual(matrix_view w, const cross_gram& e, const gram& h,
                                             double damping, double alpha) {
  if (failure f = detail::check_correction(w, e, w.rows(), h, damping, alpha)) return f;
  return detail::corrected(w, e.sum, h, damping, alpha);
}

}  // namespace repquant
