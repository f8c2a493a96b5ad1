// SPDX-License-Identifier: MIT
#include <repquant/infer/norm.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

std::vector<float> noise(std::size_t n, unsigned seed, float mean, float spread) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(mean, spread);
  std::vector<float> x(n);
  for (float& v : x) v = normal(engine);
  return x;
}

}  // namespace

TEST_CASE("layer_norm_row and rms_norm_row have the same bits in registers and in place") {
  for (std::size_t n = 1; n < 140; ++n) {
    const auto seed = static_cast<unsigned>(n);
    const std::vector<float> x = noise(n, seed, 0.5F, 3.0F);
    const std::vector<float> gamma = noise(n, seed + 1, 1.0F, 0.3F);
    const std::vector<float> beta = noise(n, seed + 2, 0.0F, 0.3F);
    std::vector<float> wide(n);
    std::vector<float> scalar(n);
    std::vector<float> in_place = x;
    rq::layer_norm_row(x, gamma, beta, 1e-5F, wide);
    rq::layer_norm_row<rq::scalar_arch>(x, gamma, beta, 1e-5F, scalar);
    rq::layer_norm_row(in_place, gamma, beta, 1e-5F, in_place);
    CHECK((oracle::same_bits(wide, scalar) && oracle::same_bits(wide, in_place)));
    in_place = x;
    rq::rms_norm_row(x, gamma, 1e-5F, wide);
    rq::rms_norm_row<rq::scalar_arch>(x, gamma, 1e-5F, scalar);
    rq::rms_norm_row(in_place, gamma, 1e-5F, in_place);
    CHECK((oracle::same_bits(wide, scalar) && oracle::same_bits(wide, in_place)));
  }
}

TEST_CASE("norms of several tokens have the bits of one after the other") {
  for (std::size_t n : {1U, 15U, 16U, 64U, 77U}) {
    const std::vector<float> gamma = noise(n, 1, 1.0F, 0.3F);
    const std::vector<float> beta = noise(n, 2, 0.0F, 0.3F);
    for (std::size_t rows = 0; rows < 36; ++rows) {
      std::vector<float> x = noise(rows * n, 3, 0.5F, 3.0F);
      if (rows > 4) x[3 * n] = std::numeric_limits<float>::infinity();  // spoils its token and no other
      if (rows > 5) x[5 * n] = std::numeric_limits<float>::quiet_NaN();
      std::vector<float> layer(x.size());
      std::vector<float> rms(x.size());
      for (std::size_t r = 0; r < rows; ++r) {
        const std::span<const float> row(x.data() + r * n, n);
        rq::layer_norm_row<rq::scalar_arch>(row, gamma, beta, 1e-5F, {layer.data() + r * n, n});
        rq::rms_norm_row<rq::scalar_arch>(row, gamma, 1e-5F, {rms.data() + r * n, n});
      }
      std::vector<float> in_place = x;
      const auto count = static_cast<rq::index>(rows);
      rq::layer_norm_rows(in_place.data(), count, gamma, beta, 1e-5F, in_place.data());
      CHECK(oracle::same_bits(in_place, layer));
      in_place = x;
      rq::rms_norm_rows(in_place.data(), count, gamma, 1e-5F, in_place.data());
      CHECK(oracle::same_bits(in_place, rms));
    }
  }
}

TEST_CASE("norms are those of double") {
  // Error of (x - mean) r: the mean carries (n/16 + 3) roundings of values up to |mean| + spread, the
  // variance as many of itself, the rest 6. With |x| <= 10 spread that stays below 40 2^-24 of the larger
  // of 1 and |y - beta|, plus the rounding of beta.
  for (std::size_t n : {1U, 3U, 16U, 64U, 100U, 384U, 768U, 1023U}) {
    for (float mean : {0.0F, 2.0F, -8.0F}) {
      const std::vector<float> x = noise(n, 3, mean, 2.0F);
      const std::vector<float> gamma = noise(n, 4, 1.0F, 0.3F);
      const std::vector<float> beta = noise(n, 5, 0.0F, 0.3F);
      std::vector<float> y(n);
      rq::layer_norm_row(x, gamma, beta, 1e-5F, y);
      const auto terms = static_cast<double>(n) / 16 + 9;
      double worst = 0;
      std::vector<double> want = oracle::layer_norm(x, gamma, beta, static_cast<double>(1e-5F));
      for (std::size_t i = 0; i < n; ++i) {
        const double scale = std::fmax(1.0, std::fabs(want[i])) * std::fmax(1.0, std::fabs(gamma[i]));
        worst = std::fmax(worst, std::fabs(y[i] - want[i]) / scale);
      }
      INFO("n " << n << " mean " << mean);
      // the offset of the data against its spread multiplies the error of the mean
      CHECK(worst <= terms * 0x1p-24 * (2.0 + std::fabs(static_cast<double>(mean)) / 2.0));
      rq::rms_norm_row(x, gamma, 1e-5F, y);
      want = oracle::rms_norm(x, gamma, static_cast<double>(1e-5F));
      worst = 0;
      for (std::size_t i = 0; i < n; ++i)
        worst = std::fmax(worst, std::fabs(y[i] - want[i]) / std::fabs(want[i]));
      CHECK(worst <= terms * 0x1p-24);
    }
  }
}

TEST_CASE("a constant row becomes beta") {
  for (std::size_t n : {1U, 2U, 64U, 100U}) {
    const std::vector<float> x(n, 3.0F);
    const std::vector<float> gamma(n, 2.0F);
    const std::vector<float> beta = noise(n, 1, 0.0F, 1.0F);
    std::vector<float> y(n);
    rq::layer_norm_row(x, gamma, beta, 1e-5F, y);
    CHECK(oracle::same_bits(y, beta));
  }
}

TEST_CASE("a NaN or an infinity gives one NaN, on every architecture") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(), inf, -inf}) {
    std::vector<float> x = noise(37, 1, 0.0F, 1.0F);
    x[36] = bad;
    const std::vector<float> one(37, 1.0F);
    std::vector<float> wide(37);
    std::vector<float> scalar(37);
    rq::layer_norm_row(x, one, one, 1e-5F, wide);
    rq::layer_norm_row<rq::scalar_arch>(x, one, one, 1e-5F, scalar);
    bool all = true;
    for (float v : wide) all = all && oracle::bits(v) == 0x7FC00000U;
    CHECK(all);
    CHECK(oracle::same_bits(wide, scalar));
    rq::rms_norm_row(x, one, 1e-5F, wide);
    rq::rms_norm_row<rq::scalar_arch>(x, one, 1e-5F, scalar);
    CHECK(oracle::bits(wide[36]) == 0x7FC00000U);
    CHECK(oracle::same_bits(wide, scalar));
  }
}
