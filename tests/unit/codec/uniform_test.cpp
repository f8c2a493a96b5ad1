// SPDX-License-Identifier: MIT
/// The uniform codec against its definition: every tie, every special value, every guarantee of fit.
#include <repquant/codec/uniform.hpp>

#include "catch.hpp"
#include "oracle/codec.hpp"
#include <cmath>
#include <limits>
#include <vector>

namespace rq = repquant;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float largest = std::numeric_limits<float>::max();

const std::vector<float>& specials() {
  static const std::vector<float> values = [] {
    std::vector<float> v = {0.0F,  0x1p-149F, 0x1p-127F, 0x1p-126F, 0x1p-100F, 1e-20F,   0.5F,        1.0F,
                            1e20F, 0x1p100F,  0x1p31F,   0x1p32F,   largest,   infinity, not_a_number};
    const std::size_t n = v.size();
    for (std::size_t i = 0; i < n; ++i) v.push_back(-v[i]);
    return v;
  }();
  return values;
}

int differences(const rq::uniform& c, const rq::affine& p, const std::vector<float>& xs) {
  int bad = 0;
  for (float x : xs) {
    const int q = c.encode(x, p);
    bad += q == oracle::uniform_code(x, p.scale, p.zero_point, c.bits) ? 0 : 1;
  }
  return bad;
}

}  // namespace

TEST_CASE("uniform: every tie and its neighbours", "[codec]") {
  for (int bits = 2; bits <= 8; ++bits) {
    const rq::uniform c{.bits = bits};
    // powers of two make exact ties; the others near-ties, where 1/s by multiplication would go wrong
    for (float s : {1.0F, 0x1p-100F, 0x1p-20F, 0x1p7F, 0x1p100F, 0.1F, 0.0078431377F, 3.7e-5F, 1.7320508F,
                    0x1.fffffep-3F, 0x1.000002p5F}) {
      for (int z : {0, 1, 1 << (bits - 1), (1 << bits) - 1, -3, 1000, -1000}) {
        std::vector<float> xs;
        for (int k = -z - 2; k <= (1 << bits) - z + 1; ++k) {
          const auto tie = static_cast<float>((k + 0.5) * static_cast<double>(s));
          float below = tie;
          float above = tie;
          xs.push_back(tie);
          for (int n = 0; n < 3; ++n) {
            xs.push_back(below = std::nextafter(below, -infinity));
            xs.push_back(above = std::nextafter(above, infinity));
          }
        }
        CAPTURE(bits, s, z);
        CHECK(differences(c, {s, z}, xs) == 0);
      }
    }
  }
}

TEST_CASE("uniform: half rounds to even before the zero point is added", "[codec]") {
  const rq::uniform c{.bits = 4};
  CHECK(c.encode(0.5F, {1.0F, 1}) == 1);  // rne(0.5) + 1; rounding after the addition would give rne(1.5) = 2
  CHECK(c.encode(1.5F, {1.0F, 1}) == 3);
  CHECK(c.encode(2.5F, {1.0F, 0}) == 2);
  CHECK(c.encode(-0.5F, {1.0F, 8}) == 8);
  CHECK(c.encode(-1.5F, {1.0F, 8}) == 6);
}

TEST_CASE("uniform: the quotient is a division, not a product with 1/s", "[codec]") {
  // 127.499992 by division and 127.5, so 128, by 1/s: found by search, see the counts below
  const rq::uniform c{.bits = 8};
  int product_differs = 0;
  int wrong = 0;
  for (int i = 1; i <= 4000; ++i) {
    const float s = 0.001F * static_cast<float>(i);
    const float r = 1.0F / s;
    for (int k = 0; k < 64; ++k) {
      const auto x = static_cast<float>((4 * k + 0.5) * static_cast<double>(s));
      const int q = c.encode(x, {s, 0});
      product_differs += q == static_cast<int>(oracle::round_half_even(static_cast<double>(x * r))) ? 0 : 1;
      wrong += q == oracle::uniform_code(x, s, 0, 8) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(product_differs > 1000);  // so the values above do tell the two apart
}

TEST_CASE("uniform: special values, every width, symmetric or not", "[codec]") {
  for (int bits = 2; bits <= 8; ++bits) {
    for (bool symmetric : {false, true}) {
      const rq::uniform c{.bits = bits, .symmetric = symmetric};
      for (rq::range r : {rq::range{-1, 2}, rq::range{0, 1}, rq::range{5, 6}, rq::range{-6, -5},
                          rq::range{-1e-30F, 1e-30F}, rq::range{-1e30F, 1e30F}}) {
        const rq::affine p = c.fit(r);
        CAPTURE(bits, symmetric, r.lo, r.hi);
        CHECK(differences(c, p, specials()) == 0);
        const int last = c.levels() - 1;
        const int of_zero = p.zero_point < 0 ? 0 : p.zero_point > last ? last : p.zero_point;
        CHECK(c.encode(not_a_number, p) == of_zero);
        CHECK(c.encode(-not_a_number, p) == of_zero);
        CHECK(c.encode(0.0F, p) == of_zero);
        CHECK(c.encode(-0.0F, p) == of_zero);
        CHECK(c.encode(infinity, p) == last);
        CHECK(c.encode(-infinity, p) == 0);
        CHECK(c.encode(largest, p) == last);
        CHECK(c.encode(-largest, p) == 0);
      }
    }
  }
}

TEST_CASE("uniform: zero points up to 2^22 are not clamped", "[codec]") {
  for (int bits : {2, 4, 8}) {
    const rq::uniform c{.bits = bits};
    for (int z : {1 << 22, -(1 << 22), (1 << 22) - 1, 4000000, -4000000, 65537, -65537}) {
      for (float s : {1.0F, 0.3F, 1e-6F}) {
        std::vector<float> xs = specials();
        int unstable = 0;
        int decoded = 0;
        for (int q = 0; q < c.levels(); ++q) {
          const float x = c.decode(q, {s, z});
          decoded += x == oracle::uniform_value(q, s, z) ? 0 : 1;
          unstable += c.encode(x, {s, z}) == q ? 0 : 1;
          for (double part : {-0.5, -0.25, 0.25, 0.5}) {
            xs.push_back(static_cast<float>((static_cast<double>(q) - z + part) * static_cast<double>(s)));
          }
        }
        CAPTURE(bits, z, s);
        CHECK(decoded == 0);
        CHECK(unstable == 0);
        CHECK(differences(c, {s, z}, xs) == 0);
      }
    }
  }
}

TEST_CASE("uniform: decode is one product", "[codec]") {
  int bad = 0;
  for (int i = 1; i < 500; ++i) {
    const float s = 0.00137F * static_cast<float>(i);
    for (int q = 0; q < 256; ++q) {
      for (int z : {0, 128, -77, 300}) {
        bad += rq::uniform{}.decode(q, rq::affine{s, z}) == oracle::uniform_value(q, s, z) ? 0 : 1;
      }
    }
  }
  CHECK(bad == 0);
}

TEST_CASE("uniform: what fit guarantees", "[codec]") {
  const std::vector<rq::range> ranges = {
      {-1, 2},         {0, 1},        {-1, 0},       {0, 0},           {3, 3},           {-3, -3},
      {1e-3F, 1e3F},   {5, 5.001F},   {-5.001F, -5}, {1000, 1000.1F},  {0, 0x1p-149F},   {-1e-38F, 1e-38F},
      {-1e30F, 1e30F}, {1, infinity}, {-0.0F, 0.0F}, {1e25F, 1.1e25F}, {-1e-25F, 2e-25F}};
  for (int bits = 2; bits <= 8; ++bits) {
    for (bool symmetric : {false, true}) {
      const rq::uniform c{.bits = bits, .symmetric = symmetric};
      for (rq::range r : ranges) {
        if (std::isinf(r.hi)) r = {0x1p90F, 0x1p100F};
        const rq::affine p = c.fit(r);
        CAPTURE(bits, symmetric, r.lo, r.hi, p.scale, p.zero_point);
        CHECK(p.scale >= 0x1p-100F);
        CHECK(p.scale <= 0x1p100F);
        CHECK(std::abs(p.zero_point) <= (1 << 22));
        if (symmetric) CHECK(p.zero_point == c.levels() / 2);
        // the ends come back within half a step; beside it the roundings of s to float, of q - z (2^22 at
        // most) times s, and of the quotient: 2^-24 of the value each
        for (float end : {r.lo, r.hi}) {
          const double back = static_cast<double>(c.decode(c.encode(end, p), p));
          const double slack =
              3 * 0x1p-24 * (std::fabs(static_cast<double>(end)) + c.levels() * static_cast<double>(p.scale));
          CHECK(std::fabs(back - static_cast<double>(end)) <= 0.5 * static_cast<double>(p.scale) + slack);
        }
        if (!symmetric) {
          const double asked = (static_cast<double>(r.hi) - static_cast<double>(r.lo)) / (c.levels() - 1);
          CHECK(c.fit_enlarges(r) == (static_cast<double>(p.scale) > 1.000001 * asked));
        }
      }
    }
  }
}

TEST_CASE("uniform: ranges beyond the largest scale are cut, and stay within the guarantees", "[codec]") {
  for (int bits = 2; bits <= 8; ++bits) {
    for (bool symmetric : {false, true}) {
      const rq::uniform c{.bits = bits, .symmetric = symmetric};
      for (rq::range r : {rq::range{-largest, largest}, rq::range{-largest, -0x1p120F},
                          rq::range{0x1p120F, largest}, rq::range{largest, largest}, rq::range{0, largest}}) {
        const rq::affine p = c.fit(r);
        CAPTURE(bits, symmetric, r.lo, r.hi, p.scale, p.zero_point);
        CHECK(p.scale == 0x1p100F);
        CHECK(std::abs(p.zero_point) <= (1 << 22));
        CHECK(differences(c, p, specials()) == 0);
      }
    }
  }
}

TEST_CASE("uniform: fit reports that it took a larger scale", "[codec]") {
  const rq::uniform c{.bits = 8};
  CHECK_FALSE(c.fit_enlarges({-1, 2}));
  CHECK_FALSE(c.fit_enlarges({1, 2}));
  CHECK(c.fit_enlarges({3, 3}));  // a single value: its zero point would be infinite
  CHECK(c.fit_enlarges({0, 0}));
  CHECK(c.fit_enlarges({1000, 1000.0001F}));  // |z| would be 2.5e9
  CHECK(c.fit_enlarges({-1, 2}, 0.5F));       // a floor above (hi - lo) / 255
  CHECK(c.fit({-1, 2}, 0.5F).scale == 0.5F);
  CHECK_FALSE(c.fit_enlarges({-1, 2}, 0.001F));
  const rq::uniform symmetric{.bits = 4, .symmetric = true};
  CHECK(symmetric.fit_enlarges({0, 0}));
  CHECK(symmetric.fit_enlarges({-1, 2}, 0.5F));
  CHECK_FALSE(symmetric.fit_enlarges({-1, 2}));
}

TEST_CASE("uniform: a constant comes back to 22 bits", "[codec]") {
  for (float x : {1.0F, -3.14159F, 1e-10F, 12345.678F}) {
    for (int bits : {2, 4, 8}) {
      const rq::uniform c{.bits = bits};
      const rq::affine p = c.fit({x, x});
      const auto back = static_cast<double>(c.decode(c.encode(x, p), p));
      CHECK(std::fabs(back - static_cast<double>(x)) <=
            0x1p-22 * std::fabs(static_cast<double>(x)));  // half of |x| / (2^22 - 2^bits)
    }
  }
}
