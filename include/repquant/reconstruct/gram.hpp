// SPDX-License-Identifier: MIT
/// The Gram matrix of a layer's input, H = sum over calibration tokens of x^T x: all that a reconstructor
/// needs to know about the calibration data. From floats in double, or from codes in exact integers.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/matrix/matrix.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

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

/// Sums the Gram matrix of uint8 codes, in exact integers: order, batches, threads and merging change
/// nothing, not even a last bit.
///
/// Cost      in^2 single-precision multiply-adds a token; memory 2.5 in^2 64-bit words
/// Precision exact up to 2^47 tokens (a product of codes is below 2^16, and the sums are int64)
class code_gram_accumulator {
 public:
  explicit code_gram_accumulator(index in)
      : products_(matrix<std::int64_t>::Zero(in, in)), sums_(column<std::int64_t>::Zero(in)) {}

  /// Adds tokens. On a failure nothing was added.
  ///
  /// Shapes    codes [tokens x in]
  /// Errors    empty, shape_mismatch
  failure add(basic_matrix_view<std::uint8_t> codes) {
    const index in = sums_.size();
    if (codes.cols() != in) return {errc::shape_mismatch, "gram: columns", codes.cols(), in};
    if (codes.rows() == 0) return {errc::empty, "gram: codes", 0, 1};
    for (index first = 0; first < codes.rows(); first += block) {
      const index height = std::min(block, codes.rows() - first);
      const matrix<> rows = codes.eigen().middleRows(first, height).cast<float>();
      matrix<> product = matrix<>::Zero(in, in);
      product.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
      products_.triangularView<Eigen::Lower>() += product.cast<std::int64_t>();
      sums_ += codes.eigen().middleRows(first, height).cast<std::int64_t>().colwise().sum().transpose();
    }
    tokens_ += codes.rows();
    return {};
  }

  /// Adds what another one has seen.
  failure merge(const code_gram_accumulator& other) {
    if (other.sums_.size() != sums_.size()) {
      return {errc::shape_mismatch, "gram: merge", other.sums_.size(), sums_.size()};
    }
    products_ += other.products_;
    sums_ += other.sums_;
    tokens_ += other.tokens_;
    return {};
  }

  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }

  /// The Gram matrix of the values (q - z) s that the codes stand for.
  ///
  /// Shapes    channels: one parameter set for all inputs, or one per input
  /// Errors    shape_mismatch; too_large where tokens * max|q - z|^2 reaches 2^62
  /// Precision the integer sum is exact; it is multiplied once by the double s_i s_j
  [[nodiscard]] result<gram> total(std::span<const affine> channels) const {
    const index in = sums_.size();
    const auto sets = static_cast<index>(channels.size());
    if (sets != 1 && sets != in) return failure{errc::shape_mismatch, "gram: parameter sets", sets, in};
    const auto at = [&](index i) { return channels[sets == 1 ? 0 : static_cast<std::size_t>(i)]; };
    double largest = 0;
    for (const affine& p : channels) {
      const double z = p.zero_point;
      largest = std::fmax(largest, std::fmax(std::fabs(z), std::fabs(255 - z)));
    }
    if (largest * largest * static_cast<double>(tokens_) >= 0x1p62) {
      return failure{errc::too_large, "gram: tokens", tokens_,
                     static_cast<std::int64_t>(0x1p62 / largest / largest)};
    }
    gram h{matrix<double>(in, in), tokens_};
    for (index i = 0; i < in; ++i) {
      for (index j = 0; j <= i; ++j) {
        // sum (q_i - z_i)(q_j - z_j) multiplied out; its terms may wrap around, the sum fits
        const std::uint64_t zi = wrap(at(i).zero_point);
        const std::uint64_t zj = wrap(at(j).zero_point);
        const std::uint64_t centred =
            wrap(products_(i, j)) - zj * wrap(sums_(i)) - zi * wrap(sums_(j)) + wrap(tokens_) * zi * zj;
        const double scale = static_cast<double>(at(i).scale) * static_cast<double>(at(j).scale);
        h.sum(i, j) = static_cast<double>(static_cast<std::int64_t>(centred)) * scale;
      }
    }
    detail::mirror_lower(h.sum);
    return h;
  }
  [[nodiscard]] result<gram> total(affine p) const { return total(std::span<const affine>(&p, 1)); }

 private:
  // 256 * 255^2 < 2^24: within a block every partial sum is an integer that float holds exactly
  static constexpr index block = 256;
  static std::uint64_t wrap(std::int64_t v) noexcept { return static_cast<std::uint64_t>(v); }
  matrix<std::int64_t> products_;  // lower triangle
  column<std::int64_t> sums_;
  std::int64_t tokens_ = 0;
};

/// The Gram matrix of one matrix of activations.
inline result<gram> gram_of(matrix_view x) {
  gram_accumulator sum(x.cols());
  if (failure f = sum.add(x)) return f;
  return sum.total();
}

}  // namespace repquant
