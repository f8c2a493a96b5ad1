// SPDX-License-Identifier: MIT
#include <repquant/calibrate/percentile.hpp>
#include <repquant/codec/log2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/testing/observer_laws.hpp>

#include "catch.hpp"
#include "oracle/calibrate.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

namespace {
rq::result<rq::range> ends(rq::percentile o, const std::vector<float>& xs) {
  o.observe(xs);
  return o.choose(rq::uniform{});
}
}  // namespace

TEST_CASE(
    "percentile: numpy's quantiles of both tails, exactly, while a tail leaves out fewer than 32 values") {
  for (std::size_t n : {1U, 2U, 3U, 6304U, 30000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      std::vector<float> sorted = xs;
      std::sort(sorted.begin(), sorted.end());
      for (double keep : {0.999, 0.9999, 0.99999, 1.0}) {
        INFO(name << ", " << n << ", keep " << keep);
        const auto r = ends({.keep = keep}, xs);
        REQUIRE(r);
        // one rounding to float: the sums in double differ by less
        const auto hi = static_cast<float>(oracle::quantile(sorted, keep));
        const auto lo = static_cast<float>(oracle::quantile(sorted, 1 - keep));
        REQUIRE(std::fabs(r->hi - hi) <= std::fabs(hi) * 0x1p-23F);
        REQUIRE(std::fabs(r->lo - lo) <= std::fabs(lo) * 0x1p-23F);
      }
    }
  }
}

TEST_CASE("percentile: keeping everything is min_max") {
  const auto xs = oracle::draws("outliers", 5000);
  const auto r = ends({.keep = 1}, xs);
  REQUIRE(r->lo == *std::min_element(xs.begin(), xs.end()));
  REQUIRE(r->hi == *std::max_element(xs.begin(), xs.end()));
}

TEST_CASE("percentile: keeps the laws") {
  for (const auto& [name, xs] : oracle::every_kind(500)) {
    INFO(name);
    REQUIRE(rq::testing::broken_observer_law(rq::percentile{.keep = 0.97}, rq::uniform{}, xs) == nullptr);
    REQUIRE(rq::testing::broken_observer_law(rq::percentile{}, rq::log2{}, xs) == nullptr);
  }
}

TEST_CASE("percentile: a share outside its range is refused with both numbers") {
  for (double keep : {0.5, 0.0, -3.0, 1.0000001, 1e300, static_cast<double>(std::nanf(""))}) {
    const auto r = ends({.keep = keep}, {1, 2, 3});
    REQUIRE(!r);
    REQUIRE(r.error().code == rq::errc::bad_option);
    REQUIRE(r.error().want == (keep > 1 ? 1000000 : 500001));  // the end that it is beyond
  }
  REQUIRE(ends({.keep = 0.25}, {1, 2}).error().got == 250000);
}
