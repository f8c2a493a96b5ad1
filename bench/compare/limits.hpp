// SPDX-License-Identifier: MIT
/// What this machine can do at most, measured by loops that do nothing else.
#pragma once

#include "race.hpp"
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace compare {

/// A loop on registers, or a stream from memory.
struct machine_limit {
  std::string name;  ///< instructions, or the level of memory
  std::string unit;  ///< GOPS (two for a multiply-add) or GB/s
  double value = 0;
};

/// The limits of this machine on one thread: the best round of each loop, as a limit is not an average.
std::vector<machine_limit> measure_limits(const race_rules& rules);

/// The value of a limit by its name, NaN where it is not there.
inline double limit_named(const std::vector<machine_limit>& all, std::string_view name) {
  for (const machine_limit& l : all) {
    if (l.name == name) return l.value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace compare
