// SPDX-License-Identifier: MIT
/// A text cut into windows of tokens.
#pragma once

#include <repquant/core/shape.hpp>

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

}  // namespace examples
