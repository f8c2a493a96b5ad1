// SPDX-License-Identifier: MIT
/// The epilogue of gemm that keeps the sums themselves.
#pragma once

#include <repquant/core/shape.hpp>

#include <algorithm>
#include <cstdint>

namespace repquant {

/// to[row][column + i] = sums[i].
struct sum_rows {
  std::int32_t* to = nullptr;
  index stride = 0;
  /// Where tiles store their sums themselves.
  [[nodiscard]] std::int32_t* place(index row, index column) const noexcept {
    return to + row * stride + column;
  }
  void operator()(index row, index column, const std::int32_t* sums, index count) const noexcept {
    std::copy(sums, sums + count, to + row * stride + column);
  }
  /// Sums that were not proved to fit an int32 are for those who asked for int64.
  void operator()(index row, index column, const std::int64_t* sums, index count) const noexcept {
    std::transform(sums, sums + count, to + row * stride + column,
                   [](std::int64_t s) { return static_cast<std::int32_t>(s); });
  }
};

}  // namespace repquant
