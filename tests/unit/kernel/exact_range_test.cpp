// SPDX-License-Identifier: MIT
#include <repquant/kernel/exact_range.hpp>

#include "catch.hpp"

namespace rq = repquant;

TEST_CASE("center_largest is the largest centred magnitude") {
  STATIC_REQUIRE(rq::center_largest(0) == 255);
  STATIC_REQUIRE(rq::center_largest(128) == 128);
  STATIC_REQUIRE(rq::center_largest(-100, 16) == 115);
  STATIC_REQUIRE(rq::center_largest(300, 16) == 300);
}

TEST_CASE("product_fits is exact at the edge of int32") {
  STATIC_REQUIRE(rq::product_fits(33025, 255, 255));  // 33025 65025 = 2^31 - 1 - 33022
  STATIC_REQUIRE(!rq::product_fits(33026, 255, 255));
  STATIC_REQUIRE(rq::product_fits(1 << 30, 0, 1 << 30));
  STATIC_REQUIRE(rq::product_fits(1, 1, 0x7FFFFFFF));
  STATIC_REQUIRE(!rq::product_fits(2, 1, 0x7FFFFFFF));
}
