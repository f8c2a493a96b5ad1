// SPDX-License-Identifier: MIT
/// gram_accumulator: the Gram matrix of float activations, batch by batch.
#pragma once

#include <repquant/reconstruct/blocked_product.hpp>
#include <repquant/reconstruct/gram.hpp>

namespace repquant {

/// Sums the Gram matrix of float activations, in double: the same bits for any batches and threads
/// (blocked_product).
///
/// Cost      in^2 / 2 multiply-adds a token; memory 2 in^2 + 128 in doubles at most
/// Precision double; each product is exact
class gram_accumulator {
 public:
  explicit gram_accumulator(index in) : sum_(in) {}

  /// Adds tokens. On a failure nothing was added.
  ///
  /// Shapes    x [tokens x in]
  /// Errors    empty, shape_mismatch, non_finite (got = how many)
  template<Executor E = inline_executor>
  failure add(matrix_view x, const E& exec = {}) {
    if (x.cols() != sum_.right()) return {errc::shape_mismatch, "gram: columns", x.cols(), sum_.right()};
    if (failure f = check_finite(x, "gram: activations")) return f;
    for (index i = 0; i < x.rows(); ++i) {
      sum_.add([&](auto row) { row = x.eigen().row(i).template cast<double>(); }, exec);
    }
    return {};
  }

  [[nodiscard]] std::int64_t tokens() const noexcept { return sum_.count(); }

  /// The sum so far.
  [[nodiscard]] gram total() const {
    gram h{sum_.total(), tokens()};
    detail::mirror_lower(h.sum);
    return h;
  }

 private:
  blocked_product sum_;
};

/// The Gram matrix of one matrix of activations.
inline result<gram> gram_of(matrix_view x) {
  gram_accumulator sum(x.cols());
  if (failure f = sum.add(x)) return f;
  return sum.total();
}

}  // namespace repquant
