// SPDX-License-Identifier: MIT
/// The checksum of saved models and packed weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace repquant {

/// FNV-1a, 64 bits, going on from `h`.
constexpr std::uint64_t checksum(std::span<const std::byte> bytes,
                                 std::uint64_t h = 14695981039346656037ULL) noexcept {
  for (std::byte b : bytes) h = (h ^ static_cast<std::uint64_t>(b)) * 1099511628211ULL;
  return h;
}

/// The checksum of a header that has a member `checksum`, taken as zero, and of all that follows it.
template<class Header>
requires requires(Header h) { h.checksum = std::uint64_t{0}; }
inline std::uint64_t checksum(Header h, std::span<const std::byte> rest) noexcept {
  h.checksum = 0;
  return checksum(rest, checksum(std::as_bytes(std::span<const Header>(&h, 1))));
}

}  // namespace repquant
