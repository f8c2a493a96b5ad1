// SPDX-License-Identifier: MIT
/// How contenders are timed: in rounds, each of which runs every contender once, so that a ratio is one of
/// neighbours in time.
#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace compare {

/// Something that is timed.
struct contender {
  std::string name;
  std::function<void()> run;
  std::string note = {};  ///< what a reader of its row must know
};

/// Which seconds count.
enum class clock_kind : unsigned char {
  wall,  ///< those on the wall
  cpu,   ///< those that this process spent on a CPU, all of its threads together: on a machine with other
         ///< work what a lone one-thread contender takes on the wall
};

struct race_rules {
  int rounds = 11;
  double milliseconds = 10;  ///< of one contender in one round, at least one call
  double pause = 1;          ///< milliseconds before each, for the idle threads of others to go to sleep
  clock_kind clock = clock_kind::wall;
};

/// Seconds of one call.
struct timing {
  double median = 0;
  double least = 0;
  double spread = 0;  ///< upper over lower quartile
};

namespace detail {

inline double now(clock_kind kind) {
  timespec t{};
  ::clock_gettime(kind == clock_kind::cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
/// Seconds of `calls` calls.
inline double seconds(const contender& c, long calls, clock_kind kind) {
  const double start = now(kind);
  for (long i = 0; i < calls; ++i) c.run();
  return now(kind) - start;
}

}  // namespace detail

/// The times of all contenders. Before each timed stretch there are a pause and one call that does not count;
/// every other round goes the other way round.
inline std::vector<timing> race(const std::vector<contender>& all, const race_rules& rules) {
  std::vector<long> calls;
  for (const contender& c : all) {
    c.run();
    long n = 1;
    double t = detail::seconds(c, n, rules.clock);
    while (t < rules.milliseconds * 2e-4 && n < (1L << 30)) t = detail::seconds(c, n *= 4, rules.clock);
    calls.push_back(std::max(1L, static_cast<long>(rules.milliseconds * 1e-3 / t * static_cast<double>(n))));
  }
  std::vector<std::vector<double>> times(all.size());
  for (int r = 0; r < rules.rounds; ++r) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t k = r % 2 == 0 ? i : all.size() - 1 - i;
      std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(rules.pause));
      all[k].run();
      times[k].push_back(detail::seconds(all[k], calls[k], rules.clock) / static_cast<double>(calls[k]));
    }
  }
  std::vector<timing> result;
  for (std::vector<double>& t : times) {
    std::sort(t.begin(), t.end());
    result.push_back({t[t.size() / 2], t[0], t[t.size() * 3 / 4] / t[t.size() / 4]});
  }
  return result;
}

}  // namespace compare
