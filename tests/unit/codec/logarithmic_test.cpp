// SPDX-License-Identifier: MIT
/// log2 and log_sqrt2 against their definition: every mantissa of two octaves, exactly.
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/kernel/encode.hpp>

#include "catch.hpp"
#include "oracle/codec.hpp"
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

namespace rq = repquant;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float largest = std::numeric_limits<float>::max();
constexpr std::int32_t mantissas = 1 << 23;

__extension__ using wide = unsigned __int128;

/// round(-steps log2(2^exponent M / 2^23)) for an integer M in [2^23, 2^24), by comparing powers of M: exact.
template<int Steps>
int exact_code(int exponent, std::uint64_t m) {
  if constexpr (Steps == 1) {
    return -exponent - (m * m > (std::uint64_t{1} << 47) ? 1 : 0);  // (M / 2^23)^2 against 2
  } else {
    const wide fourth = static_cast<wide>(m * m) * (m * m);  // (M / 2^23)^4 against 2 and 8
    return -2 * exponent - (fourth > (wide{1} << 93) ? 1 : 0) - (fourth > (wide{1} << 95) ? 1 : 0);
  }
}

template<int Steps>
void every_mantissa() {
  const rq::logarithmic<Steps> c{.bits = 8};
  const rq::log_scale one{1.0F};
  const oracle::logarithm o{Steps, 8, true, 30};
  std::vector<float> x(1 << 16);
  std::vector<std::uint8_t> codes(x.size());
  for (int exponent : {-1, -6}) {
    int against_integers = 0;
    int against_double = 0;
    int in_registers = 0;
    const std::int32_t first = (127 + exponent) << 23;
    for (std::int32_t m = 0; m < mantissas; m += 1 << 16) {
      for (std::int32_t k = 0; k < 1 << 16; ++k) {
        x[static_cast<std::size_t>(k)] = std::bit_cast<float>(first | (m + k));
      }
      rq::encode(c, one, x, codes);
      for (std::int32_t k = 0; k < 1 << 16; ++k) {
        const float v = x[static_cast<std::size_t>(k)];
        const int q = c.encode(v, one);
        const auto whole = static_cast<std::uint64_t>(mantissas + m + k);
        against_integers += q == exact_code<Steps>(exponent, whole) ? 0 : 1;
        against_double += q == oracle::logarithmic_code(v, 1.0F, o) ? 0 : 1;
        in_registers += q == codes[static_cast<std::size_t>(k)] ? 0 : 1;
      }
    }
    CAPTURE(Steps, exponent);
    CHECK(against_integers == 0);
    CHECK(against_double == 0);
    CHECK(in_registers == 0);
  }
}

/// Every setting: f(codec, oracle).
template<int Steps, class F>
void for_all_settings(const F& f) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (rq::zero_rule zero : {rq::zero_rule::last_code, rq::zero_rule::none}) {
      for (int depth : {0, 1, 3, 7, 14, 30}) {
        const rq::logarithmic<Steps> c{.bits = bits, .zero = zero, .depth = depth};
        const oracle::logarithm o{Steps, bits, zero == rq::zero_rule::last_code, depth};
        CAPTURE(Steps, bits, depth, zero == rq::zero_rule::last_code);
        f(c, o);
      }
    }
  }
}

template<int Steps>
void specials_and_levels() {
  for_all_settings<Steps>([](const auto& c, const oracle::logarithm& o) {
    CHECK(c.smallest() == o.smallest());
    CHECK(c.last() == o.rest());
    CHECK(c.last() < c.levels());
    int bad = 0;
    for (float s : {1.0F, 0.7F, 0x1p-100F, 0x1.9p-100F, 0x1p100F, 1e-20F, 3e20F}) {
      const rq::log_scale p{s};
      std::vector<float> xs = {0.0F,     0x1p-149F, 0x1p-127F, 0x1p-126F,    0x1p-100F, 1.0F,
                               0x1p100F, largest,   infinity,  not_a_number, s};
      for (int q = 0; q <= 62; ++q) {
        const auto level =
            static_cast<float>(static_cast<double>(s) * std::exp2(-static_cast<double>(q) / 4));
        for (float x : {level, std::nextafter(level, 0.0F), std::nextafter(level, infinity)}) xs.push_back(x);
      }
      const std::size_t n = xs.size();
      for (std::size_t i = 0; i < n; ++i) xs.push_back(-xs[i]);
      for (float x : xs) bad += c.encode(x, p) == oracle::logarithmic_code(x, s, o) ? 0 : 1;
      for (int q = 0; q < c.levels(); ++q) {
        const float value = c.decode(q, p);
        bad += value == oracle::logarithmic_value(q, s, o) ? 0 : 1;
        bad += c.is_zero(q) == (value == 0) ? 0 : 1;
        if (!c.is_zero(q)) bad += c.encode(value, p) == q ? 0 : 1;
      }
      for (float x : {0.0F, -0.0F, not_a_number, -not_a_number, -1.0F, -infinity})
        bad += c.encode(x, p) == c.last() ? 0 : 1;
      for (float x : {s, 2 * s, infinity}) bad += c.encode(x, p) == 0 ? 0 : 1;
    }
    CHECK(bad == 0);
  });
}

}  // namespace

TEST_CASE("log2: every mantissa of two octaves", "[codec]") { every_mantissa<1>(); }
TEST_CASE("log_sqrt2: every mantissa of two octaves", "[codec]") { every_mantissa<2>(); }

TEST_CASE("log2: special values, neighbours of levels and thresholds, every setting", "[codec]") {
  specials_and_levels<1>();
}
TEST_CASE("log_sqrt2: special values, neighbours of levels and thresholds, every setting", "[codec]") {
  specials_and_levels<2>();
}

TEST_CASE("logarithmic: the quotient is the correctly rounded one, for any scale", "[codec]") {
  int bad = 0;
  int product_differs = 0;
  for (int i = 0; i < 300; ++i) {
    const float s = 0.01F + 0.0371F * static_cast<float>(i);
    const rq::log_scale p{s};
    const oracle::logarithm o1{1, 4, true, 14};
    const oracle::logarithm o2{2, 4, true, 7};
    const rq::log2 c1{.bits = 4, .depth = 14};
    const rq::log_sqrt2 c2{.bits = 4, .depth = 7};
    for (int quarter = 0; quarter < 64; ++quarter) {
      // around the thresholds 2^(-k/4): the nearest floats below and above
      auto x = static_cast<float>(static_cast<double>(s) * std::exp2(-quarter / 4.0));
      for (int n = 0; n < 3; ++n) x = std::nextafter(x, 0.0F);
      for (int n = 0; n < 6; ++n) {
        bad += c1.encode(x, p) == oracle::logarithmic_code(x, s, o1) ? 0 : 1;
        bad += c2.encode(x, p) == oracle::logarithmic_code(x, s, o2) ? 0 : 1;
        product_differs += c2.encode(x, p) == c2.encode(x * (1.0F / s), rq::log_scale{1.0F}) ? 0 : 1;
        x = std::nextafter(x, infinity);
      }
    }
  }
  CHECK(bad == 0);
  CHECK(product_differs > 10);  // so the values above do tell a division from a product with 1/s
}

TEST_CASE("log_sqrt2: even codes are powers of two, odd codes powers of two times sqrt 2", "[codec]") {
  const float root = 1.41421356237309504880F;
  for_all_settings<2>([&](const rq::log_sqrt2& c, const oracle::logarithm&) {
    for (int e : {0, -3, 20, -60}) {
      const rq::log_scale p{std::ldexp(1.0F, e)};
      int bad = 0;
      for (int q = 0; q <= c.smallest(); ++q) {
        const float level = q % 2 == 0 ? std::ldexp(1.0F, e - q / 2) : std::ldexp(root, e - (q + 1) / 2);
        bad += c.decode(q, p) == level ? 0 : 1;
        bad += rq::log_sqrt2::shift(q) == q / 2 ? 0 : 1;
      }
      CHECK(bad == 0);
    }
  });
}

TEST_CASE("logarithmic: the defaults of the design at 4 bits", "[codec]") {
  CHECK(rq::log_sqrt2{.bits = 4}.smallest() == 14);
  CHECK(rq::log_sqrt2::shift(rq::log_sqrt2{.bits = 4}.smallest()) == 7);
  CHECK(rq::log2{.bits = 4}.smallest() == 14);
  CHECK(rq::log_sqrt2{.bits = 4}.last() == 15);
  CHECK(rq::log2{.bits = 8}.smallest() == 30);  // depth is at most 30
  CHECK(rq::log2::shift(rq::log2{.bits = 8, .depth = 14}.smallest()) == 14);
  CHECK(rq::log_sqrt2::shift(rq::log_sqrt2{.bits = 8, .depth = 14}.smallest()) == 14);
}

TEST_CASE("logarithmic: 16 values at 4 bits, not the 17 that were published", "[codec]") {
  std::set<float> ours;
  std::set<double> published;
  const rq::log_sqrt2 c{.bits = 4};
  const rq::log_scale p{1.0F};
  int elsewhere = 0;
  for (int i = 0; i <= 20000; ++i) {
    const float x = static_cast<float>(std::exp2(-i / 2000.0)) * (i == 20000 ? 0.0F : 1.0F);
    const int q = c.encode(x, p);
    REQUIRE(q < 16);
    const float value = c.decode(q, p);
    const double theirs = oracle::published_log_sqrt2_value(x, 1.0F, 4);
    ours.insert(value);
    published.insert(theirs);
    // the float nearest to sqrt 2 is within 2^-25 of it
    if (std::fabs(static_cast<double>(value) - theirs) > 0x1p-24 * theirs) {
      elsewhere += value == 0 && std::fabs(theirs - std::exp2(-7.5)) < 1e-12 ? 0 : 1;
    }
  }
  CHECK(ours.size() == 16);
  CHECK(published.size() == 17);
  CHECK(elsewhere == 0);  // the one that is missing is the smallest, 2^-7.5: there we say zero
}

TEST_CASE("logarithmic: fit puts code 0 on the upper end", "[codec]") {
  const rq::log_sqrt2 c{.bits = 4};
  CHECK(c.fit({0, 0.75F}).scale == 0.75F);
  CHECK(c.fit({0, 0}).scale == 0x1p-100F);
  CHECK(c.fit({-2, -1}).scale == 0x1p-100F);
  CHECK(c.fit({0, largest}).scale == 0x1p100F);
  CHECK(c.encode(0.75F, c.fit({0, 0.75F})) == 0);
}
