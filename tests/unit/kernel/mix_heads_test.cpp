// SPDX-License-Identifier: MIT
/// mix_heads_row against its sums in double; the same bits on every register.
#include <repquant/kernel/mix_heads.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include "oracle/samples.hpp"
#include "unit/kernel/architectures.hpp"
#include "unit/kernel/guarded.hpp"
#include <limits>

namespace rq = repquant;

namespace {

constexpr std::size_t head_sizes[] = {1, 2, 3, 5, 8, 16, 24, 43, 64, 100, 172, 256, 1000};

/// How many heads of a size are tried: many of small ones, so that registers span several.
std::vector<std::size_t> counts(std::size_t d) {
  return d <= 16 ? std::vector<std::size_t>{1, 2, 3, 7, 33} : std::vector<std::size_t>{1, d < 100 ? 3U : 2U};
}

struct heads {
  heads(std::size_t count, std::size_t size, const char* kind)
      : d(size),
        x(oracle::draws(kind, count * size, size)),
        matrices(oracle::draws("normal", count * size * size, count)) {}
  std::size_t d;
  std::vector<float> x;
  std::vector<float> matrices;
};

template<class Arch>
std::vector<float> run(const heads& h) {
  std::vector<float> y(h.x.size(), 3);
  rq::mix_heads_row<Arch>(h.x, h.matrices, h.d, y);
  return y;
}

/// mix_heads_row as its documentation defines it: products and sums rounded, in order.
std::vector<float> by_definition(const heads& h) {
  std::vector<float> y(h.x.size());
  for (std::size_t j = 0; j < y.size(); ++j) {
    const std::size_t head = j / h.d * h.d;
    for (std::size_t i = head; i < head + h.d; ++i) {
      const float term =
          oracle::rounded(static_cast<double>(h.x[i]) * static_cast<double>(h.matrices[i * h.d + j % h.d]));
      y[j] = i == head ? term : y[j] + term;
    }
  }
  return y;
}

/// The sum of a place, and of its terms without their signs.
struct sums {
  double value = 0;
  double size = 0;
};
sums defined(const heads& h, std::size_t place) {
  sums s;
  const std::size_t head = place / h.d * h.d;
  for (std::size_t i = head; i < head + h.d; ++i) {
    const double term = static_cast<double>(h.x[i]) * static_cast<double>(h.matrices[i * h.d + place % h.d]);
    s.value += term;
    s.size += std::fabs(term);
  }
  return s;
}

}  // namespace

TEST_CASE("mix_heads_row multiplies each head by its matrix, within its stated error",
          "[kernel][mix_heads]") {
  for (const std::size_t d : head_sizes) {
    for (const std::size_t count : counts(d)) {
      for (const char* kind : {"normal", "outliers", "huge mean"}) {
        CAPTURE(d, count, kind);
        const heads h(count, d, kind);
        const std::vector<float> y = run<rq::default_arch>(h);
        int wrong = 0;
        for (std::size_t j = 0; j < y.size(); ++j) {
          const sums want = defined(h, j);
          // the roundings of the oracle are far below 2^-10 of the bound
          const double bound = static_cast<double>(d) * 0x1p-24 * want.size * (1 + 0x1p-10);
          if (!(std::fabs(static_cast<double>(y[j]) - want.value) <= bound)) ++wrong;
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("mix_heads_row gives the same bits on every register", "[kernel][mix_heads]") {
  for (const std::size_t d : head_sizes) {
    for (const std::size_t count : counts(d)) {
      for (const char* kind : {"outliers", "every octave", "subnormal", "signed zeros"}) {
        CAPTURE(d, count, kind);
        const heads h(count, d, kind);
        const std::vector<float> want = run<rq::scalar_arch>(h);
        architectures::for_each([&]<class Arch>() { CHECK(oracle::same_bits(run<Arch>(h), want)); });
      }
    }
  }
}

TEST_CASE("every head size has the bits of the definition on every register", "[kernel][mix_heads]") {
  std::vector<std::size_t> all{96, 127, 128, 129, 160, 255, 256, 300};
  for (std::size_t d = 1; d <= 80; ++d) all.push_back(d);
  for (const std::size_t d : all) {
    for (std::size_t count : {1U, 4U}) {
      const heads h(count, d, "outliers");
      const std::vector<float> want = by_definition(h);
      architectures::for_each([&]<class Arch>() {
        if (!oracle::same_bits(run<Arch>(h), want)) FAIL(count << " heads of " << d);
      });
    }
  }
}

TEST_CASE("mix_heads_row adds in order, each product rounded", "[kernel][mix_heads]") {
  heads h(1, 3, "constant");
  h.matrices.assign(9, 1);
  const float large = 0x1p24F;  // and 1 more is itself
  const auto all = [&h](float want) {
    architectures::for_each([&]<class Arch>() { CHECK(run<Arch>(h) == std::vector<float>(3, want)); });
  };
  h.x = {1, 1, large};
  all(large + 2);
  h.x = {large, 1, 1};
  all(large);
  h.x = {1, large, 1};
  all(large);
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: a fused multiply-add would keep the 2^-24 that the product drops
  h.x = {-1 - 0x1p-11F, 1 + 0x1p-12F, 0};
  h.matrices.assign(9, 1 + 0x1p-12F);
  for (std::size_t j = 0; j < 3; ++j) h.matrices[j] = 1;
  all(0);
}

TEST_CASE("mix_heads_row gives one NaN, in the head that it is in", "[kernel][mix_heads]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const float nan = std::bit_cast<float>(0xFFD12345U);
  const float signalling = std::bit_cast<float>(0x7F812345U);
  for (const std::size_t d : {1U, 3U, 8U, 24U, 64U}) {
    for (const float bad : {nan, signalling, inf, -inf}) {
      for (const std::size_t count : {1U, 3U, 9U}) {
        for (const bool in_matrix : {false, true}) {
          heads h(count, d, "normal");
          const std::size_t head = count / 2;
          if (in_matrix) {
            h.matrices[(head * d + d / 2) * d + d - 1] = bad;
          } else {
            h.x[head * d + d / 2] = bad;
            h.x[head * d] = bad;  // two infinities whose products may have two signs
          }
          architectures::for_each([&]<class Arch>() {
            const std::vector<float> y = run<Arch>(h);
            int wrong = 0;
            for (std::size_t j = 0; j < y.size(); ++j) {
              const double want = defined(h, j).value;
              if (std::isnan(want)) {
                wrong += oracle::bits(y[j]) == 0x7FC00000U ? 0 : 1;
              } else if (std::isinf(want)) {
                wrong += static_cast<double>(y[j]) == want ? 0 : 1;
              } else {
                wrong += std::isfinite(y[j]) ? 0 : 1;
              }
            }
            CAPTURE(d, count, bad, in_matrix);
            CHECK(wrong == 0);
          });
        }
      }
    }
  }
}

TEST_CASE("mix_heads_row touches nothing outside its spans", "[kernel][mix_heads]") {
  for (const std::size_t d : {1U, 2U, 3U, 5U, 8U, 16U, 17U, 24U, 43U, 64U, 100U}) {
    for (const std::size_t count : counts(d)) {
      const heads h(count, d, "normal");
      const std::vector<float> want = run<rq::scalar_arch>(h);
      for (const guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
        const guarded::memory<float> x(std::span<const float>(h.x), edge);
        const guarded::memory<float> matrices(std::span<const float>(h.matrices), edge);
        const guarded::memory<float> out(h.x.size(), edge);
        architectures::for_each([&]<class Arch>() {
          rq::mix_heads_row<Arch>(x.span(), matrices.span(), d, out.span());
          CHECK(oracle::same_bits({out.span().begin(), out.span().end()}, want));
        });
      }
    }
  }
}
