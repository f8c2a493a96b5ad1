// SPDX-License-Identifier: MIT
/// code_gram_accumulator: the Gram matrix of quantized activations, in exact integers.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/reconstruct/gram.hpp>

#include <algorithm>

namespace repquant {

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

}  // namespace repquant
