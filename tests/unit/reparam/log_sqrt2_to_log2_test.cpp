// SPDX-License-Identifier: MIT
#include <repquant/reparam/log_sqrt2_to_log2.hpp>

#include "catch.hpp"
#include <bit>
#include <cmath>
#include <random>

namespace rq = repquant;

TEST_CASE("base 2: every code of log_sqrt2 keeps its value, bit for bit", "[reparam]") {
  const int bits = GENERATE(2, 3, 4, 5, 6, 7, 8);
  const auto zero = GENERATE(rq::zero_rule::last_code, rq::zero_rule::none);
  const int depth = GENERATE(0, 3, 7, 14, 30);
  const rq::log_sqrt2 codec{bits, zero, depth};
  for (float scale : {1.0F, 0.7314159F, 3e-20F, 0x1p-90F, 0x1p100F, 1.0F / 3}) {
    const rq::log_scale p{scale};
    const rq::base2_form form = rq::log_sqrt2_to_log2(codec, p);
    CHECK(form.even.scale == scale);
    bool values = true;
    bool terms = true;
    bool zeros = true;
    for (std::int32_t c = 0; c < codec.levels(); ++c) {
      const bool in_use = c <= codec.smallest() || codec.is_zero(c);
      if (!in_use) continue;  // zero_rule::none: codes beyond the depth are never produced
      const float want = codec.decode(c, p);
      values = values && std::bit_cast<std::uint32_t>(form.value(c)) == std::bit_cast<std::uint32_t>(want);
      const rq::base2_term t = rq::log2_term(codec, c);
      const float level = std::ldexp(t.odd ? 0x1.6a09e6p0F : 1.0F, -t.shift);
      terms = terms && (t.zero ? want == 0 : want == scale * level);
      zeros = zeros && t.zero == (want == 0);
    }
    CHECK(values);
    CHECK(terms);
    CHECK(zeros);
  }
}

TEST_CASE("base 2: the multipliers are powers of two that fit", "[reparam]") {
  const rq::base2_multipliers m = rq::log_sqrt2_to_log2(rq::log_sqrt2{4}, {1}).multipliers;
  CHECK(m.depth == 7);
  for (std::size_t c = 0; c < 256; ++c) {
    const bool used = c <= 14;
    CHECK(m.even[c] == (used && c % 2 == 0 ? 128 >> (c / 2) : 0));
    CHECK(m.odd[c] == (used && c % 2 == 1 ? 128 >> ((c - 1) / 2) : 0));
  }
  const rq::base2_multipliers deep = rq::log_sqrt2_to_log2(rq::log_sqrt2{8}, {1}).multipliers;
  CHECK(deep.depth == 30);
  CHECK(deep.even[0] == 1 << 30);
  CHECK(deep.odd[61] == 1);
}

TEST_CASE("base 2: two integer sums are the sum of products", "[reparam]") {
  const rq::log_sqrt2 codec{4};
  const rq::log_scale p{0.8F};
  const rq::base2_form form = rq::log_sqrt2_to_log2(codec, p);
  std::mt19937 engine(3);
  std::int64_t even = 0;
  std::int64_t odd = 0;
  double want = 0;
  for (int i = 0; i < 500; ++i) {
    const auto c = static_cast<std::int32_t>(engine() % 16);
    const auto v = static_cast<std::int32_t>(engine() % 256) - 128;
    even += form.multipliers.even[static_cast<std::size_t>(c)] * v;
    odd += form.multipliers.odd[static_cast<std::size_t>(c)] * v;
    want += static_cast<double>(codec.decode(c, p)) * v;
  }
  const double got = std::ldexp(static_cast<double>(form.even.scale) * static_cast<double>(even) +
                                    static_cast<double>(form.odd.scale) * static_cast<double>(odd),
                                -form.multipliers.depth);
  CHECK(got == Approx(want).epsilon(1e-12));  // both in double, each level the same number
}

TEST_CASE("base 2: log2 codes are their own form", "[reparam]") {
  const rq::log2 codec{4};
  for (std::int32_t c = 0; c < 16; ++c) {
    const rq::base2_term t = rq::log2_term(codec, c);
    CHECK_FALSE(t.odd);
    CHECK((t.zero ? 0.0F : std::ldexp(1.0F, -t.shift)) == codec.decode(c, {1}));
  }
}
