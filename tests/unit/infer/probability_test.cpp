// SPDX-License-Identifier: MIT
#include <repquant/infer/probability.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <random>

namespace rq = repquant;

namespace {

constexpr rq::probability_kind kinds[] = {rq::probability_kind::as_uniform, rq::probability_kind::as_log2,
                                          rq::probability_kind::as_log_sqrt2};

rq::probability_code code_of(rq::probability_kind kind, int bits) {
  rq::probability_code code{.kind = kind, .bits = bits};
  if (kind == rq::probability_kind::as_uniform) code.scale = 1.0F / static_cast<float>((1 << bits) - 1);
  return code;
}

}  // namespace

TEST_CASE("probability_row gives the nearest level of the true softmax, away from the boundaries") {
  std::mt19937 engine(8);
  for (rq::probability_kind kind : kinds) {
    for (int bits : {3, 4, 8}) {
      const rq::probability_code code = code_of(kind, bits);
      const int which = static_cast<int>(kind);
      const int levels = 1 << bits;
      const int smallest = which == 0 ? levels - 1 : std::min(levels - 2, which == 1 ? 30 : 61);
      int compared = 0;
      int wrong = 0;
      for (int trial = 0; trial < 40; ++trial) {
        const std::size_t n = 1 + engine() % 90;
        std::vector<std::int32_t> sums(n);
        for (auto& s : sums) s = static_cast<std::int32_t>(engine() % 60000) - 30000;
        const float multiplier = 1e-4F;
        std::vector<float> p(static_cast<std::size_t>(rq::probability_scratch(static_cast<rq::index>(n))));
        std::vector<std::uint8_t> codes(n);
        rq::probability_row<rq::default_arch, std::int32_t>(code, sums, multiplier, static_cast<rq::index>(n),
                                                            p, codes);
        std::vector<double> scores(n);
        for (std::size_t i = 0; i < n; ++i) scores[i] = sums[i] * static_cast<double>(multiplier);
        const std::vector<double> truth = oracle::softmax(scores);
        for (std::size_t i = 0; i < n; ++i) {
          // the continuous code; within 1e-4 of a half the float error of the softmax may decide
          const double q = which == 0 ? truth[i] / static_cast<double>(code.scale)
                                      : (which == 1 ? -1.0 : -2.0) * std::log2(truth[i]);
          if (std::fabs(q - std::floor(q) - 0.5) < 1e-4) continue;
          double want = std::round(q);
          if (which != 0 && want > smallest) want = levels - 1;
          ++compared;
          wrong += codes[i] == static_cast<int>(want) ? 0 : 1;
        }
      }
      CHECK(compared > 500);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("probability_row and value_row give the same bits for every type of sum and architecture") {
  std::mt19937 engine(9);
  for (rq::probability_kind kind : kinds) {
    for (std::size_t n : {1U, 5U, 16U, 67U, 150U}) {
      const rq::probability_code code = code_of(kind, 4);
      std::vector<std::int32_t> sums(n);
      for (auto& s : sums) s = static_cast<std::int32_t>(engine() % 2000000) - 1000000;
      const std::vector<std::int64_t> wide(sums.begin(), sums.end());
      const std::vector<double> simulated(sums.begin(), sums.end());
      const auto visible = static_cast<rq::index>(n - n / 4);
      std::vector<float> scratch(
          static_cast<std::size_t>(rq::probability_scratch(static_cast<rq::index>(n))));
      std::vector<std::uint8_t> a(n);
      std::vector<std::uint8_t> b(n);
      rq::probability_row<rq::scalar_arch, std::int32_t>(code, sums, 3e-6F, visible, scratch, a);
      rq::probability_row<rq::default_arch, std::int32_t>(code, sums, 3e-6F, visible, scratch, b);
      CHECK(a == b);
      rq::probability_row<rq::default_arch, std::int64_t>(code, wide, 3e-6F, visible, scratch, b);
      CHECK(a == b);
      rq::probability_row<rq::scalar_arch, double>(code, simulated, 3e-6F, visible, scratch, b);
      CHECK(a == b);
      std::vector<float> p(scratch.size());
      std::vector<float> other(scratch.size());
      rq::softmax_of_sums<rq::scalar_arch, std::int32_t>(sums, 3e-6F, visible, p);
      p.resize(n);
      for (int type = 0; type < 3; ++type) {
        other.resize(scratch.size());
        if (type == 0) rq::softmax_of_sums<rq::default_arch, std::int32_t>(sums, 3e-6F, visible, other);
        if (type == 1) rq::softmax_of_sums<rq::default_arch, std::int64_t>(wide, 3e-6F, visible, other);
        if (type == 2) rq::softmax_of_sums<rq::default_arch, double>(simulated, 3e-6F, visible, other);
        other.resize(n);
        CHECK(oracle::same_bits(p, other));
      }
      bool masked = true;
      for (auto j = static_cast<std::size_t>(visible); j < n; ++j) {
        masked = masked && a[j] == code.masked() && p[j] == 0.0F;
      }
      CHECK(masked);

      std::vector<float> value_scale(n);
      for (std::size_t i = 0; i < n; ++i) value_scale[i] = 0.037F + 0.001F * static_cast<float>(i * i % 31);
      std::vector<float> even_scale(n);
      std::vector<float> odd_scale(n);
      const rq::value_scales scales = rq::scales_of(code, value_scale, even_scale, odd_scale);
      const bool two = kind == rq::probability_kind::as_log_sqrt2;
      std::vector<float> want(n);
      for (std::size_t i = 0; i < n; ++i) {  // products of floats are exact in double: one rounding each
        const auto s = static_cast<double>(static_cast<float>(sums[i]));
        want[i] = oracle::rounded(s * static_cast<double>(scales.even[i]));
        if (two) want[i] += oracle::rounded(s * static_cast<double>(scales.odd[i]));
      }
      const auto odd = [two](const auto& v) { return two ? std::span(v) : std::span(v).first(0); };
      std::vector<float> even_scalar(n);
      std::vector<float> odd_scalar(n);
      static_cast<void>(rq::scales_of<rq::scalar_arch>(code, value_scale, even_scalar, odd_scalar));
      CHECK((oracle::same_bits(even_scale, even_scalar) && oracle::same_bits(odd_scale, odd_scalar)));
      rq::value_row<rq::default_arch, std::int32_t>(sums, odd(sums), scales, p);
      CHECK(oracle::same_bits(p, want));
      rq::value_row<rq::scalar_arch, std::int32_t>(sums, odd(sums), scales, p);
      CHECK(oracle::same_bits(p, want));
      rq::value_row<rq::default_arch, std::int64_t>(wide, odd(wide), scales, p);
      CHECK(oracle::same_bits(p, want));
      rq::value_row<rq::default_arch, double>(simulated, odd(simulated), scales, p);
      CHECK(oracle::same_bits(p, want));
    }
  }
}

TEST_CASE("the scales of the even and odd sums are those of the codec's levels") {
  for (rq::probability_kind kind : kinds) {
    for (int bits : {2, 3, 4, 8}) {
      for (int depth : {7, 14, 30}) {
        rq::probability_code code = code_of(kind, bits);
        code.depth = depth;
        code.scale = 0.93F;
        const std::vector<float> one{1.0F, 0.25F};
        std::vector<float> even_scale(2);
        std::vector<float> odd_scale(2);
        const rq::value_scales scales = rq::scales_of(code, one, even_scale, odd_scale);
        CHECK(scales.even[1] == 0.25F * scales.even[0]);
        CHECK(scales.odd.size() == (kind == rq::probability_kind::as_log_sqrt2 ? 2 : 0));
        code.visit([&]<class C>(const C& codec, const auto& params) {
          if constexpr (std::same_as<C, rq::uniform>) {
            CHECK(scales.even[0] == params.scale);
          } else {
            for (int c = 0; c <= codec.smallest(); ++c) {
              const bool odd = kind == rq::probability_kind::as_log_sqrt2 && c % 2 == 1;
              const double power = std::ldexp(1.0, rq::largest_shift(codec) - C::shift(c));
              const double value = power * static_cast<double>(odd ? scales.odd[0] : scales.even[0]);
              // sqrt 2 is rounded once, before or after the scale
              CHECK(std::fabs(value / static_cast<double>(codec.decode(c, params)) - 1.0) <= 0x1p-23);
            }
          }
        });
      }
    }
  }
}

TEST_CASE("scores that are NaN give the code of zero") {
  for (rq::probability_kind kind : kinds) {
    const rq::probability_code code = code_of(kind, 4);
    const std::vector<std::int32_t> sums(20, 1);
    std::vector<float> scratch(static_cast<std::size_t>(rq::probability_scratch(20)));
    std::vector<std::uint8_t> codes(20);
    constexpr float inf = std::numeric_limits<float>::infinity();
    for (float multiplier : {std::nanf(""), inf, -inf, -1e-4F, std::numeric_limits<float>::max()}) {
      std::fill(codes.begin(), codes.end(), std::uint8_t{7});
      rq::probability_row<rq::default_arch, std::int32_t>(code, sums, multiplier, 20, scratch, codes);
      for (auto c : codes) CHECK(c == code.masked());
      rq::softmax_of_sums<rq::default_arch, std::int32_t>(sums, multiplier, 20, scratch);
      CHECK(oracle::bits(scratch[19]) == 0x7FC00000U);
    }
  }
}
