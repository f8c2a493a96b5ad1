// SPDX-License-Identifier: MIT
/// team: an executor whose threads wait for the next call instead of starting with it, as those of the peers
/// do.
#pragma once

#include <repquant/parallel/concept.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace compare {

/// Runs pieces on `count` threads, the calling one among them. Between calls the others spin for a moment and
/// then sleep. One call at a time.
class team {
 public:
  explicit team(int count) : state_(std::make_shared<state>(count)) {}

  template<class F>
  void operator()(repquant::index n, const F& f) const {
    state& s = *state_;
    s.next = 0;
    s.pieces = n;
    s.work = [&f](repquant::index i) { f(i); };
    s.busy = static_cast<int>(s.members.size());
    s.call.fetch_add(1, std::memory_order_release);
    s.call.notify_all();
    s.take();
    while (s.busy.load(std::memory_order_acquire) != 0) relax();
  }

 private:
  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  struct state {
    explicit state(int count) {
      for (int i = 1; i < count; ++i) members.emplace_back([this] { live(); });
    }
    ~state() {
      ending = true;
      call.fetch_add(1);
      call.notify_all();
      for (std::thread& t : members) t.join();
    }
    state(const state&) = delete;
    state& operator=(const state&) = delete;

    void take() {
      for (repquant::index i = next.fetch_add(1); i < pieces; i = next.fetch_add(1)) work(i);
    }
    void live() {
      for (int seen = 0;;) {
        for (int spins = 0; call.load(std::memory_order_acquire) == seen; ++spins) {
          if (spins > 4000) call.wait(seen);
          relax();
        }
        seen = call.load(std::memory_order_acquire);
        if (ending) return;
        take();
        busy.fetch_sub(1, std::memory_order_release);
      }
    }

    std::atomic<int> call{0};
    std::atomic<int> busy{0};
    std::atomic<bool> ending{false};
    std::atomic<repquant::index> next{0};
    repquant::index pieces = 0;
    std::function<void(repquant::index)> work;
    std::vector<std::thread> members;
  };
  std::shared_ptr<state> state_;
};
static_assert(repquant::Executor<team>);

}  // namespace compare
