// SPDX-License-Identifier: MIT
/// relaxed_rounding: rounding up or down as a smooth problem. What adaround minimises, for a few rows at
/// once.
#pragma once

#include <repquant/reconstruct/gram.hpp>

#include <algorithm>
#include <cmath>

namespace repquant {

/// Every weight lies between two neighbouring levels, q = low + h(V) width.
///
///   h(V)  = clamp(1.2 sigmoid(V) - 0.1, 0, 1)
///   loss  = sum over rows of [ (q - w) H_d (q - w)^T / e + lambda * sum over j of (1 - |2 h_j - 1|^beta) ]
///   e     = mean over live j of H_jj width_j^2: what it costs to be wrong by one step, so that neither the
///           unit of the data nor the number of tokens matters to lambda
///
/// Shapes    low, width, V [rows x in]; width is 0 where a weight has no choice
/// Source    AdaRound (arXiv 2004.10568); the output error through the Gram matrix, so no batch is needed
struct relaxed_rounding {
  matrix<double> weight;
  matrix<double> low;
  matrix<double> width;
  matrix<double> curvature;  ///< H_d [in x in]
  column<double> unit;       ///< e of each row
  double lambda = 0;

  /// Sets `unit` from the others.
  void measure_unit() {
    unit = column<double>::Zero(low.rows());
    for (index i = 0; i < low.rows(); ++i) {
      double live = 0;
      for (index j = 0; j < low.cols(); ++j) {
        const double e = curvature(j, j) * width(i, j) * width(i, j);
        unit(i) += e;
        live += e > 0 ? 1 : 0;
      }
      unit(i) = live > 0 && unit(i) > 0 ? unit(i) / live : 1;
    }
  }

  static constexpr double reach = 1.2;   // zeta - gamma
  static constexpr double below = -0.1;  // gamma

  /// h(v).
  [[nodiscard]] static double share(double v) noexcept {
    return std::fmin(std::fmax(reach / (1 + std::exp(-v)) + below, 0.0), 1.0);
  }
  /// The v with share(v) = h, for h in 0 .. 1.
  [[nodiscard]] static double position(double h) noexcept { return -std::log(reach / (h - below) - 1); }

  /// The loss at v.
  [[nodiscard]] double loss(const matrix<double>& v, double beta) const {
    const matrix<double> error = error_at(v);
    const matrix<double> product = error * curvature;
    double sum = 0;
    for (index i = 0; i < v.rows(); ++i) {
      sum += error.row(i).dot(product.row(i)) / unit(i);
      for (index j = 0; j < v.cols(); ++j) {
        if (width(i, j) > 0) sum += lambda * (1 - std::pow(std::fabs(2 * share(v(i, j)) - 1), beta));
      }
    }
    return sum;
  }
  /// The gradient of the loss at v; without the term in lambda where `pull` is false.
  void gradient(const matrix<double>& v, double beta, bool pull, matrix<double>& g) const {
    g.noalias() = error_at(v) * curvature;
    for (index i = 0; i < v.rows(); ++i) {
      for (index j = 0; j < v.cols(); ++j) {
        const double s = 1 / (1 + std::exp(-v(i, j)));
        const double h = reach * s + below;
        const double slope = h > 0 && h < 1 ? reach * s * (1 - s) : 0;
        double by_share = 2 * g(i, j) * width(i, j) / unit(i);
        const double side = 2 * h - 1;
        if (pull) by_share -= 2 * lambda * beta * std::copysign(std::pow(std::fabs(side), beta - 1), side);
        g(i, j) = width(i, j) > 0 ? by_share * slope : 0;
      }
    }
  }

 private:
  [[nodiscard]] matrix<double> error_at(const matrix<double>& v) const {
    matrix<double> error(v.rows(), v.cols());
    for (index i = 0; i < v.size(); ++i) {
      error.data()[i] = low.data()[i] + share(v.data()[i]) * width.data()[i] - weight.data()[i];
    }
    return error;
  }
};

}  // namespace repquant
