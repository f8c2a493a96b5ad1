// SPDX-License-Identifier: MIT
#include <repquant/calibrate/search_clips.hpp>
#include <repquant/parallel/threads.hpp>
#include <repquant/train/learn_clips.hpp>

#include "catch.hpp"
#include "unit/calibrate/clipping.hpp"

namespace rq = repquant;

TEST_CASE("learned clips never cost more than their start", "[train]") {
  const clipping::sample s = clipping::make_sample(200, 70, 12, 3);
  const rq::clipping_problem p = s.problem();
  double least = 1e300;
  for (const int steps : {0, 1, 5, 60}) {
    const auto got = rq::learn_clips(p, s.whole, {.steps = steps});
    REQUIRE(got);
    CAPTURE(steps, got->start, got->error);
    CHECK(got->start == p.error(s.whole));
    CHECK(got->error == p.error(got->ranges));
    CHECK(got->error <= got->start);
    if (steps == 0) CHECK(clipping::equal(got->ranges, s.whole));
    least = got->error;
  }
  CHECK(least < 0.6 * p.error(s.whole));
  // steps far too long land nowhere good: the start is kept, or what was better on the way
  const auto far = rq::learn_clips(p, s.whole, {.steps = 3, .rate = 1});
  REQUIRE(far);
  CHECK(far->error <= far->start);
}

TEST_CASE("learning and searching find about the same, and the search goes on from what was learned",
          "[train]") {
  for (unsigned seed = 0; seed < 4; ++seed) {
    const clipping::sample s = clipping::make_sample(256, 40, 24, seed);
    const rq::clipping_problem p = s.problem();
    const auto searched = rq::search_clips(p, s.whole);
    const auto learned = rq::learn_clips(p, s.whole, {.steps = 120});
    REQUIRE(searched);
    REQUIRE(learned);
    const auto both = rq::search_clips(p, learned->ranges);
    REQUIRE(both);
    CAPTURE(seed, searched->start, searched->error, learned->error, both->error);
    // the gradient sees what rounding costs on average, the search what it costs these tokens
    CHECK(learned->error < 1.6 * searched->error);
    CHECK(both->error < learned->error);
  }
}

TEST_CASE("a learned channel of one sign clips and does not widen to zero", "[train]") {
  const clipping::sample s = clipping::make_sample(300, 5, 8, 12);
  CHECK(clipping::clips_one_sign(s, rq::learn_clips(s.problem(), s.whole).value().ranges));
}

TEST_CASE("learned clips have no unit and do not depend on the executor", "[train]") {
  const clipping::sample s = clipping::make_sample(90, 140, 30, 4);
  const auto one = rq::learn_clips(s.problem(), s.whole, {.steps = 10});
  REQUIRE(one);
  for (const int count : {2, 3}) {
    const auto other = rq::learn_clips(s.problem(), s.whole, {.steps = 10}, rq::threads{.count = count});
    REQUIRE(other);
    CHECK(clipping::equal(one->ranges, other->ranges));
  }
  clipping::sample far = s;
  far.readers *= 0x1p-40;
  const auto scaled = rq::learn_clips(far.problem(), s.whole, {.steps = 10});
  REQUIRE(scaled);
  CHECK(clipping::equal(one->ranges, scaled->ranges));
}

TEST_CASE("learning clips refuses settings and ranges that make no sense", "[train]") {
  const clipping::sample s = clipping::make_sample(20, 4, 3, 1);
  const rq::clipping_problem p = s.problem();
  CHECK(rq::learn_clips(p, s.whole, {.steps = -1}).error().code == rq::errc::bad_option);
  CHECK(rq::learn_clips(p, s.whole, {.rate = 0}).error().code == rq::errc::bad_option);
  CHECK(rq::learn_clips(p, {}).error().code == rq::errc::shape_mismatch);
}
