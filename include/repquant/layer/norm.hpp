// SPDX-License-Identifier: MIT
/// layer_norm and rms_norm, per token.
#pragma once

#include <repquant/infer/norm.hpp>
#include <repquant/matrix/matrix.hpp>

namespace repquant {

/// y = (x - mean) / sqrt(var + eps) * gamma + beta, over the channels of a token.
struct layer_norm {
  column<> gamma;
  column<> beta;
  float eps = 1e-5F;
};

/// y = x / sqrt(mean(x^2) + eps) * gamma, over the channels of a token.
struct rms_norm {
  column<> gamma;
  float eps = 1e-5F;
};

/// Nothing, or what is wrong: empty, beta of another size than gamma, NaN or infinity.
inline failure check(const layer_norm& n, std::string_view place) noexcept {
  if (failure f = check_finite(n.gamma, place)) return f;
  if (n.beta.size() != n.gamma.size()) {
    return {errc::shape_mismatch, place, n.beta.size(), n.gamma.size()};
  }
  return check_finite(n.beta, place);
}
inline failure check(const rms_norm& n, std::string_view place) noexcept {
  return check_finite(n.gamma, place);
}

/// The norm of every row, with the arithmetic of the running model (infer/norm.hpp).
///
/// Shapes    x and the result [tokens x channels], channels == gamma.size()
inline matrix<> apply(const layer_norm& n, matrix_view x) {
  matrix<> y(x.rows(), x.cols());
  const auto c = static_cast<std::size_t>(x.cols());
  for (index i = 0; i < x.rows(); ++i) {
    layer_norm_row(x.row(i), {n.gamma.data(), c}, {n.beta.data(), c}, n.eps, {y.row(i).data(), c});
  }
  return y;
}
inline matrix<> apply(const rms_norm& n, matrix_view x) {
  matrix<> y(x.rows(), x.cols());
  const auto c = static_cast<std::size_t>(x.cols());
  for (index i = 0; i < x.rows(); ++i) {
    rms_norm_row(x.row(i), {n.gamma.data(), c}, n.eps, {y.row(i).data(), c});
  }
  return y;
}

}  // namespace repquant
