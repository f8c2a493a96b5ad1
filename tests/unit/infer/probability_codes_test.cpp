// SPDX-License-Identifier: MIT
#include <repquant/infer/probability.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <random>

namespace rq = repquant;

namespace {

std::vector<rq::probability_code> codes_to_try() {
  std::vector<rq::probability_code> all;
  using kind = rq::probability_kind;
  for (int bits : {2, 3, 4, 6, 8}) {
    for (float scale : {1.0F, 0.97F, 0.31F, 3.7F, 0x1.000002p-4F, 0x1p-61F, 0x1p-90F, 0x1p70F}) {
      for (std::int32_t zero : {0, 3, -2, 70000}) {
        all.push_back({.kind = kind::as_uniform,
                       .bits = bits,
                       .scale = scale / static_cast<float>((1 << bits) - 1),
                       .zero_point = zero});
      }
      for (kind k : {kind::as_log2, kind::as_log_sqrt2}) {
        for (int depth : {3, 7, 14, 30}) {
          all.push_back({.kind = k, .bits = bits, .depth = depth, .scale = scale});
          all.push_back(
              {.kind = k, .bits = bits, .zero = rq::zero_rule::none, .depth = depth, .scale = scale});
        }
      }
    }
  }
  for (int bits : {2, 3, 4, 6, 8}) {
    for (kind k : {kind::as_uniform, kind::as_log2, kind::as_log_sqrt2}) {
      for (int depth : {3, 7, 14, 30}) {
        rq::probability_code code{.kind = k, .bits = bits, .depth = depth, .relative = true};
        code.scale = code.relative_scale();
        all.push_back(code);
      }
    }
  }
  return all;
}

/// Rows of score sums: spread out, all equal, two values, one key far above the rest.
std::vector<std::int32_t> sums_of(int shape, std::size_t n, std::mt19937& engine) {
  std::vector<std::int32_t> sums(n);
  const std::int32_t spread = shape == 0 ? 60000 : shape == 1 ? 300000 : (1 << 30) - 1;
  for (auto& s : sums)
    s = static_cast<std::int32_t>(engine() % (2U * static_cast<unsigned>(spread) + 1)) - spread;
  if (shape == 3) std::fill(sums.begin(), sums.end(), -7);
  if (shape == 4) {
    for (auto& s : sums) s = s > 0 ? 6931 : 0;
  }
  if (shape == 5) {
    for (auto& s : sums) s /= 1 << 20;
    sums[n / 2] = 200000;
  }
  return sums;
}

/// What the head of probability_codes.hpp says, step by step, each in a place of its own.
std::vector<std::uint8_t> by_division(const rq::probability_code& code, const std::vector<std::int32_t>& sums,
                                      float multiplier, std::size_t n) {
  std::vector<std::uint8_t> codes(sums.size(), code.masked());
  if (n == 0) return codes;
  const rq::softmax_steps steps = rq::steps_of(multiplier);
  const std::int64_t top = *std::max_element(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(n));
  std::vector<float> e(n);
  if (code.relative && code.kind != rq::probability_kind::as_uniform) {
    const int per_octave = code.kind == rq::probability_kind::as_log2 ? 1 : 2;
    const int smallest = std::min((1 << code.bits) - 2, per_octave * code.depth + per_octave - 1);
    const float factor = multiplier * static_cast<float>(per_octave * 1.4426950408889634);
    for (std::size_t i = 0; i < n; ++i) {
      const float far = static_cast<float>(top - std::int64_t{sums[i]}) * factor;
      const float whole = std::nearbyint(std::min(far, 1000.0F));
      codes[i] = static_cast<std::uint8_t>(whole > static_cast<float>(smallest) ? (1 << code.bits) - 1
                                                                                : static_cast<int>(whole));
    }
    return codes;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const auto far = static_cast<float>(top - std::int64_t{sums[i]});
    e[i] = rq::elementary::exp2_of_negative(rq::lane::mul(std::min(far, steps.limit), steps.octaves));
  }
  const float total = rq::reduce::sum<rq::scalar_arch>(e);
  for (float& v : e) v = code.relative ? v : v / total;
  code.visit([&](const auto& codec, const auto& p) {
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(codec.encode(e[i], p));
  });
  return codes;
}

template<class Arch>
std::vector<std::uint8_t> blocked(const rq::probability_code& code, const std::vector<std::int32_t>& sums,
                                  float multiplier, const std::vector<rq::index>& visible) {
  const auto keys = static_cast<rq::index>(sums.size());
  const rq::index stride = rq::padded_scores(keys);
  const auto rows = static_cast<rq::index>(visible.size());
  std::vector<std::int32_t> padded(static_cast<std::size_t>(rows * stride), 0x3FFFFFFF);
  for (rq::index r = 0; r < rows; ++r) std::copy(sums.begin(), sums.end(), padded.begin() + r * stride);
  std::vector<float> e(padded.size(), std::nanf(""));
  std::vector<std::uint8_t> codes(padded.size() + 1, 0xA5);
  code.visit([&](const auto& codec, const auto& p) {
    rq::probability_codes<Arch>(
        codec, p, padded.data(), rows, keys,
        [&](rq::index r) { return visible[static_cast<std::size_t>(r)]; }, multiplier, code.masked(),
        e.data(), codes.data(), code.relative);
  });
  CHECK(codes.back() == 0xA5);
  std::vector<std::uint8_t> all;
  for (rq::index r = 0; r < rows; ++r) {
    all.insert(all.end(), codes.begin() + r * stride, codes.begin() + r * stride + keys);
  }
  return all;
}

}  // namespace

TEST_CASE("codes without a division are those of dividing, for every codec, scale and shape of row") {
  std::mt19937 engine(12);
  int wrong = 0;
  int rows = 0;
  for (const rq::probability_code& code : codes_to_try()) {
    for (int shape = 0; shape < 6; ++shape) {
      const std::size_t n = 1 + engine() % 70;
      const std::vector<std::int32_t> sums = sums_of(shape, n, engine);
      const float multiplier = shape == 2 ? 1e-8F : 1e-4F;
      std::vector<rq::index> visible;
      std::vector<std::uint8_t> want;
      for (std::size_t r = 0; r < 10; ++r) {
        visible.push_back(static_cast<rq::index>(r == 0 ? n : engine() % (n + 1)));
        const auto row = by_division(code, sums, multiplier, static_cast<std::size_t>(visible.back()));
        want.insert(want.end(), row.begin(), row.end());
      }
      rows += 10;
      wrong += blocked<rq::default_arch>(code, sums, multiplier, visible) == want ? 0 : 1;
      wrong += blocked<rq::scalar_arch>(code, sums, multiplier, visible) == want ? 0 : 1;
      std::vector<float> scratch(
          static_cast<std::size_t>(rq::probability_scratch(static_cast<rq::index>(n))));
      std::vector<std::uint8_t> one(n);
      rq::probability_row<rq::default_arch, std::int32_t>(code, sums, multiplier, visible[0], scratch, one);
      wrong += std::equal(one.begin(), one.end(), want.begin()) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(rows > 10000);
}

TEST_CASE("every float about the boundaries of codes gets the code that dividing gives") {
  // exponentials are handed over as they are: 200 floats on both sides of each boundary of the estimate
  std::mt19937 engine(5);
  int wrong = 0;
  for (int trial = 0; trial < 200; ++trial) {
    const float total = 1.0F + static_cast<float>(engine() % 100000) * 0x1.9p-9F;  // 1 .. 306
    for (rq::probability_code code :
         {rq::probability_code{.kind = rq::probability_kind::as_log2, .bits = 4},
          rq::probability_code{.kind = rq::probability_kind::as_log_sqrt2, .bits = 6},
          rq::probability_code{.kind = rq::probability_kind::as_uniform, .bits = 4}}) {
      code.scale = (0.05F + static_cast<float>(engine() % 1000) * 0.001F) /
                   (static_cast<int>(code.kind) == 0 ? 15 : 1);
      const int steps = static_cast<int>(code.kind);
      for (int c = 0; c < 14; ++c) {
        const double half = steps == 0 ? c + 0.5 : std::exp2(-(c + 0.5) / steps);
        const float middle =
            static_cast<float>(half * static_cast<double>(total) * static_cast<double>(code.scale));
        if (!(middle < 1.0F)) continue;
        std::vector<float> e(64);
        for (int i = 0; i < 64; ++i)
          e[static_cast<std::size_t>(i)] = std::bit_cast<float>(std::bit_cast<std::int32_t>(middle) + i - 32);
        std::vector<std::uint8_t> want(64);
        std::vector<std::uint8_t> got(64);
        code.visit([&](const auto& codec, const auto& p) {
          for (std::size_t i = 0; i < 64; ++i)
            want[i] = static_cast<std::uint8_t>(codec.encode(e[i] / total, p));
          rq::detail::encode_shares<rq::default_arch>(codec, p, e.data(), total, 64, got.data());
        });
        wrong += got == want ? 0 : 1;
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("softmax_of_sums is the softmax of double within its stated error") {
  std::mt19937 engine(8);
  for (std::size_t n : {1U, 2U, 16U, 50U, 197U, 1000U}) {
    for (std::int32_t spread : {1000, 30000, 300000}) {
      std::vector<std::int32_t> sums(n);
      for (auto& s : sums)
        s = static_cast<std::int32_t>(engine() % (2U * static_cast<unsigned>(spread))) - spread;
      std::vector<double> scores(n);
      const float multiplier = 1e-4F;
      for (std::size_t i = 0; i < n; ++i) scores[i] = sums[i] * static_cast<double>(multiplier);
      const std::vector<double> want = oracle::softmax(scores);
      const double top = *std::max_element(scores.begin(), scores.end());
      std::vector<float> p(static_cast<std::size_t>(rq::padded_scores(static_cast<rq::index>(n))));
      rq::softmax_of_sums<rq::default_arch, std::int32_t>(sums, multiplier, static_cast<rq::index>(n), p);
      double worst = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (top - scores[i] > 40) continue;  // counts as what is as far as the limit
        // 4 2^-24 of the exponential above and below, 3 sums more, a quotient; 3 roundings of the exponent
        const double allowed = (12 + static_cast<double>(n) / 16 + 3 * (top - scores[i])) * 0x1p-24;
        worst = std::fmax(worst, std::fabs(p[i] / want[i] - 1) / allowed);
      }
      CHECK(worst <= 1.0);
    }
  }
}

TEST_CASE("a multiplier of zero, of either sign, gives every key the same share") {
  const std::vector<std::int32_t> sums = {5, -300, 9, 0};
  std::vector<float> p(static_cast<std::size_t>(rq::padded_scores(4)));
  for (const float zero : {0.0F, -0.0F}) {
    rq::softmax_of_sums(std::span<const std::int32_t>(sums), zero, 4, std::span<float>(p));
    for (std::size_t j = 0; j < 4; ++j) CHECK(p[j] == 0.25F);
  }
}
