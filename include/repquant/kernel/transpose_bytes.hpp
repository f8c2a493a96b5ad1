// SPDX-License-Identifier: MIT
/// transpose_bytes: a matrix of bytes with its rows and columns exchanged.
#pragma once

#include <repquant/core/shape.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace repquant {

namespace detail {

/// Exchanges rows and columns of 8 x 8 bytes, byte j of word i being entry (i, j): of blocks of 4, then of 2,
/// then of 1, those off the diagonal change places.
inline void transpose_words(std::array<std::uint64_t, 8>& w) noexcept {
  const auto exchange = [&w](std::size_t distance, int bits, std::uint64_t low) {
    for (std::size_t i = 0; i < 8; ++i) {
      if ((i & distance) != 0) continue;
      const std::uint64_t a = w[i];
      const std::uint64_t b = w[i + distance];
      w[i] = (a & low) | ((b & low) << bits);
      w[i + distance] = ((a >> bits) & low) | (b & ~low);
    }
  };
  exchange(4, 32, 0x00000000FFFFFFFFULL);
  exchange(2, 16, 0x0000FFFF0000FFFFULL);
  exchange(1, 8, 0x00FF00FF00FF00FFULL);
}

}  // namespace detail

/// to[j * to_stride + i] = from[i * from_stride + j], i < rows, j < cols.
///
/// Shapes    from [rows x cols], to [cols x rows]
/// Requires  strides as large as a row at least; no overlap
/// Cost      about one operation per byte in squares of 8, two at the edges
inline void transpose_bytes(const std::uint8_t* from, index from_stride, index rows, index cols,
                            std::uint8_t* to, index to_stride) noexcept {
  const index square_rows = rows - rows % 8;
  const index square_cols = cols - cols % 8;
  for (index i = 0; i < square_rows; i += 8) {
    for (index j = 0; j < square_cols; j += 8) {
      std::array<std::uint64_t, 8> w;
      for (std::size_t k = 0; k < 8; ++k)
        std::memcpy(&w[k], from + (i + static_cast<index>(k)) * from_stride + j, sizeof w[k]);
      detail::transpose_words(w);
      for (std::size_t k = 0; k < 8; ++k)
        std::memcpy(to + (j + static_cast<index>(k)) * to_stride + i, &w[k], sizeof w[k]);
    }
  }
  for (index i = 0; i < rows; ++i) {
    for (index j = i < square_rows ? square_cols : 0; j < cols; ++j)
      to[j * to_stride + i] = from[i * from_stride + j];
  }
}

}  // namespace repquant
