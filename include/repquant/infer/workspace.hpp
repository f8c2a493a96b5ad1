// SPDX-License-Identifier: MIT
/// Parts of the caller's memory: how a workspace is counted and cut up.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/core/shape.hpp>

#include <cstdint>
#include <span>

namespace repquant {

/// Every part of a workspace starts on a multiple of this many bytes.
inline constexpr std::size_t workspace_alignment = 64;

/// The bytes that `count` values of T take from a workspace, rounded up to the alignment.
template<class T>
constexpr std::size_t workspace_bytes_of(index count) noexcept {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  return (bytes + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
}

/// Cuts parts off a workspace, one after the other. The first skips to the alignment, which a size query
/// has to allow for: workspace_alignment bytes on top of the sum of its parts.
class workspace_parts {
 public:
  explicit workspace_parts(std::span<std::byte> all) noexcept : rest_(all) {
    const auto past = reinterpret_cast<std::uintptr_t>(all.data()) % workspace_alignment;
    if (past != 0) rest_ = rest_.subspan(workspace_alignment - past);
  }
  /// The next `count` values of T, not initialised.
  template<class T>
  std::span<T> take(index count) noexcept {
    const std::size_t bytes = workspace_bytes_of<T>(count);
    REPQUANT_ASSERT(bytes <= rest_.size());
    T* first = reinterpret_cast<T*>(rest_.data());
    rest_ = rest_.subspan(bytes);
    return {first, static_cast<std::size_t>(count)};
  }
  /// What nobody has taken.
  [[nodiscard]] std::span<std::byte> rest() const noexcept { return rest_; }

 private:
  std::span<std::byte> rest_;
};

}  // namespace repquant
