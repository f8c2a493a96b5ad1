// SPDX-License-Identifier: MIT
#include <repquant/infer/requantize.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

TEST_CASE("requantize_row rounds the sum, the product and the addition once each") {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  for (std::size_t n = 0; n < 60; ++n) {
    std::vector<std::int32_t> narrow(n);
    std::vector<std::int64_t> wide(n);
    std::vector<double> simulated(n);
    std::vector<float> m(n);
    std::vector<float> c(n);
    std::vector<float> want(n);
    std::vector<float> without(n);
    for (std::size_t i = 0; i < n; ++i) {
      narrow[i] = static_cast<std::int32_t>(engine());  // most need rounding: more than 24 bits
      if (i % 7 == 0) narrow[i] = (1 << 24) + static_cast<std::int32_t>(i);  // ties
      wide[i] = narrow[i];
      simulated[i] = narrow[i];
      m[i] = normal(engine) * 1e-4F;
      c[i] = normal(engine);
      // double holds the product of two floats exactly, so each rounding below is the only one
      const auto sum = static_cast<float>(narrow[i]);
      without[i] = oracle::rounded(static_cast<double>(sum) * static_cast<double>(m[i]));
      want[i] = oracle::rounded(static_cast<double>(without[i]) + static_cast<double>(c[i]));
    }
    std::vector<float> y(n);
    rq::requantize_row<rq::default_arch, std::int32_t>(narrow, m, c, y);
    CHECK(oracle::same_bits(y, want));
    rq::requantize_row<rq::scalar_arch, std::int32_t>(narrow, m, c, y);
    CHECK(oracle::same_bits(y, want));
    rq::requantize_row<rq::default_arch, std::int64_t>(wide, m, c, y);
    CHECK(oracle::same_bits(y, want));
    rq::requantize_row<rq::default_arch, double>(simulated, m, c, y);
    CHECK(oracle::same_bits(y, want));
    rq::requantize_row<rq::default_arch, std::int32_t>(narrow, m, {}, y);
    CHECK(oracle::same_bits(y, without));
  }
}

TEST_CASE("real_row rounds half to even, for every type of sum") {
  const std::vector<std::int64_t> sums{0,
                                       1,
                                       (1 << 24) + 1,
                                       (1 << 24) + 3,
                                       -(1 << 24) - 1,
                                       2147483647,
                                       std::int64_t{-2147483647} - 1,
                                       16777217 * 3,
                                       (std::int64_t{1} << 50) + (std::int64_t{1} << 26),
                                       5};
  const std::vector<float> want{0.0F,          1.0F,           16777216.0F, 16777220.0F, -16777216.0F,
                                2147483648.0F, -2147483648.0F, 50331652.0F, 0x1p50F,     5.0F};
  std::vector<float> y(sums.size());
  rq::real_row<rq::default_arch, std::int64_t>(sums, y);
  CHECK(oracle::same_bits(y, want));
  std::vector<double> doubles(sums.begin(), sums.end());
  rq::real_row<rq::default_arch, double>(doubles, y);
  CHECK(oracle::same_bits(y, want));
}
