// SPDX-License-Identifier: MIT
/// blocked_product: a sum of products of rows whose bits depend on the sequence of rows alone.
#pragma once

#include <repquant/matrix/matrix.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <algorithm>
#include <cstdint>

namespace repquant {

/// Sums left^T right over rows [left | right], or row^T row where both are the whole row. Rows are gathered
/// into blocks of a fixed height whatever the batches they arrive in, and threads share out parts of the
/// result, never of a sum.
///
/// Cost      left * right multiply-adds a row, half of that for row^T row; memory left * right +
///           128 (left + right) doubles
/// Precision double
class blocked_product {
 public:
  /// row^T row: only the lower triangle of the sum is kept up.
  explicit blocked_product(index size) : blocked_product(size, size, 0) {}
  /// left^T right.
  blocked_product(index left, index right) : blocked_product(left, right, left) {}

  /// Takes a row in: `write` sets all entries of the row that it is given.
  template<class Write, Executor E>
  void add(const Write& write, const E& exec) {
    write(rows_.row(filled_++));
    ++count_;
    if (filled_ < block) return;
    add_rows(sum_, exec);
    filled_ = 0;
  }

  [[nodiscard]] index left() const noexcept { return sum_.rows(); }
  [[nodiscard]] index right() const noexcept { return sum_.cols(); }
  /// How many rows were taken in.
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  /// The sum so far; for row^T row the upper triangle is without meaning.
  [[nodiscard]] matrix<double> total() const {
    matrix<double> sum = sum_;
    if (filled_ > 0) add_rows(sum, inline_executor{});
    return sum;
  }

 private:
  static constexpr index block = 128;
  blocked_product(index left, index right, index offset)
      : rows_(block, offset + right), sum_(matrix<double>::Zero(left, right)), offset_(offset) {}

  /// Adds the rows waiting, in stripes of a fixed height (longest first).
  template<Executor E>
  void add_rows(matrix<double>& sum, const E& exec) const {
    const index stripes = (left() + block - 1) / block;
    exec(stripes, [&, this](index i) {
      const index first = (stripes - 1 - i) * block;
      const index height = std::min(block, left() - first);
      const index width = offset_ == 0 ? first + height : right();
      sum.block(first, 0, height, width).noalias() +=
          rows_.block(0, first, filled_, height).transpose() * rows_.block(0, offset_, filled_, width);
    });
  }

  matrix<double> rows_;  // [block x columns], the first filled_ are waiting
  matrix<double> sum_;
  index offset_;  // of the right part in a row
  index filled_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace repquant
