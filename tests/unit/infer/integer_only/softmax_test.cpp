// SPDX-License-Identifier: MIT
#include <repquant/infer/integer_only/softmax.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <random>

namespace rq = repquant;
namespace io = repquant::integer_only;

namespace {

/// Scores of a normal distribution, `spread` in real units.
std::vector<std::int32_t> scores_of(std::size_t n, unsigned seed, double unit, double spread) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal(0.0, spread / unit);
  std::vector<std::int32_t> s(n);
  for (std::int32_t& v : s) v = static_cast<std::int32_t>(std::clamp(normal(bits), -0x1p29, 0x1p29));
  return s;
}

std::vector<double> real_softmax(const std::vector<std::int32_t>& s, double unit) {
  std::vector<double> x(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) x[i] = s[i] * unit;
  return oracle::softmax(x);
}

template<class Arch>
std::vector<std::uint8_t> run(const io::softmax_plan& p, const std::vector<std::int32_t>& s) {
  std::vector<std::int32_t> scratch(s.size());
  std::vector<std::uint8_t> codes(s.size());
  io::softmax_codes_row<Arch>(p, s, scratch, codes);
  return codes;
}

io::softmax_plan plan_of(const rq::probability_code& code, float unit) {
  io::softmax_plan p;
  const rq::failure f = io::prepare(code, unit, p);
  REQUIRE(!f);
  return p;
}

constexpr float units[] = {0x1p-24F, 1e-5F, 3e-4F, 0.01F, 0.37F, 8.0F};

}  // namespace

TEST_CASE("integer softmax: logarithmic codes are those of probabilities within 0.003 octaves") {
  for (const rq::probability_kind kind :
       {rq::probability_kind::as_log2, rq::probability_kind::as_log_sqrt2}) {
    const int steps = kind == rq::probability_kind::as_log2 ? 1 : 2;
    for (int bits : {3, 4, 6, 8}) {
      for (const float unit : units) {
        for (const float scale : {1.0F, 0.25F, 0.03F}) {
          const rq::probability_code code{.kind = kind, .bits = bits, .scale = scale};
          const io::softmax_plan p = plan_of(code, unit);
          double worst = 0;
          for (unsigned seed = 0; seed < 6; ++seed) {
            const auto n = static_cast<std::size_t>(1 + 97 * seed);
            const std::vector<std::int32_t> s =
                scores_of(n, seed, static_cast<double>(unit), 1.0 + 2.0 * seed);
            const std::vector<double> real = real_softmax(s, static_cast<double>(unit));
            const std::vector<std::uint8_t> codes = run<rq::default_arch>(p, s);
            CHECK(codes == run<rq::scalar_arch>(p, s));
            int smallest = 0;
            int last = 0;
            code.visit([&]<class C>(const C& c, const auto&) {
              if constexpr (!std::same_as<C, rq::uniform>) {
                smallest = c.smallest();
                last = c.last();
              }
            });
            for (std::size_t i = 0; i < n; ++i) {
              // how far, in octaves, the true place is from where its code would be right
              const double place = -steps * std::log2(real[i] / static_cast<double>(scale));
              double off = 0;
              if (codes[i] == last && last > smallest) {
                off = smallest + 0.5 - place;
              } else {
                off = std::fabs(place - codes[i]) - 0.5;
                if (codes[i] == 0) off = place - 0.5;
              }
              worst = std::fmax(worst, off / steps);
            }
          }
          INFO("kind " << static_cast<int>(kind) << " bits " << bits << " unit " << unit << " scale "
                       << scale);
          CHECK(worst <= 0.003);
        }
      }
    }
  }
}

TEST_CASE("integer softmax: uniform codes are those of the true probabilities, nearly") {
  for (int bits : {2, 4, 8}) {
    const int levels = 1 << bits;
    for (const float unit : units) {
      for (const std::int32_t zero : {0, 3}) {
        const float scale = 1.0F / static_cast<float>(levels - 1);
        const io::softmax_plan p = plan_of(
            {.kind = rq::probability_kind::as_uniform, .bits = bits, .scale = scale, .zero_point = zero},
            unit);
        double worst = 0;
        for (unsigned seed = 0; seed < 8; ++seed) {
          const auto n = static_cast<std::size_t>(1 + 61 * seed);
          const std::vector<std::int32_t> s = scores_of(n, seed, static_cast<double>(unit), 0.5 + seed);
          const std::vector<double> real = real_softmax(s, static_cast<double>(unit));
          const std::vector<std::uint8_t> codes = run<rq::default_arch>(p, s);
          CHECK(codes == run<rq::scalar_arch>(p, s));
          for (std::size_t i = 0; i < n; ++i) {
            const double place = std::fmin(real[i] / static_cast<double>(scale) + zero, levels - 1);
            worst = std::fmax(worst, std::fabs(codes[i] - place) - 0.5);
          }
        }
        INFO("bits " << bits << " unit " << unit << " worst " << worst);
        CHECK(worst <= 0.003 * levels + 0x1p-13);
      }
    }
  }
}

TEST_CASE("integer softmax: equal scores, one key, the farthest scores") {
  const io::softmax_plan p = plan_of({.kind = rq::probability_kind::as_log2, .bits = 4}, 0.01F);
  CHECK(run<rq::default_arch>(p, {-5}) == std::vector<std::uint8_t>{0});
  CHECK(run<rq::default_arch>(p, std::vector<std::int32_t>(64, 7)) == std::vector<std::uint8_t>(64, 6));
  const std::int32_t far = (1 << 30) - 1;
  CHECK(run<rq::default_arch>(p, {far, -far, far - 1}) == std::vector<std::uint8_t>{1, 15, 1});
}

TEST_CASE("integer softmax: what it refuses") {
  io::softmax_plan p;
  CHECK(io::prepare({.bits = 9}, 0.1F, p).code == rq::errc::bad_bits);
  CHECK(io::prepare({.depth = 31}, 0.1F, p).code == rq::errc::bad_option);
  CHECK(io::prepare({.relative = true}, 0.1F, p).code == rq::errc::bad_option);
  for (float unit : {0.0F, -1.0F, 9.0F, 0x1p-25F, NAN, INFINITY}) {
    CHECK(io::prepare({}, unit, p).code == rq::errc::bad_option);
  }
  for (float scale : {0.0F, 0x1p-21F, 0x1p21F, NAN}) {
    CHECK(io::prepare({.scale = scale}, 0.1F, p).code == rq::errc::bad_option);
  }
}
