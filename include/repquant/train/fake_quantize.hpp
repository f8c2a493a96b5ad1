// SPDX-License-Identifier: MIT
/// Uniform quantization on a tape, straight through: x goes to the value of its code, gradients pass to x, to
/// the scale and to the zero point.
#pragma once

#include <repquant/core/lane.hpp>
#include <repquant/kernel/map.hpp>
#include <repquant/train/splitmix64.hpp>
#include <repquant/train/tape.hpp>

#include <cmath>
#include <cstdint>

namespace repquant::differentiable {

/// What a code stands for on a tape.
enum class fake_unit : std::uint8_t {
  value,   ///< c s, what the codec decodes
  growth,  ///< c s / s0: for readers that multiply by the scale s0 that was there at first
  count,   ///< c: for readers that know no scale
};

/// How many codes, what they stand for, and what the gradient of the scale is multiplied by.
struct fake_uniform {
  int levels = 16;
  /// Learned step sizes use 1 / sqrt(numel qmax), see step_size_factor; 1 for an optimizer that divides by
  /// the gradient's own size.
  float scale_gradient = 1;
  fake_unit unit = fake_unit::value;
  float drop = 0;          ///< share of entries that stay x / s, at random
  std::uint64_t seed = 0;  ///< of that choice
  bool drop_rows = false;  ///< of rows instead: where errors of a row's codes are fed back to its others
};

/// Whether row i is one of those that stay x / s, with drop_rows.
inline bool drops_row(float drop, std::uint64_t seed, index i) {
  return drop > 0 && splitmix64::of(seed, static_cast<std::uint64_t>(i)).unit() < drop;
}

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

/// The value of the code of x, as codec/uniform.hpp defines it, with z = rne(zero) and u the unit (s, s / s0
/// or 1):
///
///   c   = clamp(rne(x / s), -z, levels - 1 - z),   out = c u
///   dx  = g u / s inside, 0 where the code is clamped;   inside: |x / s - c| <= 1/2
///   ds  = g (c - x / s) u / s inside, g c u / s where clamped; times scale_gradient.
///         For a count: -g x / s^2 inside, 0 where clamped
///   dz  = -g u where clamped, 0 inside             (zero is rounded straight through)
///
/// Shapes    x, result [rows x cols]; s and zero each [1 x 1], [rows x 1] or [1 x cols]; s0 as s, for
///           fake_unit::growth
/// Requires  s > 0, |zero| <= 2^22
/// Cost      two divisions per entry
/// Source    LSQ (arXiv 1902.08153), LSQ+ (arXiv 2004.09576) with the zero point in counts of s
inline node fake_quantize(tape& t, node x, node s, node zero, const fake_uniform& q, node first = {}) {
  REPQUANT_ASSERT((q.unit == fake_unit::growth) == (first.id >= 0));
  const index rows = t.value(x).rows();
  const index cols = t.value(x).cols();
  using row_of_floats = Eigen::Array<float, 1, Eigen::Dynamic>;
  const node out = t.result(rows, cols, {x, s, zero});
  matrix<>& codes = t.saved(out);  // c
  codes.resize(rows, cols);
  const auto unit_of = [q, first, rows, cols](const tape& u, index i, const row_of_floats& scale,
                                              row_of_floats& unit) {
    if (q.unit == fake_unit::value) unit = scale;
    if (q.unit == fake_unit::count) unit.setOnes(cols);
    if (q.unit != fake_unit::growth) return;
    detail::parameter_of{u.value(first), rows, cols}.row(i, unit);
    unit = scale / unit;
  };
  const detail::parameter_of scales{t.value(s), rows, cols};
  const detail::parameter_of zeros{t.value(zero), rows, cols};
  row_of_floats sr;
  row_of_floats zr;
  row_of_floats ur;
  const auto last = static_cast<float>(q.levels - 1);
  const auto n = static_cast<std::size_t>(cols);
  for (index i = 0; i < rows; ++i) {
    if (i == 0 || scales.per_row()) {
      scales.row(i, sr);
      unit_of(t, i, sr, ur);
    }
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
    if (q.drop_rows) {
      if (drops_row(q.drop, q.seed, i)) codes.row(i).array() = t.value(x).row(i).array() / sr;
    } else if (q.drop > 0) {
      splitmix64 random = splitmix64::of(q.seed, static_cast<std::uint64_t>(i));
      for (index j = 0; j < cols; ++j) {
        if (random.unit() < q.drop) codes(i, j) = t.value(x)(i, j) / sr(j);
      }
    }
    t.value_of(out).row(i).array() = codes.row(i).array() * ur;
  }
  t.on_backward(out, [x, s, zero, out, q, unit_of](tape& u) {
    const matrix<>& g = u.gradient(out);
    const detail::parameter_of of_scale{u.value(s), g.rows(), g.cols()};
    const detail::parameter_of of_zero{u.value(zero), g.rows(), g.cols()};
    row_of_floats scale;
    row_of_floats unit;
    row_of_floats per_scale;
    row_of_floats error;
    row_of_floats inside;
    for (index i = 0; i < g.rows(); ++i) {
      if (i == 0 || of_scale.per_row()) {
        of_scale.row(i, scale);
        unit_of(u, i, scale, unit);
        per_scale = unit / scale;
      }
      const auto c = u.saved(out).row(i).array();
      const auto gi = g.row(i).array();
      error = c - u.value(x).row(i).array() / scale;
      inside = (error.abs() <= 0.5F).template cast<float>();
      if (u.wanted(x)) u.gradient_of(x).row(i).array() += gi * inside * per_scale;
      if (u.wanted(s) && q.unit == fake_unit::count) {
        of_scale.add(u.gradient_of(s), i, gi * inside * (error - c) * per_scale * q.scale_gradient);
      } else if (u.wanted(s)) {
        of_scale.add(u.gradient_of(s), i,
                     gi * (inside > 0.0F).select(error, c) * per_scale * q.scale_gradient);
      }
      if (u.wanted(zero)) of_zero.add(u.gradient_of(zero), i, gi * (inside - 1.0F) * unit);
    }
  });
  return out;
}

}  // namespace repquant::differentiable
