// SPDX-License-Identifier: MIT
#include <repquant/core/check_fraction.hpp>

#include "catch.hpp"
#include <limits>
#include <string>

namespace rq = repquant;
using rq::detail::check_fraction;

namespace {

void refused(const rq::failure& f, std::int64_t got, std::int64_t want) {
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "rate (millionths)");
  CHECK(f.got == got);
  CHECK(f.want == want);
}
rq::failure rate(double x, double lowest, double highest) {
  return check_fraction(x, lowest, highest, "rate (millionths)");
}

}  // namespace

TEST_CASE("check_fraction: both ends belong to the range") {
  for (double x : {0.25, 0.5, 1.0}) CHECK_FALSE(rate(x, 0.25, 1));
  CHECK_FALSE(rate(1e-300, rq::detail::above_zero, rq::detail::below_one));
  CHECK_FALSE(rate(0.999999999, rq::detail::above_zero, rq::detail::below_one));
}

TEST_CASE("check_fraction: the setting and the end that it is beyond, never equal") {
  refused(rate(1.5, 0.25, 1), 1500000, 1000000);
  refused(rate(-0.5, 0.25, 1), -500000, 250000);
  refused(rate(1, 0, rq::detail::below_one), 1000000, 999999);
  refused(rate(0, rq::detail::above_zero, 1), 0, 1);
  refused(rate(-1e-9, 0, 1), -1, 0);
  refused(rate(1 + 1e-9, 0, 1), 1000001, 1000000);
  refused(rate(std::numeric_limits<double>::infinity(), 0, 1), 1000000000000000, 1000000);
  refused(rate(-std::numeric_limits<double>::infinity(), 0, 1), -1000000000000000, 0);
  refused(rate(std::numeric_limits<double>::quiet_NaN(), 0, 1), -1, 0);
}
