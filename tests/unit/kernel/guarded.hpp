// SPDX-License-Identifier: MIT
/// Memory whose first byte outside, on both sides, is a page that may not be touched: a kernel that reads or
/// writes beyond its span stops the program.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>
#include <sys/mman.h>
#include <type_traits>
#include <unistd.h>

namespace guarded {

/// Where the span touches a forbidden page.
enum class edge { front, back };

/// n values of T between two forbidden pages. A span that is no whole number of pages can touch only one of
/// them: take both edges in turn.
template<class T>
requires std::is_trivially_copyable_v<T>
class memory {
 public:
  memory(std::size_t n, edge touching) : n_(n) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = n * sizeof(T);
    const std::size_t inside = (bytes + page - 1) / page * page;
    all_ = inside + 2 * page;
    base_ = static_cast<std::byte*>(mmap(nullptr, all_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) std::abort();
    if (inside > 0 && mprotect(base_ + page, inside, PROT_READ | PROT_WRITE) != 0) std::abort();
    first_ = base_ + page + (touching == edge::front ? 0 : inside - bytes);
  }
  memory(std::span<const T> from, edge touching) : memory(from.size(), touching) {
    if (n_ > 0) std::memcpy(first_, from.data(), n_ * sizeof(T));
  }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() { munmap(base_, all_); }

  [[nodiscard]] T* data() const noexcept { return reinterpret_cast<T*>(first_); }
  [[nodiscard]] std::span<T> span() const noexcept { return {data(), n_}; }

 private:
  std::size_t n_;
  std::size_t all_ = 0;
  std::byte* base_ = nullptr;
  std::byte* first_ = nullptr;
};

}  // namespace guarded
