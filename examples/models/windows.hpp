// SPDX-License-Identifier: MIT
/// A text cut into windows of tokens.
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/train/splitmix64.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace examples {

/// Windows of `length` tokens that start every `stride` tokens, at most `most` of them, the first ones; what
/// does not fill a window is left out.
///
/// Requires  length >= 1, stride >= 1
inline std::vector<std::span<const std::int32_t>> windows_of(std::span<const std::int32_t> ids,
                                                             std::size_t length, std::size_t stride,
                                                             std::size_t most) {
  std::vector<std::span<const std::int32_t>> all;
  for (std::size_t at = 0; at + length <= ids.size() && all.size() < most; at += stride)
    all.push_back(ids.subspan(at, length));
  return all;
}

/// Where a window starts that is one of those with these numbers, which rise, or lies between it and the next
/// one where that is among them, too; window w starts at w stride.
inline std::size_t window_start(repquant::splitmix64& random, std::span<const repquant::index> among,
                                repquant::index stride) {
  const auto k = static_cast<std::size_t>(random.below(static_cast<repquant::index>(among.size())));
  const bool followed = k + 1 < among.size() && among[k + 1] == among[k] + 1;
  return static_cast<std::size_t>(among[k] * stride + (followed ? random.below(stride) : 0));
}

}  // namespace examples
