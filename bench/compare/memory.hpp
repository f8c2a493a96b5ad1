// SPDX-License-Identifier: MIT
/// The memory of every operand, ours and the peers': on huge pages where it is large, so that no contender
/// has another kind of page than the others.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <vector>

namespace compare {

/// Memory of at least `bytes`; from 1 MiB on it starts on a huge page and asks for huge pages.
inline void* allocate(std::size_t bytes, std::size_t alignment = 64) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  constexpr std::size_t spare = 64;  // XNNPACK reads a little beyond its operands
  const bool large = bytes >= huge / 2;
  if (large && alignment < huge) alignment = huge;
  void* p = std::aligned_alloc(alignment, ((bytes + spare) / alignment + 1) * alignment);
  if (p == nullptr) std::abort();
  if (large) static_cast<void>(::madvise(p, bytes, MADV_HUGEPAGE));
  return p;
}

template<class T>
struct allocator {
  using value_type = T;
  allocator() = default;
  template<class U>
  explicit allocator(const allocator<U>& /*other*/) noexcept {}
  T* allocate(std::size_t n) { return static_cast<T*>(compare::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t /*n*/) noexcept { std::free(p); }
  friend bool operator==(const allocator&, const allocator&) noexcept { return true; }
};

/// Values on such memory.
template<class T>
using buffer = std::vector<T, allocator<T>>;

}  // namespace compare
