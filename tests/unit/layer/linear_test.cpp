// SPDX-License-Identifier: MIT
#include <repquant/layer/linear.hpp>

#include "catch.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

rq::matrix<> standard_noise(rq::index rows, rq::index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  rq::matrix<> m(rows, cols);
  for (rq::index i = 0; i < rows * cols; ++i) m.data()[i] = normal(engine);
  return m;
}

}  // namespace

TEST_CASE("linear: y = x W^T + b", "[layer]") {
  const bool biased = GENERATE(true, false);
  rq::linear l{standard_noise(5, 7, 1), {}};
  if (biased) l.bias = standard_noise(5, 1, 2);
  const rq::matrix<> x = standard_noise(11, 7, 3);
  const rq::matrix<> y = apply(l, x);
  REQUIRE(y.rows() == 11);
  REQUIRE(y.cols() == 5);
  CHECK(l.in() == 7);
  CHECK(l.out() == 5);
  for (rq::index t = 0; t < 11; ++t) {
    for (rq::index o = 0; o < 5; ++o) {
      double want = biased ? static_cast<double>(l.bias(o)) : 0.0;
      double size = std::fabs(want);
      for (rq::index i = 0; i < 7; ++i) {
        const double product = static_cast<double>(x(t, i)) * static_cast<double>(l.weight(o, i));
        want += product;
        size += std::fabs(product);
      }
      // eight float additions, each within 2^-24 of at most the sum of magnitudes
      CHECK(std::fabs(static_cast<double>(y(t, o)) - want) <= 9 * 0x1p-24 * size);
    }
  }
}

TEST_CASE("linear: rows of a wider matrix can be read in place", "[layer]") {
  const rq::linear l{standard_noise(3, 4, 1), {}};
  const rq::matrix<> wide = standard_noise(6, 10, 2);
  const rq::matrix<> part = wide.middleCols(2, 4);
  CHECK(apply(l, wide.middleCols(2, 4)).isApprox(apply(l, part)));
}

TEST_CASE("linear: check", "[layer]") {
  rq::linear l{standard_noise(3, 4, 1), standard_noise(3, 1, 2)};
  CHECK_FALSE(check(l, "here"));
  l.bias = standard_noise(2, 1, 2);
  CHECK(check(l, "here").code == rq::errc::shape_mismatch);
  CHECK(check(l, "here").got == 2);
  CHECK(check(l, "here").want == 3);
  l.bias = standard_noise(3, 1, 2);
  l.bias(1) = std::numeric_limits<float>::infinity();
  CHECK(check(l, "here").code == rq::errc::non_finite);
  l.weight(0, 0) = std::numeric_limits<float>::quiet_NaN();
  CHECK(check(l, "here").got == 1);
  CHECK(check(rq::linear{}, "here").code == rq::errc::empty);
}
