// SPDX-License-Identifier: MIT
#include <repquant/codec/least_dividend.hpp>

#include "catch.hpp"
#include <cmath>
#include <random>

namespace rq = repquant;

namespace {

float any(std::mt19937& engine, int low, int high) {
  const auto mantissa = static_cast<float>((1U << 23U) + engine() % (1U << 23U));
  return std::ldexp(mantissa, low + static_cast<int>(engine() % static_cast<unsigned>(high - low + 1)) - 23);
}

}  // namespace

TEST_CASE("least_dividend is the least float whose quotient reaches the boundary") {
  std::mt19937 engine(3);
  constexpr float inf = std::numeric_limits<float>::infinity();
  int ties = 0;
  int wrong = 0;
  for (int i = 0; i < 2000000; ++i) {
    float q = any(engine, -40, 40);
    float d = any(engine, -60, 60);
    if (i % 4 == 1) q = std::ldexp(1.0F, static_cast<int>(engine() % 80) - 40);  // another spacing below it
    if (i % 4 == 2) d = std::ldexp(1.0F, static_cast<int>(engine() % 80) - 40);  // quotients without rounding
    if (i % 4 == 3) d = std::ldexp(static_cast<float>(1 + engine() % 64), static_cast<int>(engine() % 20));
    const float x = rq::least_dividend(q, d);
    const volatile float reached = x / d;  // volatile: a quotient of floats, whatever the optimizer knows
    const volatile float missed = std::nextafter(x, 0.0F) / d;
    wrong += reached >= q && missed < q ? 0 : 1;
    ties += static_cast<double>(x) / static_cast<double>(d) < static_cast<double>(q) ? 1 : 0;
  }
  CHECK(wrong == 0);
  CHECK(ties > 1000);  // boundaries below q itself did occur
  CHECK(rq::least_dividend(1.0F, 1.0F) == 1.0F);
  CHECK(rq::least_dividend(0x1p-130F, 1.0F) == 0x1p-130F);
  CHECK(rq::least_dividend(0x1p-126F, 0x1p-10F) / 0x1p-10F >= 0x1p-126F);
  CHECK(rq::least_dividend(std::nextafter(inf, 0.0F), 1.0F) == std::nextafter(inf, 0.0F));
}
