// SPDX-License-Identifier: MIT
#include <repquant/kernel/elementary.hpp>
#include <repquant/kernel/map.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <algorithm>
#include <limits>

namespace rq = repquant;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr std::uint32_t the_nan = 0x7FC00000U;

/// Every 9973rd float of both signs, NaNs among them, and every float near the ends of the formulas.
const std::vector<float>& sweep() {
  static const std::vector<float> all = [] {
    std::vector<float> v;
    const auto push = [&v](std::uint32_t u) {
      float x = 0;
      std::memcpy(&x, &u, sizeof x);
      v.push_back(x);
    };
    for (std::uint64_t u = 0; u < 0x100000000ULL; u += 9973) push(static_cast<std::uint32_t>(u));
    for (float centre : {0.0F, 1.0F, 3.9192F, 9.02F, 87.33654F, 88.72283F, 103.97F, 127.0F, inf}) {
      const std::uint32_t u = oracle::bits(centre);
      for (std::uint32_t d = 0; d < 400; ++d) {
        push(u + d);
        push((u + d) | 0x80000000U);
        if (u > d) {
          push(u - d);
          push((u - d) | 0x80000000U);
        }
      }
    }
    return v;
  }();
  return all;
}

struct worst {
  double ulps = 0;      // where |true| >= 2^-126
  double absolute = 0;  // over max(1, |x|)
  int wrong = 0;        // NaN or infinity out of place
};

template<class F, class G>
worst measure(F f, G truth) {
  worst w;
  for (float x : sweep()) {
    const float y = f(x);
    if (std::isnan(x)) {
      w.wrong += oracle::bits(y) == the_nan ? 0 : 1;
      continue;
    }
    if (std::isinf(x)) continue;  // a section of their own
    const double t = truth(static_cast<double>(x));
    if (std::isnan(y)) {
      ++w.wrong;
      continue;
    }
    if (std::isinf(y)) {
      w.wrong += std::fabs(t) >= 0x1.fffffep+127 ? 0 : 1;
      continue;
    }
    const double error = std::fabs(static_cast<double>(y) - t);
    int exponent = 0;
    std::frexp(t, &exponent);
    if (std::fabs(t) >= 0x1p-126) w.ulps = std::max(w.ulps, error / std::ldexp(1.0, exponent - 24));
    w.absolute = std::max(w.absolute, error / std::max(1.0, std::fabs(static_cast<double>(x))));
  }
  return w;
}

template<class F>
int bits_that_differ(F f) {
  const std::vector<float>& x = sweep();
  std::vector<float> scalar(x.size());
  std::vector<float> wide(x.size());
  rq::map_row<rq::scalar_arch>(std::span<float>(scalar), f, x.data());
  rq::map_row<rq::default_arch>(std::span<float>(wide), f, x.data());
  int differ = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    differ += oracle::bits(scalar[i]) == oracle::bits(wide[i]) ? 0 : 1;
  return differ;
}

}  // namespace

// The bounds are those of the header: a little above the maxima that were measured over every 61st float.
TEST_CASE("exp is within one ulp, and 0 below 2^-126") {
  const worst w =
      measure([](float x) { return rq::elementary::exp(x); }, [](double x) { return std::exp(x); });
  CHECK(w.wrong == 0);
  CHECK(w.ulps <= 1.0);
  CHECK(w.ulps > 0.4);  // rounding alone costs half an ulp: a smaller number would mean nothing was measured
  CHECK(rq::elementary::exp(0.0F) == 1.0F);
  CHECK(rq::elementary::exp(-0.0F) == 1.0F);
  CHECK(rq::elementary::exp(-0x1.5d589ep+6F) >= 0x1p-126F);
  CHECK(oracle::bits(rq::elementary::exp(-0x1.5d58a0p+6F)) == 0);
  CHECK(std::isfinite(rq::elementary::exp(0x1.62e42ep+6F)));
  CHECK(rq::elementary::exp(0x1.62e430p+6F) == inf);
  CHECK(rq::elementary::exp(inf) == inf);
  CHECK(oracle::bits(rq::elementary::exp(-inf)) == 0);
  CHECK(rq::elementary::exp(std::numeric_limits<float>::lowest()) == 0.0F);
}

TEST_CASE("exp2_of_negative is within 3 2^-24 of the result, from -126 to 0") {
  std::vector<float> x;
  for (std::uint32_t u = 0x80000000U; u <= 0xC2FC0000U; u += 61) x.push_back(std::bit_cast<float>(u));
  x.push_back(-126.0F);
  double worst = 0;
  for (float v : x) {
    const double want = std::exp2(static_cast<double>(v));
    worst = std::max(worst, std::fabs(static_cast<double>(rq::elementary::exp2_of_negative(v)) / want - 1));
  }
  CHECK(worst * 0x1p24 <= 3);
  CHECK(worst * 0x1p24 > 1.5);  // the table, the polynomial and the last sum are off by 0.54, 0.45 and 1
  const auto f = [](const auto& v) { return rq::elementary::exp2_of_negative(v); };
  std::vector<float> scalar(x.size());
  std::vector<float> wide(x.size());
  rq::map_row<rq::scalar_arch>(std::span(scalar), f, x.data());
  rq::map_row<rq::default_arch>(std::span(wide), f, x.data());
  CHECK(oracle::same_bits(scalar, wide));
  CHECK((rq::elementary::exp2_of_negative(0.0F) == 1.0F && rq::elementary::exp2_of_negative(-0.0F) == 1.0F));
  CHECK(rq::elementary::exp2_of_negative(-126.0F) == 0x1p-126F);
}

TEST_CASE("erf and tanh are within their stated error, odd, and saturate at exactly one") {
  const worst e =
      measure([](float x) { return rq::elementary::erf(x); }, [](double x) { return std::erf(x); });
  CHECK(e.wrong == 0);
  CHECK(e.ulps <= 7.0);
  CHECK(e.absolute <= 4.2e-7);
  const worst t =
      measure([](float x) { return rq::elementary::tanh(x); }, [](double x) { return std::tanh(x); });
  CHECK(t.wrong == 0);
  CHECK(t.ulps <= 7.0);
  CHECK(t.absolute <= 4.2e-7);
  int not_odd = 0;
  int beyond_one = 0;
  for (float x : sweep()) {
    if (std::isnan(x)) continue;
    const float y = rq::elementary::erf(x);
    const float z = rq::elementary::tanh(x);
    not_odd += rq::elementary::erf(-x) == -y && rq::elementary::tanh(-x) == -z ? 0 : 1;
    beyond_one += std::fabs(y) <= 1.0F && std::fabs(z) <= 1.0F ? 0 : 1;
    if (std::fabs(x) > 3.93F) beyond_one += std::fabs(y) == 1.0F ? 0 : 1;
    if (std::fabs(x) > 9.03F) beyond_one += std::fabs(z) == 1.0F ? 0 : 1;
  }
  CHECK(not_odd == 0);
  CHECK(beyond_one == 0);
  CHECK(rq::elementary::erf(inf) == 1.0F);
  CHECK(rq::elementary::tanh(-inf) == -1.0F);
}

TEST_CASE("activations are within their stated error") {
  const worst s = measure([](float x) { return rq::elementary::silu(x); }, oracle::silu);
  CHECK(s.wrong == 0);
  CHECK(s.absolute <= 1.3e-7);
  const worst g = measure([](float x) { return rq::elementary::gelu_erf(x); }, oracle::gelu_erf);
  CHECK(g.wrong == 0);
  CHECK(g.absolute <= 2.5e-7);
  const worst h = measure([](float x) { return rq::elementary::gelu_tanh(x); }, oracle::gelu_tanh);
  CHECK(h.wrong == 0);
  CHECK(h.absolute <= 1.3e-7);
}

TEST_CASE("activations of zeros and infinities have their limits") {
  const auto limits = [](auto f) {
    CHECK(f(0.0F) == 0.0F);
    CHECK(f(-0.0F) == 0.0F);
    CHECK(f(inf) == inf);
    CHECK(f(-inf) == 0.0F);
    CHECK(f(std::numeric_limits<float>::lowest()) == 0.0F);
    CHECK(f(std::numeric_limits<float>::max()) == std::numeric_limits<float>::max());
    CHECK(oracle::bits(f(-std::numeric_limits<float>::quiet_NaN())) == the_nan);
    CHECK(oracle::bits(f(std::numeric_limits<float>::signaling_NaN())) == the_nan);
  };
  limits([](float x) { return rq::elementary::relu(x); });
  limits([](float x) { return rq::elementary::silu(x); });
  limits([](float x) { return rq::elementary::gelu_erf(x); });
  limits([](float x) { return rq::elementary::gelu_tanh(x); });
  CHECK(rq::elementary::relu(-1.0F) == 0.0F);
  CHECK(rq::elementary::relu(2.5F) == 2.5F);
}

TEST_CASE("elementary functions have the same bits in registers") {
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::exp(v); }) == 0);
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::erf(v); }) == 0);
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::tanh(v); }) == 0);
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::relu(v); }) == 0);
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::silu(v); }) == 0);
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::gelu_erf(v); }) == 0);
  CHECK(bits_that_differ([](const auto& v) { return rq::elementary::gelu_tanh(v); }) == 0);
}

// Another build (compiler, flags, machine) must give these too: the checksums of all results of the sweep.
TEST_CASE("elementary functions have the recorded bits") {
  const auto checksum = [](auto f) {
    std::uint64_t h = 14695981039346656037ULL;
    for (float x : sweep()) h = (h ^ oracle::bits(f(x))) * 1099511628211ULL;
    return h;
  };
  CHECK(checksum([](float x) { return rq::elementary::exp(x); }) == 0xFC7C4D390A8F9ECCULL);
  CHECK(checksum([](float x) { return rq::elementary::erf(x); }) == 0x57451DC12234F0EEULL);
  CHECK(checksum([](float x) { return rq::elementary::tanh(x); }) == 0x5BE10034B6D2ADEDULL);
  CHECK(checksum([](float x) { return rq::elementary::silu(x); }) == 0x8887043400649DA5ULL);
  CHECK(checksum([](float x) { return rq::elementary::gelu_erf(x); }) == 0x46C213B8220C76F1ULL);
  CHECK(checksum([](float x) { return rq::elementary::gelu_tanh(x); }) == 0xDDA73C0A38E7E8D4ULL);
}
