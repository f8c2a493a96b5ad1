// SPDX-License-Identifier: MIT
/// What can be said of exact integer sums before any is made.
#pragma once

#include <repquant/core/shape.hpp>

#include <algorithm>
#include <cstdint>

namespace repquant {

/// The largest |q - zero_point| over codes 0 .. levels - 1.
constexpr std::int64_t center_largest(std::int32_t zero_point, int levels = 256) noexcept {
  const std::int64_t low = zero_point;
  const std::int64_t high = levels - 1 - static_cast<std::int64_t>(zero_point);
  return std::max(low < 0 ? -low : low, high < 0 ? -high : high);
}

/// True where every sum of k products |a| |b| <= max_a max_b, and every part of it, fits an int32.
constexpr bool product_fits(index k, std::int64_t max_a, std::int64_t max_b) noexcept {
  const std::int64_t largest = max_a * max_b;
  return largest == 0 || k <= 0x7FFFFFFF / largest;
}

}  // namespace repquant
