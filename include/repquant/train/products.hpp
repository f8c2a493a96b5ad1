// SPDX-License-Identifier: MIT
/// The matrix product of a linear layer on a tape.
#pragma once

#include <repquant/train/tape.hpp>

namespace repquant::differentiable {

/// out = x w^T;  dx = g w,  dw = g^T x.
///
/// Shapes  x [tokens x in], w [out x in], result [tokens x out]
/// Cost    tokens in out multiply-adds forward, twice that backward
inline node multiply_transposed(tape& t, node x, node w) {
  REPQUANT_ASSERT(t.value(x).cols() == t.value(w).cols());
  const node out = t.result(t.value(x).rows(), t.value(w).rows(), {x, w});
  t.value_of(out).noalias() = t.value(x) * t.value(w).transpose();
  t.on_backward(out, [x, w, out](tape& u) {
    u.add_gradient(x, u.gradient(out) * u.value(w));
    u.add_gradient(w, u.gradient(out).transpose() * u.value(x));
  });
  return out;
}

}  // namespace repquant::differentiable
