// SPDX-License-Identifier: MIT
/// splitmix64: a small random generator that is the same on every machine.
#pragma once

#include <repquant/core/shape.hpp>

#include <cstdint>

namespace repquant {

/// A sequence of 64-bit numbers from a seed.
///
/// Source  Steele, Lea, Flood 2014 (doi 10.1145/2660193.2660195); constants of Vigna's public-domain code
struct splitmix64 {
  std::uint64_t state = 0;

  constexpr std::uint64_t operator()() noexcept {
    state += 0x9E3779B97F4A7C15ULL;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  /// The generator of one of many sequences: what it gives depends on both numbers, and on nothing drawn
  /// before.
  static constexpr splitmix64 of(std::uint64_t seed, std::uint64_t number) noexcept {
    splitmix64 r{seed + 0x9E3779B97F4A7C15ULL * number};
    return {r()};
  }
  /// A multiple of 2^-24 in [0, 1).
  constexpr float unit() noexcept { return static_cast<float>((*this)() >> 40) * 0x1p-24F; }
  /// A number in 0 .. n-1 (the small bias of the remainder does not matter here).
  ///
  /// Requires  n > 0
  constexpr index below(index n) noexcept {
    return static_cast<index>((*this)() % static_cast<std::uint64_t>(n));
  }
};

}  // namespace repquant
