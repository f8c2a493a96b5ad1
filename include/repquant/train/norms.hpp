// SPDX-License-Identifier: MIT
/// layer_norm and rms_norm on a tape, with gradients of their parameters.
#pragma once

#include <repquant/infer/norm.hpp>
#include <repquant/train/tape.hpp>

#include <cmath>

namespace repquant::differentiable {

namespace detail {

/// What both norms do backwards, from the normalised rows `unit` and 1 / deviation, which the forward pass
/// saved as [unit | scale].
///
///   h = g gamma;  dx = (h - unit mean(h unit) [- mean(h)]) scale;  dgamma = sum g unit;  dbeta = sum g
inline void norm_backward(tape& t, node x, node gamma, node out, bool centered) {
  const matrix<>& g = t.gradient(out);
  const matrix<>& saved = t.saved(out);
  const index cols = g.cols();
  const auto unit = saved.leftCols(cols);
  if (t.wanted(gamma)) t.add_gradient(gamma, g.cwiseProduct(unit).colwise().sum());
  if (!t.wanted(x)) return;
  matrix<>& dx = t.gradient_of(x);
  const auto row = t.value(gamma).row(0).array();
  Eigen::Array<float, 1, Eigen::Dynamic> h(cols);
  for (index i = 0; i < g.rows(); ++i) {
    h = g.row(i).array() * row;
    const auto u = unit.row(i).array();
    const float along = (h * u).mean();
    const float shift = centered ? h.mean() : 0.0F;
    dx.row(i).array() += (h - shift - u * along) * saved(i, cols);
  }
}

}  // namespace detail

/// out = (x - mean) / sqrt(var + eps) * gamma + beta per row, the value as the running model has it.
///
/// Shapes    x, result [tokens x channels], gamma, beta [1 x channels]
/// Requires  eps > 0 or var > 0
inline node layer_norm(tape& t, node x, node gamma, node beta, float eps) {
  const index rows = t.value(x).rows();
  const index cols = t.value(x).cols();
  const node out = t.result(rows, cols, {x, gamma, beta});
  const matrix<>& in = t.value(x);
  const auto n = static_cast<std::size_t>(cols);
  for (index i = 0; i < rows; ++i) {
    layer_norm_row({in.row(i).data(), n}, {t.value(gamma).data(), n}, {t.value(beta).data(), n}, eps,
                   {t.value_of(out).row(i).data(), n});
  }
  if (!t.wanted(out)) return out;
  matrix<>& saved = t.saved(out);
  saved.resize(rows, cols + 1);
  for (index i = 0; i < rows; ++i) {
    const float mean = in.row(i).mean();
    saved.row(i).head(cols) = in.row(i).array() - mean;
    const float r = 1.0F / std::sqrt(saved.row(i).head(cols).squaredNorm() / static_cast<float>(cols) + eps);
    saved.row(i).head(cols) *= r;
    saved(i, cols) = r;
  }
  t.on_backward(out, [x, gamma, beta, out](tape& u) {
    detail::norm_backward(u, x, gamma, out, true);
    u.add_gradient(beta, u.gradient(out).colwise().sum());
  });
  return out;
}

/// out = x / sqrt(mean(x^2) + eps) * gamma per row, the value as the running model has it.
///
/// Shapes    x, result [tokens x channels], gamma [1 x channels]
/// Requires  eps > 0 or x != 0
inline node rms_norm(tape& t, node x, node gamma, float eps) {
  const index rows = t.value(x).rows();
  const index cols = t.value(x).cols();
  const node out = t.result(rows, cols, {x, gamma});
  const matrix<>& in = t.value(x);
  const auto n = static_cast<std::size_t>(cols);
  for (index i = 0; i < rows; ++i) {
    rms_norm_row({in.row(i).data(), n}, {t.value(gamma).data(), n}, eps, {t.value_of(out).row(i).data(), n});
  }
  if (!t.wanted(out)) return out;
  matrix<>& saved = t.saved(out);
  saved.resize(rows, cols + 1);
  for (index i = 0; i < rows; ++i) {
    const float r = 1.0F / std::sqrt(in.row(i).squaredNorm() / static_cast<float>(cols) + eps);
    saved.row(i).head(cols) = in.row(i) * r;
    saved(i, cols) = r;
  }
  t.on_backward(out, [x, gamma, out](tape& u) { detail::norm_backward(u, x, gamma, out, false); });
  return out;
}

}  // namespace repquant::differentiable
