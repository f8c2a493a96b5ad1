// SPDX-License-Identifier: MIT
/// The four granularities. Small enough to stand in one file.
#pragma once

#include <repquant/granularity/concept.hpp>

namespace repquant {

/// One parameter set for the whole matrix ("layer-wise" in RepQ-ViT).
struct per_tensor {
  [[nodiscard]] constexpr index groups(shape) const noexcept { return 1; }
  [[nodiscard]] constexpr index group(shape, index, index) const noexcept { return 0; }
  [[nodiscard]] constexpr index run(shape s) const noexcept { return s.cols; }
};

/// One per row: an output channel of weights [out x in], a token of activations.
struct per_row {
  [[nodiscard]] constexpr index groups(shape s) const noexcept { return s.rows; }
  [[nodiscard]] constexpr index group(shape, index i, index) const noexcept { return i; }
  [[nodiscard]] constexpr index run(shape s) const noexcept { return s.cols; }
};

/// One per column: a channel of activations [tokens x channels] ("channel-wise").
struct per_col {
  [[nodiscard]] constexpr index groups(shape s) const noexcept { return s.cols; }
  [[nodiscard]] constexpr index group(shape, index, index j) const noexcept { return j; }
  [[nodiscard]] constexpr index run(shape) const noexcept { return 1; }
};

/// One per row and per `size` consecutive columns. Fits only where size divides the columns.
struct per_group {
  index size = 32;
  [[nodiscard]] constexpr index groups(shape s) const noexcept {
    return size > 0 && s.cols % size == 0 ? s.rows * (s.cols / size) : 0;
  }
  [[nodiscard]] constexpr index group(shape s, index i, index j) const noexcept {
    return i * (s.cols / size) + j / size;
  }
  [[nodiscard]] constexpr index run(shape) const noexcept { return size; }
};

}  // namespace repquant
