// SPDX-License-Identifier: MIT
/// cosine_schedule: a learning rate that falls from its first value to its last.
#pragma once

#include <repquant/core/shape.hpp>

#include <cmath>
#include <numbers>

namespace repquant {

/// The factor of the learning rate at step k of n: last + (1 - last) (1 + cos(pi k / n)) / 2.
///
/// Requires  0 <= k <= n, n > 0
/// Source    arXiv 1608.03983 eq. 5, without restarts
inline float cosine_schedule(index k, index n, float last = 0) {
  const double turn = std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
  return static_cast<float>(static_cast<double>(last) +
                            (1 - static_cast<double>(last)) * (1 + std::cos(turn)) / 2);
}

}  // namespace repquant
