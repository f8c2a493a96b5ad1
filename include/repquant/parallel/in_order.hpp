// SPDX-License-Identifier: MIT
/// in_order: sums whose parts are made in parallel and added in order, a few parts in memory at a time.
#pragma once

#include <repquant/parallel/concept.hpp>

#include <algorithm>
#include <vector>

namespace repquant {

/// make(i, part) for i in 0 .. n-1 on the executor, then add(i, part) on the calling thread for i in order:
/// what add() sums has the same bits for any executor. A part comes to make() as an earlier one left it, so
/// that its memory can serve again.
///
/// Cost  memory: 16 parts
template<class Part, Executor E, class Make, class Add>
void in_order(index n, const E& exec, const Make& make, const Add& add) {
  constexpr index wave = 16;
  std::vector<Part> parts(static_cast<std::size_t>(std::clamp<index>(n, 0, wave)));
  for (index first = 0; first < n; first += wave) {
    const index count = std::min(wave, n - first);
    exec(count, [&](index i) { make(first + i, parts[static_cast<std::size_t>(i)]); });
    for (index i = 0; i < count; ++i) add(first + i, parts[static_cast<std::size_t>(i)]);
  }
}

}  // namespace repquant
