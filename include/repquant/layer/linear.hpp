// SPDX-License-Identifier: MIT
/// linear: y = x W^T + b.
#pragma once

#include <repquant/matrix/matrix.hpp>

namespace repquant {

/// A linear layer: weight [out x in], bias [out] or empty where there is none.
struct linear {
  matrix<> weight;
  column<> bias;

  [[nodiscard]] index in() const noexcept { return weight.cols(); }
  [[nodiscard]] index out() const noexcept { return weight.rows(); }
};

/// Nothing, or what is wrong with the layer: empty, a bias of another size, NaN or infinity.
inline failure check(const linear& l, std::string_view place) noexcept {
  if (failure f = check_finite(l.weight, place)) return f;
  if (l.bias.size() == 0) return {};
  if (l.bias.size() != l.out()) return {errc::shape_mismatch, place, l.bias.size(), l.out()};
  return check_finite(l.bias, place);
}

/// y = x W^T + b in float.
///
/// Shapes    x [tokens x in], result [tokens x out]
/// Requires  x.cols() == l.in()
/// Cost      tokens * in * out multiply-adds
inline matrix<> apply(const linear& l, matrix_view x) {
  matrix<> y = x.eigen() * l.weight.transpose();  // [tokens x out]
  if (l.bias.size() != 0) y.rowwise() += l.bias.transpose();
  return y;
}

}  // namespace repquant
