// SPDX-License-Identifier: MIT
/// A linear layer on a tape.
#pragma once

#include <repquant/train/tape.hpp>

namespace repquant::differentiable {

/// out = x w^T + b;  dx = g w,  dw = g^T x,  db = the sum of the rows of g.
///
/// Shapes  x [tokens x in], w [out x in], b [1 x out] or none, result [tokens x out]
/// Cost    tokens in out multiply-adds forward, twice that backward
inline node linear(tape& t, node x, node w, node b = {}) {
  REPQUANT_ASSERT(t.value(x).cols() == t.value(w).cols());
  const bool biased = b.id >= 0;
  const node out = t.result(t.value(x).rows(), t.value(w).rows(), {x, w, biased ? b : w});
  matrix<>& y = t.value_of(out);
  y.noalias() = t.value(x) * t.value(w).transpose();
  if (biased) y.rowwise() += t.value(b).row(0);
  t.on_backward(out, [x, w, b, out, biased](tape& u) {
    u.add_gradient(x, u.gradient(out) * u.value(w));
    u.add_gradient(w, u.gradient(out).transpose() * u.value(x));
    if (biased) u.add_gradient(b, u.gradient(out).colwise().sum());
  });
  return out;
}

}  // namespace repquant::differentiable
