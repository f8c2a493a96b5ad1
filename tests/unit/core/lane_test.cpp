// SPDX-License-Identifier: MIT
/// Lanes: a register gives each element what a float gets.
#include <repquant/testing/lane_laws.hpp>

#include "catch.hpp"
#include <cmath>
#include <limits>
#include <string>

namespace rq = repquant;

TEST_CASE("lane: every operation, register and float", "[core]") {
  const char* registers = rq::testing::broken_lane_law<rq::default_arch>();
  CHECK(std::string(registers == nullptr ? "" : registers).empty());
  const char* floats = rq::testing::broken_lane_law<rq::scalar_arch>();
  CHECK(std::string(floats == nullptr ? "" : floats).empty());
}

TEST_CASE("lane: what the float operations mean", "[core]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(rq::lane::min(nan, 2.0F) == 2.0F);
  CHECK(std::isnan(rq::lane::min(2.0F, nan)));
  CHECK(rq::lane::max(nan, 2.0F) == 2.0F);
  CHECK(std::isnan(rq::lane::max(2.0F, nan)));
  CHECK(rq::lane::add_signed(5.0F, 3.0F, 1.0F) == 8.0F);
  CHECK(rq::lane::add_signed(5.0F, 3.0F, -1.0F) == 2.0F);
  CHECK(rq::lane::clamp(nan, -1.0F, 3.0F) == -1.0F);
  CHECK(rq::lane::clamp(5, 0, 3) == 3);
  CHECK(rq::lane::round_to_int(0.5F) == 0);
  CHECK(rq::lane::round_to_int(1.5F) == 2);
  CHECK(rq::lane::round_to_int(-2.5F) == -2);
  CHECK(rq::lane::round_to_int(8388607.5F) == 8388608);
  CHECK(rq::lane::zero_if_nan(nan) == 0.0F);
  CHECK(rq::lane::zero_if_nan(-7.0F) == -7.0F);
  CHECK(rq::lane::greater(1.0F, nan) == 0);
  CHECK(rq::lane::greater(2, 1) == -1);
}
