// SPDX-License-Identifier: MIT
/// What can be said of exact integer sums before any is made.
#pragma once

#include <repquant/core/shape.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace repquant {

/// The largest |q - zero_point| over codes 0 .. levels - 1.
constexpr std::int64_t center_largest(std::int32_t zero_point, int levels = 256) noexcept {
  const std::int64_t low = zero_point;
  const std::int64_t high = levels - 1 - static_cast<std::int64_t>(zero_point);
  return std::max(low < 0 ? -low : low, high < 0 ? -high : high);
}

/// The most products |a| |b| <= max_a max_b of which every sum, and every part of it, fits an int32.
constexpr index most_products(std::int64_t max_a, std::int64_t max_b) noexcept {
  const std::int64_t largest = max_a * max_b;
  return largest == 0 ? std::numeric_limits<index>::max() : static_cast<index>(0x7FFFFFFF / largest);
}
/// True where every sum of k of them does.
constexpr bool product_fits(index k, std::int64_t max_a, std::int64_t max_b) noexcept {
  return k <= most_products(max_a, max_b);
}

}  // namespace repquant
