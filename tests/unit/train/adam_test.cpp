// SPDX-License-Identifier: MIT
#include <repquant/train/adam.hpp>
#include <repquant/train/cosine_schedule.hpp>
#include <repquant/train/splitmix64.hpp>

#include "catch.hpp"

namespace rq = repquant;

TEST_CASE("adam: steps follow the paper's algorithm", "[train]") {
  const rq::adam a;
  rq::adam_moments past;
  rq::matrix<> x(1, 3);
  x << 1, -2, 3;
  double want[] = {1, -2, 3};
  double m[] = {0, 0, 0};
  double v[] = {0, 0, 0};
  for (int k = 1; k <= 50; ++k) {
    rq::matrix<> g(1, 3);
    for (rq::index i = 0; i < 3; ++i) g(0, i) = 2 * x(0, i) + static_cast<float>(k % 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto slope = static_cast<double>(g(0, static_cast<rq::index>(i)));
      m[i] = 0.9 * m[i] + 0.1 * slope;
      v[i] = 0.999 * v[i] + 0.001 * slope * slope;
      const double first = m[i] / (1 - std::pow(0.9, k));
      const double second = v[i] / (1 - std::pow(0.999, k));
      want[i] -= 0.05 * first / (std::sqrt(second) + 1e-8);
    }
    rq::adam_step(a, past, 0.05F, g, x);
  }
  // the betas are floats here: about 1e-5 of 1 - beta2
  for (rq::index i = 0; i < 3; ++i) CHECK(x(0, i) == Approx(want[i]).margin(1e-3));
  CHECK(past.steps == 50);
}

TEST_CASE("adam: the first step has the size of the rate, whatever the gradient's", "[train]") {
  rq::adam_moments past;
  rq::matrix<> x = rq::matrix<>::Zero(1, 3);
  rq::matrix<> g(1, 3);
  g << 1e-4F, -3, 1e5F;
  rq::adam_step(rq::adam{}, past, 0.1F, g, x);
  CHECK(x(0, 0) == Approx(-0.1).epsilon(1e-3));
  CHECK(x(0, 1) == Approx(0.1).epsilon(1e-3));
  CHECK(x(0, 2) == Approx(-0.1).epsilon(1e-3));
}

TEST_CASE("cosine schedule: from one to the last value", "[train]") {
  CHECK(rq::cosine_schedule(0, 10) == 1.0F);
  CHECK(rq::cosine_schedule(5, 10) == Approx(0.5));
  CHECK(rq::cosine_schedule(10, 10) == Approx(0).margin(1e-7));
  CHECK(rq::cosine_schedule(5, 10, 0.2F) == Approx(0.6));
}

TEST_CASE("splitmix64: the published sequence", "[train]") {
  rq::splitmix64 r{1234567};
  CHECK(r() == 6457827717110365317ULL);
  CHECK(r() == 3203168211198807973ULL);
  for (int i = 0; i < 1000; ++i) {
    const float u = r.unit();
    CHECK((u >= 0 && u < 1));
    CHECK(r.below(7) < 7);
  }
}
