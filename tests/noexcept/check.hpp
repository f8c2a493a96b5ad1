// SPDX-License-Identifier: MIT
/// Counts and prints failed checks.
#pragma once

#include <cstdio>

/// Checks of one part of the library.
class checks {
 public:
  explicit checks(const char* part) noexcept : part_(part) {}
  void that(bool holds, const char* sentence) noexcept {
    if (holds) return;
    ++failed_;
    std::printf("%s: not so: %s\n", part_, sentence);
  }
  [[nodiscard]] int failed() const noexcept { return failed_; }

 private:
  const char* part_;
  int failed_ = 0;
};
