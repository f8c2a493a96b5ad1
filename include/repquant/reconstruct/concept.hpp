// SPDX-License-Identifier: MIT
/// Reconstructor: float weights -> codes, knowing what the layer's inputs look like. Every other file of
/// this folder is a model of it, or what models share.
///
/// The problem is always min tr((W - Q) H (W - Q)^T), H the Gram matrix of the inputs that the layer
/// will really get. A float target behind quantized inputs needs no second argument: with
/// C = sum of x^T x^ over tokens (x float, x^ quantized inputs), |Q x^ - W x|^2 differs from that of
/// Q against W' = W C H^-1 by a constant, so the caller passes W' for W, and parameters fitted to it.
///
/// Laws (testing/host_laws.hpp): codes are in range; equal arguments give equal codes; under the
/// identity every weight is rounded to nearest; a dead input is rounded to nearest; the output error is not
/// above that of rounding; rows do not depend on each other; bad input is refused, with its place.
#pragma once

#include <repquant/matrix/quantize.hpp>
#include <repquant/reconstruct/gram_factor.hpp>

namespace repquant {

/// What a reconstructor did.
struct reconstruction_report {
  double loss = 0;         ///< tr((W - Q) H (W - Q)^T): squared output error over the calibration tokens
  double damped_loss = 0;  ///< the same with the damped H
  double damping = 0;      ///< fraction of the mean live diagonal that was added to H
  index dead_columns = 0;  ///< inputs that were zero for every token
  bool rounded_to_nearest = false;  ///< the fall-back was taken: no damping made H positive definite
  /// Nothing, or what the caller should know although the codes are good: the fall-back, or fewer
  /// tokens (got) than inputs (want), so that H alone is singular and damping decides.
  failure notice;

  /// Keeps what a solver said of H when another stage started from its codes.
  void start_from(const reconstruction_report& solver) noexcept {
    rounded_to_nearest = solver.rounded_to_nearest;
    notice = solver.notice;
  }
};

/// Codes with their quantizer, and how they came about.
template<Codec C, Granularity G>
struct reconstruction {
  quantized<C, G> weights;
  reconstruction_report report;
};

/// r(quantizer, w, h): the codes of w [out x in] under the quantizer's parameters, which are not changed.
template<class R, class C, class G>
concept ReconstructorFor = Codec<C> && Granularity<G> &&
    requires(const R r, const quantizer<C, G>& q, matrix_view w, const gram& h) {
  { r(q, w, h) } -> std::same_as<result<reconstruction<C, G>>>;
};

namespace detail {
/// The checks that all reconstructors share.
template<Codec C, Granularity G>
failure check_problem(const quantizer<C, G>& q, matrix_view w, const gram& h) noexcept {
  if (failure f = check_codec(q.codec(), "reconstruct: codec")) return f;
  if (failure f = check_finite(w, "reconstruct: weight")) return f;
  if (failure f = check_shape(q, w.size(), "reconstruct")) return f;
  return check(h, w.cols(), "reconstruct: gram");
}

/// tr(D H D^T) in double, D [rows x in].
inline double output_error(const matrix<double>& difference, const gram& h) {
  double sum = 0;
  constexpr index tile = 64;
  for (index first = 0; first < difference.rows(); first += tile) {
    const index height = std::min(tile, difference.rows() - first);
    const matrix<double> product = difference.middleRows(first, height) * h.sum;
    for (index i = 0; i < height; ++i) {
      for (index j = 0; j < product.cols(); ++j) sum += product(i, j) * difference(first + i, j);
    }
  }
  return std::fmax(sum, 0.0);
}

/// W - Q in double.
template<Codec C, Granularity G>
matrix<double> rounding_error(const quantized<C, G>& q, matrix_view w) {
  matrix<double> d(w.rows(), w.cols());
  for (index i = 0; i < w.rows(); ++i) {
    for (index j = 0; j < w.cols(); ++j) {
      d(i, j) = static_cast<double>(w(i, j)) -
                static_cast<double>(q.quantizer().decode(static_cast<std::int32_t>(q.codes()(i, j)), i, j));
    }
  }
  return d;
}
}  // namespace detail

/// tr((W - Q) H (W - Q)^T): the squared output error of codes over the calibration tokens, in double.
///
/// Shapes    w and the codes [out x in], h [in x in]
/// Requires  equal shapes, finite values
/// Cost      out in^2 multiply-adds
template<Codec C, Granularity G>
double output_error(const quantized<C, G>& q, matrix_view w, const gram& h) {
  return detail::output_error(detail::rounding_error(q, w), h);
}

}  // namespace repquant
