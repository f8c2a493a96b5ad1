// SPDX-License-Identifier: MIT
#include <repquant/infer/integer_only/activation.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"

namespace rq = repquant;
namespace io = repquant::integer_only;

namespace {

double truth(rq::activation f, double x) {
  switch (f) {
    case rq::activation::relu:
      return x > 0 ? x : 0;
    case rq::activation::gelu_erf:
      return oracle::gelu_erf(x);
    case rq::activation::gelu_tanh:
      return oracle::gelu_tanh(x);
    case rq::activation::silu:
      return oracle::silu(x);
  }
  return 0;
}

constexpr rq::activation all[] = {rq::activation::relu, rq::activation::gelu_erf, rq::activation::gelu_tanh,
                                  rq::activation::silu};

/// Every value of 16 bits, and the ends of 32.
std::vector<std::int32_t> every_value() {
  std::vector<std::int32_t> x;
  for (std::int32_t v = -32768; v <= 32767; ++v) x.push_back(v);
  for (std::int32_t v : {-2147483647 - 1, -1000000, 1000000, 2147483647}) x.push_back(v);
  return x;
}

}  // namespace

TEST_CASE("integer activations are the real functions, over every 16-bit value and every unit") {
  const std::vector<std::int32_t> x = every_value();
  std::vector<std::int32_t> y(x.size());
  for (rq::activation f : all) {
    for (int fraction = 0; fraction <= 12; ++fraction) {
      io::activate_row(f, fraction, x, y);
      double worst = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double t = truth(f, std::ldexp(x[i], -fraction));
        worst = std::fmax(worst, std::fabs(std::ldexp(y[i], -fraction) - t));
      }
      INFO("function " << static_cast<int>(f) << " fraction bits " << fraction << " worst " << worst);
      const double beyond = f == rq::activation::silu ? 1.8e-4 : 1.2e-4;
      CHECK(worst <= (f == rq::activation::relu ? 0.0 : std::ldexp(0.5, -fraction) + beyond));
    }
  }
}

TEST_CASE("integer activations give the same integers in registers, in place and at any length") {
  const std::vector<std::int32_t> x = every_value();
  for (rq::activation f : all) {
    std::vector<std::int32_t> wide(x.size());
    std::vector<std::int32_t> scalar(x.size());
    io::activate_row(f, 11, x, wide);
    io::activate_row<rq::scalar_arch>(f, 11, x, scalar);
    CHECK(wide == scalar);
    std::vector<std::int32_t> one(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) one[i] = io::activate(f, x[i], 11);
    CHECK(wide == one);
    for (std::size_t n = 0; n < 40; ++n) {
      std::vector<std::int32_t> part(x.begin() + 30000, x.begin() + 30000 + static_cast<std::ptrdiff_t>(n));
      io::activate_row(f, 11, part, part);
      CHECK(std::equal(part.begin(), part.end(), scalar.begin() + 30000));
    }
  }
}
