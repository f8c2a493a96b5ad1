// SPDX-License-Identifier: MIT
/// Random numbers that are the same everywhere: the standard library's distributions are not.
#pragma once

#include <repquant/core/shape.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace examples {

/// Steele, Lea and Flood's generator (OOPSLA 2014), 64 bits of state.
struct splitmix64 {
  std::uint64_t state = 0;

  constexpr std::uint64_t operator()() noexcept {
    state += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }
};

/// Brings `count` entries of `all`, drawn without replacement, to its front. The remainder of a division
/// stands for a uniform choice: off by less than 2^-50 for the sizes here.
///
/// Requires  0 <= count <= entries
inline void shuffle_front(splitmix64& random, std::vector<repquant::index>& all, repquant::index count) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const std::uint64_t left = all.size() - i;
    std::swap(all[i], all[i + static_cast<std::size_t>(random() % left)]);
  }
}

/// `count` different numbers of first .. last - 1, in rising order.
///
/// Requires  0 <= count <= last - first
inline std::vector<repquant::index> choose(splitmix64& random, repquant::index first, repquant::index last,
                                           repquant::index count) {
  std::vector<repquant::index> all;
  for (repquant::index i = first; i < last; ++i) all.push_back(i);
  shuffle_front(random, all, count);
  all.resize(static_cast<std::size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace examples
