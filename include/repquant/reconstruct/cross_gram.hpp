// SPDX-License-Identifier: MIT
/// cross_gram: how the error of some values goes along with a layer's quantized inputs. What pre-correction
/// (pre_correct.hpp) knows about the calibration data.
#pragma once

#include <repquant/matrix/matrix.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <algorithm>
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

/// Sums a cross Gram matrix in double.
///
/// The bits depend on the sequence of rows alone: rows are gathered into blocks of a fixed height whatever
/// the batches they arrive in, and threads share out parts of the result, never of a sum.
///
/// Cost      rows * in multiply-adds a token; memory rows * in + 128 (rows + in) doubles
/// Precision double; the differences and the products are exact up to one rounding
class cross_gram_accumulator {
 public:
  cross_gram_accumulator(index rows, index in)
      : errors_(block, rows), inputs_(block, in), sum_(matrix<double>::Zero(rows, in)) {}

  /// Adds tokens. On a failure nothing was added.
  ///
  /// Shapes    target, actual [tokens x rows], x [tokens x in]; for the error of the inputs actual is x
  /// Errors    empty, shape_mismatch, non_finite (got = how many)
  template<Executor E = inline_executor>
  failure add(matrix_view target, matrix_view actual, matrix_view x, const E& exec = {}) {
    if (failure f = check_size(target, sum_.rows(), x.rows(), "cross gram: target")) return f;
    if (failure f = check_size(actual, sum_.rows(), x.rows(), "cross gram: actual")) return f;
    if (failure f = check_size(x, sum_.cols(), x.rows(), "cross gram: inputs")) return f;
    for (index i = 0; i < x.rows(); ++i) {
      errors_.row(filled_) = target.eigen().row(i).cast<double>() - actual.eigen().row(i).cast<double>();
      inputs_.row(filled_++) = x.eigen().row(i).cast<double>();
      if (filled_ == block) {
        add_rows(sum_, exec);
        filled_ = 0;
      }
    }
    tokens_ += x.rows();
    return {};
  }

  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }

  /// The sum so far.
  [[nodiscard]] cross_gram total() const {
    cross_gram c{sum_, tokens_};
    if (filled_ > 0) add_rows(c.sum, inline_executor{});
    return c;
  }

 private:
  static constexpr index block = 128;
  static failure check_size(matrix_view m, index cols, index rows, std::string_view place) noexcept {
    if (m.cols() != cols) return {errc::shape_mismatch, place, m.cols(), cols};
    if (m.rows() != rows) return {errc::shape_mismatch, place, m.rows(), rows};
    return check_finite(m, place);
  }
  /// Adds the rows waiting, in stripes of a fixed height.
  template<Executor E>
  void add_rows(matrix<double>& sum, const E& exec) const {
    const index rows = sum.rows();
    exec((rows + block - 1) / block, [&, this](index i) {
      const index first = i * block;
      const index height = std::min(block, rows - first);
      sum.middleRows(first, height).noalias() +=
          errors_.block(0, first, filled_, height).transpose() * inputs_.topRows(filled_);
    });
  }
  matrix<double> errors_;  // [block x rows], the first filled_ are waiting
  matrix<double> inputs_;  // [block x in]
  matrix<double> sum_;
  index filled_ = 0;
  std::int64_t tokens_ = 0;
};

}  // namespace repquant
