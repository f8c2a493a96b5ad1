// SPDX-License-Identifier: MIT
/// adam: a step along a gradient, each entry at about its own size.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <cmath>

namespace repquant {

/// The settings of Adam, with the defaults of its paper.
struct adam {
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
};

/// What Adam remembers of one parameter matrix.
struct adam_moments {
  matrix<> first;
  matrix<> second;
  index steps = 0;
};

/// One step, bias corrected:
///
///   m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2
///   x -= rate (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + epsilon),   k the number of steps so far
///
/// Shapes    x, gradient as they were in the steps before with these moments
/// Cost      one pass, a root and a division per entry
/// Source    arXiv 1412.6980 algorithm 1
inline void adam_step(const adam& a, adam_moments& past, float rate, const matrix<>& gradient, matrix<>& x) {
  REPQUANT_ASSERT(x.rows() == gradient.rows() && x.cols() == gradient.cols());
  if (past.steps == 0) {
    past.first.setZero(x.rows(), x.cols());
    past.second.setZero(x.rows(), x.cols());
  }
  ++past.steps;
  past.first = a.beta1 * past.first + (1 - a.beta1) * gradient;
  past.second = a.beta2 * past.second + (1 - a.beta2) * gradient.cwiseAbs2();
  const auto k = static_cast<double>(past.steps);
  const auto first = static_cast<float>(1 - std::pow(static_cast<double>(a.beta1), k));
  const auto second = static_cast<float>(1 - std::pow(static_cast<double>(a.beta2), k));
  x.array() -= (rate / first) * past.first.array() / ((past.second.array() / second).sqrt() + a.epsilon);
}

}  // namespace repquant
