// SPDX-License-Identifier: MIT
/// Uniform quantization on a tape, straight through: x goes to the value of its code, gradients pass to x, to
/// the scale and to the zero point.
#pragma once

#include <repquant/core/lane.hpp>
#include <repquant/kernel/map.hpp>
#include <repquant/train/tape.hpp>

#include <cmath>

namespace repquant::differentiable {

/// How many codes, and what the gradient of the scale is multiplied by.
struct fake_uniform {
  int levels = 16;
  /// Learned step sizes use 1 / sqrt(numel qmax), see step_size_factor; 1 for an optimizer that divides by
  /// the gradient's own size.
  float scale_gradient = 1;
};

/// 1 / sqrt(numel qmax), so that the updates of a step size are about as large as those of its weights.
/// Source  LSQ (arXiv 1902.08153) section 2.2
inline float step_size_factor(index numel, int levels) {
  return 1.0F / std::sqrt(static_cast<float>(numel) * static_cast<float>(levels - 1));
}

namespace detail {

/// The parameter of entry (i, j): one for all, one per row or one per column, by shape.
struct parameter_of {
  const matrix<>& m;
  index rows;
  index cols;

  [[nodiscard]] bool per_row() const { return m.rows() > 1 && m.cols() == 1; }
  [[nodiscard]] bool per_col() const { return m.cols() > 1; }
  /// A row of parameters for row i of the data.
  void row(index i, Eigen::Array<float, 1, Eigen::Dynamic>& out) const {
    if (per_col()) {
      out = m.row(0).array();
    } else {
      out.setConstant(cols, m(per_row() ? i : 0, 0));
    }
  }
  /// Adds a row of gradients to those of the parameters.
  template<class Row>
  void add(matrix<>& gradient, index i, const Row& g) const {
    if (per_col()) {
      gradient.row(0).array() += g;
    } else {
      gradient(per_row() ? i : 0, 0) += g.sum();
    }
  }
};

}  // namespace detail

/// The value of the code of x, as codec/uniform.hpp defines it, with z = rne(zero):
///
///   c   = clamp(rne(x / s), -z, levels - 1 - z),   out = c s
///   dx  = g inside, 0 where the code is clamped;   inside: |x / s - c| <= 1/2
///   ds  = g (c - x / s) inside, g c where clamped; times scale_gradient
///   dz  = -g s where clamped, 0 inside             (zero is rounded straight through)
///
/// Shapes    x, result [rows x cols]; s and zero each [1 x 1], [rows x 1] or [1 x cols]
/// Requires  s > 0, |zero| <= 2^22
/// Cost      two divisions per entry
/// Source    LSQ (arXiv 1902.08153), LSQ+ (arXiv 2004.09576) with the zero point in counts of s
inline node fake_quantize(tape& t, node x, node s, node zero, const fake_uniform& q) {
  const index rows = t.value(x).rows();
  const index cols = t.value(x).cols();
  const node out = t.result(rows, cols, {x, s, zero});
  matrix<>& codes = t.saved(out);  // c
  codes.resize(rows, cols);
  const detail::parameter_of scales{t.value(s), rows, cols};
  const detail::parameter_of zeros{t.value(zero), rows, cols};
  Eigen::Array<float, 1, Eigen::Dynamic> sr;
  Eigen::Array<float, 1, Eigen::Dynamic> zr;
  const auto last = static_cast<float>(q.levels - 1);
  const auto n = static_cast<std::size_t>(cols);
  for (index i = 0; i < rows; ++i) {
    if (i == 0 || scales.per_row()) scales.row(i, sr);
    if (i == 0 || zeros.per_row()) zeros.row(i, zr);
    using V = lane_of<default_arch>;
    map_row<default_arch>(
        std::span<float>{codes.row(i).data(), n},
        [last](const V& v, const V& step, const V& z) {
          const V lo = lane::sub(V(0.0F), lane::real(lane::round_to_int(z)));
          const V unit = lane::clamp(lane::zero_if_nan(lane::div(v, step)), lo, lane::add(lo, V(last)));
          return lane::real(lane::round_to_int(unit));
        },
        t.value(x).row(i).data(), sr.data(), zr.data());
    t.value_of(out).row(i).array() = codes.row(i).array() * sr;
  }
  t.on_backward(out, [x, s, zero, out, q](tape& u) {
    const matrix<>& g = u.gradient(out);
    const detail::parameter_of of_scale{u.value(s), g.rows(), g.cols()};
    const detail::parameter_of of_zero{u.value(zero), g.rows(), g.cols()};
    Eigen::Array<float, 1, Eigen::Dynamic> row;
    Eigen::Array<float, 1, Eigen::Dynamic> error;
    Eigen::Array<float, 1, Eigen::Dynamic> inside;
    for (index i = 0; i < g.rows(); ++i) {
      if (i == 0 || of_scale.per_row()) of_scale.row(i, row);
      const auto c = u.saved(out).row(i).array();
      const auto gi = g.row(i).array();
      error = c - u.value(x).row(i).array() / row;
      inside = (error.abs() <= 0.5F).template cast<float>();
      if (u.wanted(x)) u.gradient_of(x).row(i).array() += gi * inside;
      if (u.wanted(s)) {
        of_scale.add(u.gradient_of(s), i, gi * (inside > 0.0F).select(error, c) * q.scale_gradient);
      }
      if (u.wanted(zero)) of_zero.add(u.gradient_of(zero), i, gi * (inside - 1.0F) * row);
    }
  });
  return out;
}

}  // namespace repquant::differentiable
