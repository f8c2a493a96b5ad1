// SPDX-License-Identifier: MIT
/// The Gram matrix of a layer's input, H = sum over calibration tokens of x^T x: all that a reconstructor
/// needs to know about the calibration data. gram_accumulator.hpp sums it from floats,
/// code_gram_accumulator.hpp from codes.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <cstdint>

namespace repquant {

/// H = sum over tokens of x^T x, and how many tokens that were.
///
/// Shapes    sum [in x in], symmetric; entry (i, j) is the sum over tokens of x_i x_j
/// Units     the square of the activation's unit; a common factor never changes a result, because
///           damping is relative to the mean of the diagonal
struct gram {
  matrix<double> sum;
  std::int64_t tokens = 0;

  [[nodiscard]] index size() const noexcept { return sum.rows(); }
  /// How many inputs were zero for every token.
  [[nodiscard]] index dead() const noexcept { return (sum.diagonal().array() == 0).count(); }
  /// Inputs that are uncorrelated and equally large: under it every reconstructor rounds to nearest.
  static gram identity(index in) { return {matrix<double>::Identity(in, in), in}; }
};

/// Nothing, or what is wrong with h as the Gram matrix of `in` inputs: empty, another size, NaN or
/// infinity, a negative diagonal, not symmetric (got, want = the position of the entry).
inline failure check(const gram& h, index in, std::string_view place) noexcept {
  if (h.size() == 0 || h.tokens < 1) return {errc::empty, place, h.tokens, 1};
  if (h.size() != in || h.sum.cols() != in) return {errc::shape_mismatch, place, h.size(), in};
  index bad = 0;
  for (index i = 0; i < in * in; ++i) bad += std::isfinite(h.sum.data()[i]) ? 0 : 1;
  if (bad != 0) return {errc::non_finite, place, bad, 0};
  for (index i = 0; i < in; ++i) {
    if (h.sum(i, i) < 0) return {errc::not_positive_definite, place, i, i};
    for (index j = 0; j < i; ++j) {
      // both triangles come from one sum here; a hand-made matrix may differ by its rounding
      const double size = std::sqrt(h.sum(i, i)) * std::sqrt(h.sum(j, j));
      if (!(std::fabs(h.sum(i, j) - h.sum(j, i)) <= 1e-6 * size)) {
        return {errc::not_positive_definite, place, i, j};
      }
    }
  }
  return {};
}

namespace detail {
template<class T>
void mirror_lower(matrix<T>& m) noexcept {
  for (index i = 0; i < m.rows(); ++i) {
    for (index j = 0; j < i; ++j) m(j, i) = m(i, j);
  }
}
}  // namespace detail

}  // namespace repquant
