// SPDX-License-Identifier: MIT
#include <repquant/calibrate/search_clips.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "unit/calibrate/clipping.hpp"

namespace rq = repquant;

namespace {

/// The upper median of a channel.
double median(const rq::matrix<>& x, rq::index d) {
  std::vector<float> v(x.col(d).begin(), x.col(d).end());
  std::sort(v.begin(), v.end());
  return static_cast<double>(v[v.size() / 2]);
}
/// The range at a and b octaves from `whole`, from the formula.
rq::range at(const rq::range& whole, double middle, double a, double b) {
  return {static_cast<float>(middle - (middle - static_cast<double>(whole.lo)) * std::exp2(-b)),
          static_cast<float>(middle + (static_cast<double>(whole.hi) - middle) * std::exp2(-a))};
}

}  // namespace

TEST_CASE("one sweep over one channel is the best of all pairs of ends", "[calibrate]") {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const clipping::sample s = clipping::make_sample(80, 1, 2, seed);
    const auto got = rq::search_clips(s.problem(), s.whole, {.sweeps = 1, .coarsest = 0.25, .finest = 0.25});
    REQUIRE(got);
    double least = clipping::cost(s, s.whole);
    CHECK(got->start == Approx(least).epsilon(1e-5));
    for (int i = -2; i <= 2; ++i) {
      for (int k = -2; k <= 2; ++k) {
        const rq::range r = at(s.whole[0], median(s.x, 0), i * 0.25, k * 0.25);
        least = std::fmin(least, clipping::cost(s, std::vector<rq::range>{r}));
      }
    }
    CAPTURE(seed);
    CHECK(got->error == Approx(least).epsilon(1e-5));
    CHECK(clipping::cost(s, got->ranges) == Approx(least).epsilon(1e-5));
  }
}

TEST_CASE("coordinate search ends where no pair of ends of any one channel costs less", "[calibrate]") {
  for (unsigned seed = 0; seed < 8; ++seed) {
    const clipping::sample s = clipping::make_sample(60, 4, 3, 30 + seed);
    const auto got = rq::search_clips(s.problem(), s.whole, {.sweeps = 32, .coarsest = 0.25, .finest = 0.25});
    REQUIRE(got);
    const double reached = clipping::cost(s, got->ranges);
    for (std::size_t d = 0; d < 4; ++d) {
      const double middle = median(s.x, static_cast<rq::index>(d));
      const auto octaves = [](double whole, double part) {
        return whole > 0 ? std::nearbyint(4 * std::log2(whole / part)) / 4 : 0;
      };
      const rq::range& whole = s.whole[d];
      const double a = octaves(whole.hi - middle, got->ranges[d].hi - middle);
      const double b = octaves(middle - whole.lo, middle - got->ranges[d].lo);
      REQUIRE(at(whole, middle, a, b).hi == Approx(got->ranges[d].hi));
      REQUIRE(at(whole, middle, a, b).lo == Approx(got->ranges[d].lo).margin(1e-6));
      for (int i = -2; i <= 2; ++i) {
        for (int k = -2; k <= 2; ++k) {
          if (a + i * 0.25 < -0.5 || b + k * 0.25 < -0.5) continue;
          std::vector<rq::range> r = got->ranges;
          r[d] = at(whole, middle, a + i * 0.25, b + k * 0.25);
          CAPTURE(seed, d, i, k);
          CHECK(clipping::cost(s, r) >= reached * (1 - 1e-4));
        }
      }
    }
  }
}

TEST_CASE("coordinate search never costs more than its start, and clipped outliers cost less",
          "[calibrate]") {
  for (const rq::index channels : {5, 70, 150}) {
    const clipping::sample s = clipping::make_sample(200, channels, 12, 3);
    const auto got = rq::search_clips(s.problem(), s.whole);
    REQUIRE(got);
    CAPTURE(channels, got->start, got->error);
    CHECK(got->error < 0.7 * got->start);
    // what was kept up to date block by block is what the ranges really cost
    CHECK(got->error == s.problem().error(got->ranges));
    const auto again = rq::search_clips(s.problem(), got->ranges);
    REQUIRE(again);
    CHECK(again->error <= got->error);
  }
}

TEST_CASE("a channel of one sign clips and does not widen to zero", "[calibrate]") {
  const clipping::sample s = clipping::make_sample(300, 5, 8, 12);
  CHECK(clipping::clips_one_sign(s, rq::search_clips(s.problem(), s.whole).value().ranges));
}

TEST_CASE("channels that nobody reads, and channels of one value, keep their ranges", "[calibrate]") {
  clipping::sample s = clipping::make_sample(60, 10, 4, 2);
  s.readers.row(3).setZero();
  s.readers.col(3).setZero();
  const auto got = rq::search_clips(s.problem(), s.whole);
  REQUIRE(got);
  for (const std::size_t d : {std::size_t{3}, std::size_t{9}}) {
    CHECK(got->ranges[d].lo == s.whole[d].lo);
    CHECK(got->ranges[d].hi == s.whole[d].hi);
  }
}

TEST_CASE("coordinate search gives the same ranges on any executor", "[calibrate]") {
  const clipping::sample s = clipping::make_sample(90, 140, 30, 4);
  const auto one = rq::search_clips(s.problem(), s.whole);
  REQUIRE(one);
  for (const int count : {2, 3}) {
    const auto other = rq::search_clips(s.problem(), s.whole, {}, rq::threads{.count = count});
    REQUIRE(other);
    CHECK(clipping::equal(one->ranges, other->ranges));
    CHECK(one->error == other->error);
  }
}

TEST_CASE("coordinate search refuses settings and ranges that make no sense", "[calibrate]") {
  const clipping::sample s = clipping::make_sample(20, 4, 3, 1);
  const rq::clipping_problem p = s.problem();
  CHECK(rq::search_clips(p, s.whole, {.sweeps = -1}).error().code == rq::errc::bad_option);
  CHECK(rq::search_clips(p, s.whole, {.coarsest = 0.1, .finest = 0.2}).error().code == rq::errc::bad_option);
  CHECK(rq::search_clips(p, s.whole, {.finest = 0}).error().code == rq::errc::bad_option);
  CHECK(rq::search_clips(p, {}).error().code == rq::errc::shape_mismatch);
  const auto none = rq::search_clips(p, s.whole, {.sweeps = 0});
  REQUIRE(none);
  CHECK(clipping::equal(none->ranges, s.whole));
}
