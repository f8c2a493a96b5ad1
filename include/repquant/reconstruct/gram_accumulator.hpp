// SPDX-License-Identifier: MIT
/// gram_accumulator: the Gram matrix of float activations, batch by batch.
#pragma once

#include <repquant/parallel/inline_executor.hpp>
#include <repquant/reconstruct/gram.hpp>

#include <algorithm>

namespace repquant {

/// Sums the Gram matrix of float activations, in double.
///
/// The bits depend on the sequence of rows alone: rows are gathered into blocks of a fixed height
/// whatever the batches they arrive in, and threads share out parts of the result, never of a sum.
///
/// Cost      in^2 / 2 multiply-adds a token; memory 2 in^2 + 128 in doubles at most
/// Precision double; each product is exact
class gram_accumulator {
 public:
  explicit gram_accumulator(index in) : rows_(block, in), sum_(matrix<double>::Zero(in, in)) {}

  /// Adds tokens. On a failure nothing was added.
  ///
  /// Shapes    x [tokens x in]
  /// Errors    empty, shape_mismatch, non_finite (got = how many)
  template<Executor E = inline_executor>
  failure add(matrix_view x, const E& exec = {}) {
    if (x.cols() != sum_.cols()) return {errc::shape_mismatch, "gram: columns", x.cols(), sum_.cols()};
    if (failure f = check_finite(x, "gram: activations")) return f;
    for (index i = 0; i < x.rows(); ++i) {
      rows_.row(filled_++) = x.eigen().row(i).cast<double>();
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
  [[nodiscard]] gram total() const {
    gram h{sum_, tokens_};
    if (filled_ > 0) add_rows(h.sum, inline_executor{});
    detail::mirror_lower(h.sum);
    return h;
  }

 private:
  static constexpr index block = 128;
  /// Adds the rows waiting to the lower triangle, in stripes of a fixed height (longest first).
  template<Executor E>
  void add_rows(matrix<double>& sum, const E& exec) const {
    const index rows = filled_;
    const index in = sum.rows();
    const index stripes = (in + block - 1) / block;
    exec(stripes, [&, this](index i) {
      const index first = (stripes - 1 - i) * block;
      const index height = std::min(block, in - first);
      sum.block(first, 0, height, first + height).noalias() +=
          rows_.block(0, first, rows, height).transpose() * rows_.topLeftCorner(rows, first + height);
    });
  }
  matrix<double> rows_;  // [block x in], the first filled_ are waiting
  matrix<double> sum_;   // lower triangle
  index filled_ = 0;
  std::int64_t tokens_ = 0;
};

/// The Gram matrix of one matrix of activations.
inline result<gram> gram_of(matrix_view x) {
  gram_accumulator sum(x.cols());
  if (failure f = sum.add(x)) return f;
  return sum.total();
}

}  // namespace repquant
