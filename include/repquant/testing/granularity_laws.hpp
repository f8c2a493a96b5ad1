// SPDX-License-Identifier: MIT
/// The laws of a Granularity, as a function that runs them: for users who write their own.
#pragma once

#include <repquant/granularity/concept.hpp>

namespace repquant::testing {

/// The name of the first law of a Granularity that `g` breaks on a matrix of shape s, or nullptr. A
/// granularity that says it does not fit the shape (no groups) breaks none.
///
///   "groups"  the number of groups is not negative
///   "run"     a run has at least one entry and divides the columns
///   "group"   every entry's group is in 0 .. groups-1
///   "change"  the group does not change inside a run
///
/// Cost      one visit of every entry; no heap
template<Granularity G>
inline const char* broken_law(const G& g, shape s) noexcept {
  const index groups = g.groups(s);
  if (groups < 0) return "groups";
  if (groups == 0 || s.rows <= 0 || s.cols <= 0) return nullptr;
  const index run = g.run(s);
  if (run < 1 || s.cols % run != 0) return "run";
  for (index i = 0; i < s.rows; ++i) {
    for (index j = 0; j < s.cols; ++j) {
      const index group = g.group(s, i, j);
      if (group < 0 || group >= groups) return "group";
      if (group != g.group(s, i, j - j % run)) return "change";
    }
  }
  return nullptr;
}

}  // namespace repquant::testing
