// SPDX-License-Identifier: MIT
/// How fast two ways to do the same are, measured in turns, so that what else the machine does hits both.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace examples {

/// Median seconds of a call of each.
struct speed_pair {
  double first = 0;
  double second = 0;
  /// How many times as fast the second is.
  [[nodiscard]] double ratio() const { return first / second; }
};

/// Calls first() and second() in turns, `rounds` times each, after one call of each that does not count.
template<class F, class G>
speed_pair measure_in_turns(int rounds, const F& first, const G& second) {
  const auto seconds = [](const auto& f) {
    const auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  first();
  second();
  std::vector<double> times[2];
  for (int i = 0; i < rounds; ++i) {
    times[0].push_back(seconds(first));
    times[1].push_back(seconds(second));
  }
  const auto median = [](std::vector<double>& t) {
    const auto middle = t.begin() + static_cast<std::ptrdiff_t>(t.size() / 2);
    std::nth_element(t.begin(), middle, t.end());
    return *middle;
  };
  return {median(times[0]), median(times[1])};
}

}  // namespace examples
