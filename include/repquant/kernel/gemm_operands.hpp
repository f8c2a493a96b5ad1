// SPDX-License-Identifier: MIT
/// What one call of a product kernel works on: a few rows of codes and a few panels of packed weights.
#pragma once

#include <repquant/core/shape.hpp>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace repquant {

/// How a panel holds its weights. The numbers are part of packed weights: never reused.
enum class panel_storage : std::uint8_t {
  pairs = 0,    ///< int16, [k / 2][width][2]
  bytes = 1,    ///< int8, [k / 4][width][4]
  nibbles = 2,  ///< 0 .. 15, [k / 8][width][4]: a byte holds places k and k + 4
};

namespace detail {

/// Operands of a tile; what is not used is null.
struct tile_operands {
  /// Rows of activations, u8: for bytes and nibbles. Where activations are taken in halves, four low ones and
  /// four high ones in turn, and k a multiple of 8
  const std::uint8_t* codes = nullptr;
  const std::int16_t* words = nullptr;   ///< rows of activations, int16: for pairs
  index stride = 0;                      ///< values from one row to the next
  index k = 0;                           ///< values in a row
  const std::byte* panel = nullptr;      ///< first panel
  index panel_bytes = 0;                 ///< from one panel to the next
  bool fetches = false;                  ///< this tile is the first to read its panel, from memory
  index run = 1;                         ///< how many 8 places an int16 sum holds
  index groups = 1;                      ///< groups of places in a row
  index group = 0;                       ///< with groups: places in one
  const std::int32_t* offset = nullptr;  ///< [panels x groups x width], start of each sum
  const std::int32_t* slope =
      nullptr;  ///< the same, times row_sums onto the start; null: row_sums as they are
  const std::int32_t* row_sums = nullptr;  ///< [rows x groups]
  const float* scale = nullptr;            ///< [panels x groups x width], with groups
  std::int32_t* sums = nullptr;            ///< [rows x (panels * width)]
  index sums_stride = 0;                   ///< from one row of sums, or of requantized values, to the next
  float* reals = nullptr;                  ///< the same, with groups, contiguous
  const float* multiplier = nullptr;       ///< [panels x width]; if there, without groups, reals take
  const float* addend = nullptr;           ///< real(sum) multiplier + addend, and sums nothing
};

/// Rows and panels that one call multiplies.
using tile_function = void (*)(const tile_operands&) noexcept;

/// Operands of a row of which only some places are listed (power_list.hpp, listed_row.inc).
struct listed_operands {
  const std::uint32_t* fours = nullptr;  ///< four bytes of the row each, the first place lowest
  const std::uint32_t* at = nullptr;     ///< byte of the panel that holds these places
  index count = 0;
  std::int32_t row_sum = 0;
  const std::byte* panel = nullptr;     ///< first panel, of bytes
  index panel_bytes = 0;                ///< from one panel to the next
  const std::int32_t* slope = nullptr;  ///< [panels x width], times row_sum onto the sums; null: 0
  std::int32_t* sums = nullptr;         ///< [panels * width]
};

/// A row and panels that one call multiplies.
using listed_function = void (*)(const listed_operands&) noexcept;

}  // namespace detail
}  // namespace repquant
