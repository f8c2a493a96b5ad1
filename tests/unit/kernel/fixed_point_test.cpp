// SPDX-License-Identifier: MIT
#include <repquant/kernel/fixed_point.hpp>
#include <repquant/kernel/map.hpp>

#include "catch.hpp"
#include <numeric>
#include <vector>

namespace rq = repquant;
namespace fp = repquant::fixed_point;

namespace {

/// Every t of 0 .. 40 octaves in Q12.
std::vector<std::int32_t> octaves() {
  std::vector<std::int32_t> t(40 << 12);
  std::iota(t.begin(), t.end(), 0);
  return t;
}

template<class F>
void check_lanes(const std::vector<std::int32_t>& x, F f) {
  std::vector<std::int32_t> wide(x.size());
  std::vector<std::int32_t> scalar(x.size());
  rq::map_row<rq::default_arch>(std::span(wide), f, x.data());
  rq::map_row<rq::scalar_arch>(std::span(scalar), f, x.data());
  CHECK(wide == scalar);
}

}  // namespace

TEST_CASE("powers of two and the logistic tail, over every argument") {
  double power = 0;
  double tail = 0;
  for (std::int32_t t : octaves()) {
    const double real = std::exp2(-t / 4096.0);
    power = std::fmax(power, std::fabs(fp::exp2_of_minus(t) * 0x1p-18 - real));
    tail = std::fmax(tail, std::fabs(fp::logistic_tail(t) * 0x1p-15 - real / (1 + real)));
  }
  INFO("power " << power << " tail " << tail);
  CHECK(power <= 1e-5);
  CHECK(tail <= 6e-5);
  CHECK(fp::exp2_of_minus(0) == 1 << 18);
  CHECK(fp::exp2_of_minus(2147483647) == 0);
  check_lanes(octaves(), [](const auto& t) { return fp::exp2_of_minus(t); });
  check_lanes(octaves(), [](const auto& t) { return fp::logistic_tail(t); });
}

TEST_CASE("log2 of integers") {
  double worst = 0;
  const auto look = [&worst](std::uint64_t v) {
    worst = std::fmax(worst, std::fabs(fp::log2_of(v) / 4096.0 -
                                       static_cast<double>(std::log2(static_cast<long double>(v)))));
  };
  for (std::uint64_t v = 1; v < 1 << 18; ++v) look(v);
  for (int bit = 18; bit < 64; ++bit) {
    for (std::uint64_t f = 0; f < 4096; ++f) look((std::uint64_t{1} << bit) + (f << (bit - 12)));
  }
  look(~std::uint64_t{0});
  INFO("worst " << worst);
  CHECK(worst <= 2e-4);
  CHECK(fp::log2_of(1) == 0);
  CHECK(fp::log2_of(std::uint64_t{1} << 63) == 63 << 12);
}

TEST_CASE("square roots of integers") {
  for (std::uint64_t v = 0; v < 100000; ++v) {
    const std::uint64_t r = fp::square_root(v);
    if (!(r * r <= v && (r + 1) * (r + 1) > v)) FAIL("root of " << v);
  }
  for (std::uint64_t r : {0xFFFFULL, 0x10000ULL, 0x7FFFFFFFULL, 0x80000000ULL, 0xFFFFFFFFULL}) {
    CHECK(fp::square_root(r * r) == r);
    CHECK(fp::square_root(r * r - 1) == r - 1);
  }
  CHECK(fp::square_root(~std::uint64_t{0}) == 0xFFFFFFFFU);
}

TEST_CASE("a real as a multiplier and a shift") {
  for (double x : {1.0, 0.3, 1e-9, 12345.678, 0x1.ffffp+3, 0.99999}) {
    const fp::scale s = fp::scale_of(x);
    CHECK((s.multiplier >= 1 << 14 && s.multiplier < 1 << 15));
    CHECK(std::fabs(std::ldexp(s.multiplier, -s.shift) / x - 1) <= 0x1p-15);
  }
}

TEST_CASE("rounding shifts round half up") {
  CHECK(fp::shifted(3, 1) == 2);
  CHECK(fp::shifted(-3, 1) == -1);
  CHECK(fp::shifted(5, 2) == 1);
  CHECK(fp::times(7, -3, 2) == -5);
}
