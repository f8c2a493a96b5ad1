// SPDX-License-Identifier: MIT
/// The four granularities: their laws, and which set an entry uses.
#include <repquant/granularity/granularities.hpp>
#include <repquant/testing/granularity_laws.hpp>

#include "catch.hpp"

namespace rq = repquant;

TEST_CASE("granularities: laws, over shapes", "[granularity]") {
  for (rq::index rows : {0, 1, 2, 7}) {
    for (rq::index cols : {0, 1, 2, 12, 64}) {
      const rq::shape s{rows, cols};
      CAPTURE(rows, cols);
      CHECK(rq::testing::broken_law(rq::per_tensor{}, s) == nullptr);
      CHECK(rq::testing::broken_law(rq::per_row{}, s) == nullptr);
      CHECK(rq::testing::broken_law(rq::per_col{}, s) == nullptr);
      for (rq::index size : {-1, 0, 1, 2, 5, 12, 32}) {
        CHECK(rq::testing::broken_law(rq::per_group{size}, s) == nullptr);
      }
    }
  }
}

TEST_CASE("granularities: groups and runs", "[granularity]") {
  constexpr rq::shape s{3, 64};
  static_assert(rq::per_tensor{}.groups(s) == 1 && rq::per_tensor{}.run(s) == 64);
  static_assert(rq::per_row{}.groups(s) == 3 && rq::per_row{}.group(s, 2, 63) == 2 &&
                rq::per_row{}.run(s) == 64);
  static_assert(rq::per_col{}.groups(s) == 64 && rq::per_col{}.group(s, 2, 63) == 63 &&
                rq::per_col{}.run(s) == 1);
  static_assert(rq::per_group{32}.groups(s) == 6 && rq::per_group{32}.group(s, 1, 31) == 2);
  static_assert(rq::per_group{32}.group(s, 1, 32) == 3 && rq::per_group{32}.run(s) == 32);
  CHECK(rq::per_group{48}.groups(s) == 0);  // does not divide 64
  CHECK(rq::per_group{0}.groups(s) == 0);
}
