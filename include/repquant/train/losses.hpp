// SPDX-License-Identifier: MIT
/// Losses on a tape: matrices to one number. Targets have no gradient.
#pragma once

#include <repquant/infer/softmax.hpp>
#include <repquant/train/tape.hpp>

#include <cmath>
#include <vector>

namespace repquant::differentiable {

/// The sum of all entries;  dx = g.
///
/// Shapes  result [1 x 1]
inline node sum(tape& t, node x) {
  const node out = t.result(1, 1, {x});
  t.value_of(out)(0, 0) = static_cast<float>(t.value(x).cast<double>().sum());
  t.on_backward(out, [x, out](tape& u) { u.gradient_of(x).array() += u.gradient(out)(0, 0); });
  return out;
}

/// sum (x - target)^2 / (rows cols);  dx = g 2 (x - target) / (rows cols). The sum is in double.
///
/// Shapes    x, target [rows x cols], result [1 x 1]
/// Requires  the target lives until the tape is cleared
inline node mean_squared_error(tape& t, node x, const matrix<>& target) {
  REPQUANT_ASSERT(t.value(x).rows() == target.rows() && t.value(x).cols() == target.cols());
  const node out = t.result(1, 1, {x});
  const auto n = static_cast<float>(target.size());
  t.value_of(out)(0, 0) =
      static_cast<float>((t.value(x).cast<double>() - target.cast<double>()).squaredNorm()) / n;
  t.on_backward(out, [x, out, n, want = &target](tape& u) {
    u.add_gradient(x, (u.value(x) - *want) * (2.0F * u.gradient(out)(0, 0) / n));
  });
  return out;
}

/// The mean over the rows of KL(softmax(target) || softmax(x)) = sum_j p_j (log p_j - log q_j);
/// dx = g (q - p) / rows in those rows, 0 elsewhere. Logarithms and sums are in double.
///
/// Shapes    x, target [rows x classes]; `rows` the numbers of the rows that count, empty for all; result
///           [1 x 1]
/// Requires  each of `rows` is there
inline node kl_divergence(tape& t, node x, const matrix<>& target, std::span<const index> rows = {}) {
  REPQUANT_ASSERT(t.value(x).rows() == target.rows() && t.value(x).cols() == target.cols());
  const node out = t.result(1, 1, {x});
  const matrix<>& in = t.value(x);
  const index count = rows.empty() ? in.rows() : static_cast<index>(rows.size());
  matrix<>& slope = t.saved(out);  // (q - p) / rows
  slope.setZero(in.rows(), in.cols());
  using row_of_doubles = Eigen::Array<double, 1, Eigen::Dynamic>;
  const auto log_softmax = [](const auto& row) -> row_of_doubles {
    const row_of_doubles y = row.template cast<double>().array();
    const row_of_doubles shifted = y - y.maxCoeff();
    return shifted - std::log(shifted.exp().sum());
  };
  double total = 0;
  for (index k = 0; k < count; ++k) {
    const index i = rows.empty() ? k : rows[static_cast<std::size_t>(k)];
    const row_of_doubles want = log_softmax(target.row(i));
    const row_of_doubles have = log_softmax(in.row(i));
    const row_of_doubles p = want.exp();
    total += (p * (want - have)).sum();
    slope.row(i).array() += ((have.exp() - p) / static_cast<double>(count)).template cast<float>();
  }
  t.value_of(out)(0, 0) = static_cast<float>(total / static_cast<double>(count));
  t.on_backward(out, [x, out](tape& u) { u.add_gradient(x, u.saved(out) * u.gradient(out)(0, 0)); });
  return out;
}

}  // namespace repquant::differentiable
