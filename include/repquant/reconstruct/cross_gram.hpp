// SPDX-License-Identifier: MIT
/// cross_gram: how the error of some values goes along with a layer's quantized inputs. What pre-correction
/// (pre_correct.hpp) knows about the calibration data.
#pragma once

#include <repquant/matrix/matrix.hpp>
#include <repquant/reconstruct/blocked_product.hpp>

#include <cstdint>

namespace repquant {

/// The sum over tokens of (target - actual)^T x, and how many tokens that were.
///
/// Shapes    sum [rows x in]: in x in for the error of the inputs themselves, out x in for the error of a
///           residual stream that the layer's output is added to
struct cross_gram {
  matrix<double> sum;
  std::int64_t tokens = 0;
};

/// Nothing, or what is wrong with c for `rows` error channels and `in` inputs: empty, another size, NaN or
/// infinity.
inline failure check(const cross_gram& c, index rows, index in, std::string_view place) noexcept {
  if (c.sum.size() == 0 || c.tokens < 1) return {errc::empty, place, c.tokens, 1};
  if (c.sum.rows() != rows) return {errc::shape_mismatch, place, c.sum.rows(), rows};
  if (c.sum.cols() != in) return {errc::shape_mismatch, place, c.sum.cols(), in};
  index bad = 0;
  for (index i = 0; i < rows * in; ++i) bad += std::isfinite(c.sum.data()[i]) ? 0 : 1;
  return bad == 0 ? failure{} : failure{errc::non_finite, place, bad, 0};
}

/// Sums a cross Gram matrix in double: the same bits for any batches and threads (blocked_product).
///
/// Cost      rows * in multiply-adds a token; memory rows * in + 128 (rows + in) doubles
/// Precision double; the differences and the products are exact up to one rounding
class cross_gram_accumulator {
 public:
  cross_gram_accumulator(index rows, index in) : sum_(rows, in) {}

  /// Adds tokens. On a failure nothing was added.
  ///
  /// Shapes    target, actual [tokens x rows], x [tokens x in]; for the error of the inputs actual is x
  /// Errors    empty, shape_mismatch, non_finite (got = how many)
  template<Executor E = inline_executor>
  failure add(matrix_view target, matrix_view actual, matrix_view x, const E& exec = {}) {
    if (failure f = check_size(target, sum_.left(), x.rows(), "cross gram: target")) return f;
    if (failure f = check_size(actual, sum_.left(), x.rows(), "cross gram: actual")) return f;
    if (failure f = check_size(x, sum_.right(), x.rows(), "cross gram: inputs")) return f;
    for (index i = 0; i < x.rows(); ++i) {
      sum_.add(
          [&](auto row) {
            row.head(sum_.left()) =
                target.eigen().row(i).template cast<double>() - actual.eigen().row(i).template cast<double>();
            row.tail(sum_.right()) = x.eigen().row(i).template cast<double>();
          },
          exec);
    }
    return {};
  }

  [[nodiscard]] std::int64_t tokens() const noexcept { return sum_.count(); }

  /// The sum so far.
  [[nodiscard]] cross_gram total() const { return {sum_.total(), tokens()}; }

 private:
  static failure check_size(matrix_view m, index cols, index rows, std::string_view place) noexcept {
    if (m.cols() != cols) return {errc::shape_mismatch, place, m.cols(), cols};
    if (m.rows() != rows) return {errc::shape_mismatch, place, m.rows(), rows};
    return check_finite(m, place);
  }
  blocked_product sum_;
};

}  // namespace repquant
