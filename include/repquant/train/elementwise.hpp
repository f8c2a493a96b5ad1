// SPDX-License-Identifier: MIT
/// Sums and products entry by entry on a tape. The second operand may be one row, which then stands for
/// every row: a bias, a factor per column.
#pragma once

#include <repquant/train/tape.hpp>

namespace repquant::differentiable {

namespace detail {
/// True where b is one row that stands for all rows of a; false where the shapes are equal.
inline bool is_row_of(const matrix<>& a, const matrix<>& b) {
  REPQUANT_ASSERT(a.cols() == b.cols() && (b.rows() == a.rows() || b.rows() == 1));
  return b.rows() != a.rows();
}
}  // namespace detail

/// out = a + b;  da = g,  db = g, summed over rows where b is one.
///
/// Shapes  a, result [rows x cols], b [rows x cols] or [1 x cols]
inline node add(tape& t, node a, node b) {
  const bool row = detail::is_row_of(t.value(a), t.value(b));
  const node out = t.result(t.value(a).rows(), t.value(a).cols(), {a, b});
  if (row) {
    t.value_of(out) = t.value(a).rowwise() + t.value(b).row(0);
  } else {
    t.value_of(out) = t.value(a) + t.value(b);
  }
  t.on_backward(out, [a, b, out, row](tape& u) {
    u.add_gradient(a, u.gradient(out));
    if (row) {
      u.add_gradient(b, u.gradient(out).colwise().sum());
    } else {
      u.add_gradient(b, u.gradient(out));
    }
  });
  return out;
}

/// out = a * b entry by entry;  da = g b,  db = g a, summed over rows where b is one (a factor per column).
///
/// Shapes  a, result [rows x cols], b [rows x cols] or [1 x cols]
inline node multiply(tape& t, node a, node b) {
  const bool row = detail::is_row_of(t.value(a), t.value(b));
  const node out = t.result(t.value(a).rows(), t.value(a).cols(), {a, b});
  if (row) {
    t.value_of(out) = t.value(a).array().rowwise() * t.value(b).row(0).array();
  } else {
    t.value_of(out) = t.value(a).cwiseProduct(t.value(b));
  }
  t.on_backward(out, [a, b, out, row](tape& u) {
    const matrix<>& g = u.gradient(out);
    if (row) {
      u.add_gradient(a, (g.array().rowwise() * u.value(b).row(0).array()).matrix());
      u.add_gradient(b, g.cwiseProduct(u.value(a)).colwise().sum());
    } else {
      u.add_gradient(a, g.cwiseProduct(u.value(b)));
      u.add_gradient(b, g.cwiseProduct(u.value(a)));
    }
  });
  return out;
}

/// out = a factor;  da = g factor. The factor is a number without a gradient.
inline node scale(tape& t, node a, float factor) {
  const node out = t.result(t.value(a).rows(), t.value(a).cols(), {a});
  t.value_of(out) = t.value(a) * factor;
  t.on_backward(out, [a, out, factor](tape& u) { u.add_gradient(a, u.gradient(out) * factor); });
  return out;
}

}  // namespace repquant::differentiable
