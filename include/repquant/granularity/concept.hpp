// SPDX-License-Identifier: MIT
/// Granularity: which parameter set entry (i, j) of a matrix uses.
///
/// Laws (testing/granularity_laws.hpp): group is in [0, groups); it does not change inside a run; a run
/// divides the columns.
#pragma once

#include <repquant/core/shape.hpp>

#include <concepts>

namespace repquant {

/// groups(s): how many parameter sets a matrix of shape s has (0 where the granularity does not fit it).
/// group(s, i, j): the set of entry (i, j). run(s): how many consecutive entries of a row share one.
template<class G>
concept Granularity = std::copyable<G> && requires(const G g, shape s, index i, index j) {
  { g.groups(s) } -> std::same_as<index>;
  { g.group(s, i, j) } -> std::same_as<index>;
  { g.run(s) } -> std::same_as<index>;
};

}  // namespace repquant
