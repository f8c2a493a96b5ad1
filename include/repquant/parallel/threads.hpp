// SPDX-License-Identifier: MIT
/// threads: an executor on std::thread.
#pragma once

#include <repquant/parallel/concept.hpp>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace repquant {

/// Runs pieces on `count` threads, the calling one among them. The threads live as long as the call: no pool,
/// no state, nothing to shut down.
///
/// Requires  count >= 0; 0 means as many as the machine has
/// Cost      about 20 us per thread and call, so pieces should take longer than that. Pieces are handed out
///           one at a time, so they need not take equally long
///
/// Example   threads{.count = 4}(rows, [&](index i) { out[i] = work(i); });
struct threads {
  int count = 0;

  template<class F>
  void operator()(index n, const F& f) const {
    const index asked =
        count > 0 ? count : std::max<index>(1, static_cast<index>(std::thread::hardware_concurrency()));
    const index workers = std::min(asked, n);
    if (workers <= 1) {
      for (index i = 0; i < n; ++i) f(i);
      return;
    }
    std::atomic<index> next{0};
    const auto work = [&next, &f, n] {
      for (index i = next.fetch_add(1, std::memory_order_relaxed); i < n;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        f(i);
      }
    };
    std::vector<std::thread> team;
    team.reserve(static_cast<std::size_t>(workers - 1));
    for (index i = 1; i < workers; ++i) team.emplace_back(work);
    work();
    for (std::thread& member : team) member.join();  // also makes what they wrote visible
  }
};
static_assert(Executor<threads>);

}  // namespace repquant
