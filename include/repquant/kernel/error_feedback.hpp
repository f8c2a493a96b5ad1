// SPDX-License-Identifier: MIT
/// error_feedback: what the error of a code does to the values that are coded after it.
#pragma once

#include <repquant/core/shape.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace repquant {

/// How the error of a code moves the values that are coded after it.
///
/// Channels stand in blocks of `block`, of which the last may be smaller. A block of n codes its channel
/// order[i] in step i, and an error e of it moves the channel of each later step j by unit[i] e times the
/// integer reach(i, j). Those are stored for i = 0, 1, ..: j = i + 1 .. n - 1, block behind block.
struct error_feedback {
  /// The largest block.
  static constexpr index most = 256;

  index block = 0;
  std::span<const std::uint8_t> order;  ///< [cols]: of each block, a permutation of 0 .. n - 1
  std::span<const float> unit;          ///< [cols], by step
  std::span<const std::int8_t> reach;   ///< [reach_of(cols, block)]

  /// How many integers a block of n channels has.
  static constexpr std::size_t reach_of(index n) noexcept {
    return static_cast<std::size_t>(n * (n - 1) / 2);
  }
  /// How many all blocks have.
  static constexpr std::size_t reach_of(index cols, index block) noexcept {
    return static_cast<std::size_t>(cols / block) * reach_of(block) + reach_of(cols % block);
  }
};

}  // namespace repquant
