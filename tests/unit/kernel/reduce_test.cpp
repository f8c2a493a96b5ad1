// SPDX-License-Identifier: MIT
#include <repquant/kernel/reduce.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// The sum as the header defines it, written as a plain loop.
float sum_by_definition(const std::vector<float>& x) {
  float held[16] = {};
  for (std::size_t i = 0; i < (x.size() + 15) / 16 * 16; ++i) held[i % 16] += i < x.size() ? x[i] : 0.0F;
  for (std::size_t half : {8U, 4U, 2U, 1U}) {
    for (std::size_t l = 0; l < half; ++l) held[l] += held[l + half];
  }
  return held[0];
}

std::vector<float> noise(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.3F, 2.0F);
  std::vector<float> x(n);
  for (float& v : x) v = normal(engine) * (engine() % 16 == 0 ? 1000.0F : 1.0F);
  return x;
}

}  // namespace

TEST_CASE("sum walks the documented tree on every architecture") {
  for (std::size_t n = 0; n < 200; ++n) {
    const std::vector<float> x = noise(n, static_cast<unsigned>(n));
    const std::uint32_t want = oracle::bits(sum_by_definition(x));
    CHECK(oracle::bits(rq::reduce::sum(x)) == want);
    CHECK(oracle::bits(rq::reduce::sum<rq::scalar_arch>(x)) == want);
  }
}

TEST_CASE("sum stays within its stated error") {
  for (std::size_t n : {1U, 15U, 16U, 17U, 768U, 4096U, 10007U}) {
    const std::vector<float> x = noise(n, 7);
    double exact = 0;
    double magnitude = 0;
    for (float v : x) {
      exact += v;
      magnitude += std::fabs(static_cast<double>(v));
    }
    const double additions = static_cast<double>((n + 15) / 16) + 3;
    CHECK(std::fabs(static_cast<double>(rq::reduce::sum(x)) - exact) <= additions * 0x1p-24 * magnitude);
  }
}

TEST_CASE("squares adds nothing for the places beyond the end") {
  for (std::size_t n = 1; n < 100; ++n) {
    const std::vector<float> x = noise(n, static_cast<unsigned>(n));
    std::vector<float> squared(n);
    for (std::size_t i = 0; i < n; ++i) {
      const float d = x[i] - 100.0F;  // far from the data: padding that counted would show
      squared[i] = oracle::rounded(static_cast<double>(d) * static_cast<double>(d));
    }
    const std::uint32_t want = oracle::bits(sum_by_definition(squared));
    CHECK(oracle::bits(rq::reduce::squares(x, 100.0F)) == want);
    CHECK(oracle::bits(rq::reduce::squares<rq::scalar_arch>(x, 100.0F)) == want);
  }
}

TEST_CASE("largest skips NaN and masked values alike everywhere") {
  CHECK(rq::reduce::largest({}) == -inf);
  for (std::size_t n = 1; n < 100; ++n) {
    std::vector<float> x = noise(n, static_cast<unsigned>(n));
    for (std::size_t i = 0; i < n; i += 3) x[i] = i % 2 == 0 ? not_a_number : -inf;
    float want = -inf;
    for (float v : x) {
      if (v > want) want = v;
    }
    CHECK(rq::reduce::largest(x) == want);
    CHECK(rq::reduce::largest<rq::scalar_arch>(x) == want);
  }
  // the sign of a largest zero depends on the order alone, which is fixed
  for (std::size_t n = 2; n < 40; ++n) {
    std::vector<float> zeros(n, -0.0F);
    zeros[n / 2] = 0.0F;
    CHECK(oracle::bits(rq::reduce::largest(zeros)) ==
          oracle::bits(rq::reduce::largest<rq::scalar_arch>(zeros)));
  }
}

TEST_CASE("a NaN sum has one bit pattern") {
  for (std::size_t n : {1U, 5U, 16U, 33U, 100U}) {
    for (float bad : {not_a_number, -not_a_number, std::numeric_limits<float>::signaling_NaN()}) {
      std::vector<float> x = noise(n, 3);
      x[n - 1] = bad;
      x[0] = n > 1 ? -bad : bad;
      CHECK(oracle::bits(rq::reduce::sum(x)) == 0x7FC00000U);
      CHECK(oracle::bits(rq::reduce::sum<rq::scalar_arch>(x)) == 0x7FC00000U);
    }
    std::vector<float> x(n + 1, inf);
    x[n] = -inf;
    CHECK(oracle::bits(rq::reduce::sum(x)) == 0x7FC00000U);
    CHECK(oracle::bits(rq::reduce::squares(x, inf)) == 0x7FC00000U);
  }
}
