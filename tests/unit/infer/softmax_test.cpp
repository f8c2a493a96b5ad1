// SPDX-License-Identifier: MIT
#include <repquant/infer/softmax.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

std::vector<float> scores(std::size_t n, unsigned seed, float spread) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> x(n);
  for (float& v : x) v = normal(engine);
  return x;
}
std::vector<float> softmax(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  rq::softmax_row(x, y);
  std::vector<float> scalar(x.size());
  rq::softmax_row<rq::scalar_arch>(x, scalar);
  CHECK(oracle::same_bits(y, scalar));
  std::vector<float> in_place = x;
  rq::softmax_row(in_place, in_place);
  CHECK(oracle::same_bits(y, in_place));
  return y;
}

}  // namespace

TEST_CASE("softmax_row is the softmax of double within its stated error") {
  for (std::size_t n : {1U, 2U, 15U, 16U, 17U, 50U, 197U, 1000U}) {
    for (float spread : {0.1F, 3.0F, 30.0F}) {
      const std::vector<float> x = scores(n, static_cast<unsigned>(n), spread);
      const std::vector<float> y = softmax(x);
      const std::vector<double> want = oracle::softmax(std::vector<double>(x.begin(), x.end()));
      float top = -inf;
      for (float v : x) top = std::fmax(top, v);
      double worst = 0;
      for (std::size_t i = 0; i < n; ++i) {
        // rounding x - max is worth |x - max| 2^-24 of the result; exp 1 ulp twice, n/16 + 3 sums, a quotient
        const double far = static_cast<double>(top) - static_cast<double>(x[i]);
        const double allowed = (far + static_cast<double>(n) / 16 + 9) * 0x1p-24;
        // below 2^-126 the exponential is 0
        worst = std::fmax(worst, (std::fabs(y[i] - want[i]) - 0x1p-126) / (allowed * want[i] + 1e-300));
      }
      CHECK(worst <= 1.0);
    }
  }
}

TEST_CASE("masked scores give zero and change nothing else") {
  for (std::size_t n : {1U, 7U, 16U, 40U}) {
    const std::vector<float> x = scores(n, 2, 2.0F);
    const std::vector<float> y = softmax(x);
    std::vector<float> longer = x;
    longer.resize(n + 21, -inf);
    std::vector<float> z = softmax(longer);
    for (std::size_t i = n; i < z.size(); ++i) CHECK(oracle::bits(z[i]) == 0);
    z.resize(n);
    CHECK(oracle::same_bits(y, z));
    const std::vector<float> none = softmax(std::vector<float>(n, -inf));
    for (float v : none) CHECK(oracle::bits(v) == 0);
  }
  CHECK(softmax({}).empty());
}

TEST_CASE("a row with NaN or plus infinity is NaN throughout") {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(), inf}) {
    for (std::size_t at : {0U, 15U, 18U}) {
      std::vector<float> x = scores(19, 1, 1.0F);
      x[at] = bad;
      for (float v : softmax(x)) CHECK(oracle::bits(v) == 0x7FC00000U);
      x.assign(19, -inf);
      x[at] = bad;
      for (float v : softmax(x)) CHECK(oracle::bits(v) == 0x7FC00000U);
    }
  }
}

TEST_CASE("softmax of extreme finite scores is defined") {
  constexpr float most = std::numeric_limits<float>::max();
  const std::vector<float> y = softmax({most, -most, most, 0.0F});
  CHECK((y[0] == 0.5F && y[1] == 0.0F && y[2] == 0.5F && y[3] == 0.0F));
}
