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

namespace detail {

/// Calls norm(rows, how many, results) for all rows at once where they lie one behind the other, otherwise
/// row by row: the same bits, for norms take a token as they take many.
template<class Norm>
inline matrix<> each_norm(matrix_view x, const Norm& norm) {
  matrix<> y(x.rows(), x.cols());
  if (x.stride() == x.cols()) {
    norm(x.data(), x.rows(), y.data());
  } else {
    for (index i = 0; i < x.rows(); ++i) norm(x.data() + i * x.stride(), index{1}, y.row(i).data());
  }
  return y;
}

}  // namespace detail

/// The norm of every row, with the arithmetic of the running model (infer/norm.hpp).
///
/// Shapes    x and the result [tokens x channels], channels == gamma.size()
inline matrix<> apply(const layer_norm& n, matrix_view x) {
  const auto c = static_cast<std::size_t>(x.cols());
  return detail::each_norm(x, [&](const float* from, index rows, float* to) {
    layer_norm_rows(from, rows, {n.gamma.data(), c}, {n.beta.data(), c}, n.eps, to);
  });
}
inline matrix<> apply(const rms_norm& n, matrix_view x) {
  const auto c = static_cast<std::size_t>(x.cols());
  return detail::each_norm(x, [&](const float* from, index rows, float* to) {
    rms_norm_rows(from, rows, {n.gamma.data(), c}, n.eps, to);
  });
}

}  // namespace repquant
