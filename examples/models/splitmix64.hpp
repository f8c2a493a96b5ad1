// SPDX-License-Identifier: MIT
/// Random numbers that are the same everywhere: the standard library's distributions are not.
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/train/splitmix64.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace examples {

using repquant::splitmix64;

/// `count` different numbers of first .. last - 1, in rising order. The remainder of a division stands for a
/// uniform choice: off by less than 2^-50 for the sizes here.
///
/// Requires  0 <= count <= last - first
inline std::vector<repquant::index> choose(splitmix64& random, repquant::index first, repquant::index last,
                                           repquant::index count) {
  std::vector<repquant::index> all;
  for (repquant::index i = first; i < last; ++i) all.push_back(i);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const std::uint64_t left = all.size() - i;
    std::swap(all[i], all[i + static_cast<std::size_t>(random() % left)]);
  }
  all.resize(static_cast<std::size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace examples
