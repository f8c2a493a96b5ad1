// SPDX-License-Identifier: MIT
/// Row-major matrices. The one place that fixes the memory layout: weights are [out x in], activations
/// are [tokens x channels], and a row is contiguous.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/core/shape.hpp>

#include <Eigen/Core>

#include <cmath>
#include <concepts>
#include <span>
#include <type_traits>

namespace repquant {

/// An owning row-major matrix.
template<class T = float>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// An owning column of values: a bias, a gamma.
template<class T = float>
using column = Eigen::Matrix<T, Eigen::Dynamic, 1>;

namespace detail {
template<class D>
concept RowMajorStorage = requires(const D& d) {
  {d.derived().data()};
  {d.derived().outerStride()};
}
&&(static_cast<bool>(D::IsRowMajor) || D::ColsAtCompileTime == 1) && D::InnerStrideAtCompileTime == 1;
}  // namespace detail

/// A read-only view of a row-major matrix: pointer, rows, cols, distance between rows. Made implicitly
/// from row-major Eigen objects that have storage; copying a column-major one silently is refused at
/// compile time. Does not own: it must not outlive what it looks at.
template<class T>
class basic_matrix_view {
 public:
  constexpr basic_matrix_view() noexcept = default;
  constexpr basic_matrix_view(const T* data, index rows, index cols, index stride) noexcept
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  constexpr basic_matrix_view(const T* data, index rows, index cols) noexcept
      : basic_matrix_view(data, rows, cols, cols) {}

  template<class D>
  basic_matrix_view(const Eigen::DenseBase<D>& m) noexcept  // NOLINT: implicit on purpose
      : rows_(m.rows()), cols_(m.cols()) {
    static_assert(std::is_same_v<typename D::Scalar, T>,
                  "repquant: the matrix has another scalar type; write m.cast<float>().eval()");
    static_assert(detail::RowMajorStorage<D>,
                  "repquant: needs a row-major matrix with storage; write repquant::matrix<>(m)");
    if constexpr (detail::RowMajorStorage<D>) {
      data_ = m.derived().data();
      stride_ = D::ColsAtCompileTime == 1 && !D::IsRowMajor ? 1 : m.derived().outerStride();
    }
  }

  [[nodiscard]] constexpr const T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr index rows() const noexcept { return rows_; }
  [[nodiscard]] constexpr index cols() const noexcept { return cols_; }
  [[nodiscard]] constexpr index stride() const noexcept { return stride_; }
  [[nodiscard]] constexpr shape size() const noexcept { return {rows_, cols_}; }
  [[nodiscard]] constexpr bool empty() const noexcept { return rows_ == 0 || cols_ == 0; }
  [[nodiscard]] constexpr std::span<const T> row(index i) const noexcept {
    return {data_ + i * stride_, static_cast<std::size_t>(cols_)};
  }
  [[nodiscard]] constexpr const T& operator()(index i, index j) const noexcept {
    return data_[i * stride_ + j];
  }
  /// The same values as an Eigen expression.
  [[nodiscard]] auto eigen() const noexcept {
    using Map = Eigen::Map<const matrix<T>, 0, Eigen::OuterStride<>>;
    return Map(data_, rows_, cols_, Eigen::OuterStride<>(stride_));
  }

 private:
  const T* data_ = nullptr;
  index rows_ = 0;
  index cols_ = 0;
  index stride_ = 0;
};
/// What host functions take: float, row-major.
using matrix_view = basic_matrix_view<float>;

/// Nothing, or a failure at `place`: empty where there are no entries, non_finite with the count of NaN
/// and infinities. Cost: one pass.
inline failure check_finite(matrix_view m, std::string_view place) noexcept {
  if (m.empty()) return {errc::empty, place, m.rows() * m.cols(), 1};
  index bad = 0;
  for (index i = 0; i < m.rows(); ++i) {
    for (float v : m.row(i)) bad += std::isfinite(v) ? 0 : 1;
  }
  return bad == 0 ? failure{} : failure{errc::non_finite, place, bad, 0};
}

}  // namespace repquant
