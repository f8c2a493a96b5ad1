// SPDX-License-Identifier: MIT
/// hadamard_row against sums over the entries of its matrices, in double; the same bits on every register.
#include <repquant/kernel/hadamard.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include "oracle/samples.hpp"
#include "unit/kernel/architectures.hpp"
#include "unit/kernel/guarded.hpp"
#include <limits>

namespace rq = repquant;

namespace {

constexpr std::size_t sizes[] = {1, 2, 3, 5, 8, 16, 24, 43, 64, 100, 172, 256, 1000};
constexpr double u = 0x1p-24;

std::size_t log2_of_block(std::size_t n) {
  std::size_t k = 0;
  while (std::size_t{2} << k <= n) ++k;
  return k;
}

/// The sign of place j between two blocks: the highest bit of 32 of a product with 2^32 over the golden
/// ratio.
double sign_between(std::size_t j) { return j * 2654435761ULL % (1ULL << 32) >= 1ULL << 31 ? -1 : 1; }

/// Values, and how far floats may be from them: what each value read may be away, and a rounding for each
/// halving of what it weighs.
struct row {
  std::vector<double> value;
  std::vector<double> error;
};

/// The places from `first` on, 2^k of them, in sums with signs (-1)^popcount(r & c).
void mix(row& y, std::size_t first, std::size_t k) {
  const row before = y;
  const std::size_t block = std::size_t{1} << k;
  double all = 0;
  for (std::size_t c = first; c < first + block; ++c) {
    all += before.error[c] + static_cast<double>(k) * u * std::fabs(before.value[c]);
  }
  for (std::size_t r = 0; r < block; ++r) {
    double sum = 0;
    for (std::size_t c = 0; c < block; ++c) {
      int ones = 0;
      for (std::size_t both = r & c; both != 0; both &= both - 1) ++ones;
      sum += (ones % 2 == 0 ? 1 : -1) * before.value[first + c];
    }
    y.value[first + r] = sum;
    y.error[first + r] = all;
  }
}

row mixed(const std::vector<float>& x, const std::vector<float>& factors) {
  row y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    y.value.push_back(static_cast<double>(x[i]) * static_cast<double>(factors[i]));
    y.error.push_back(u * std::fabs(y.value[i]));
  }
  const std::size_t k = log2_of_block(x.size());
  const std::size_t block = std::size_t{1} << k;
  mix(y, 0, k);
  if (block == x.size()) return y;
  for (std::size_t j = x.size() - block; j < block; ++j) y.value[j] *= sign_between(j);
  mix(y, x.size() - block, k);
  return y;
}

/// The documented bound of every place: what enters a block, in all, times its roundings.
std::vector<double> documented_errors(const std::vector<float>& x, const std::vector<float>& factors) {
  const std::size_t n = x.size();
  const std::size_t k = log2_of_block(n);
  const std::size_t block = std::size_t{1} << k;
  std::vector<double> size(n);
  for (std::size_t i = 0; i < n; ++i) size[i] = std::fabs(static_cast<double>(x[i] * factors[i]));
  double first = 0;
  for (std::size_t i = 0; i < block; ++i) first += size[i];
  std::vector<double> bound(n, static_cast<double>(k + 1) * u * first);
  if (block == n) return bound;
  double second = 0;
  for (std::size_t i = n - block; i < n; ++i) second += i < block ? first : size[i];
  for (std::size_t i = n - block; i < n; ++i) bound[i] = static_cast<double>(2 * k + 1) * u * second;
  return bound;
}

std::vector<float> some_factors(std::size_t n) {
  std::vector<float> factors = oracle::draws("normal", n, 7);
  for (std::size_t i = 0; i < n; i += 5) factors[i] = -factors[i];
  return factors;
}

/// The largest distance from what is wanted, over the bound at its place; what is not a number is far away.
double worst(const std::vector<float>& y, const row& want, const std::vector<double>& bound) {
  double most = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double off = std::fabs(static_cast<double>(y[i]) - want.value[i]);
    if (!(off <= most * bound[i])) most = std::isnan(off) ? HUGE_VAL : off / bound[i];
  }
  return most;
}
/// The oracle's own roundings, and roundings of what was rounded, are far below 2^-10 of a bound.
constexpr double whole = 1 + 0x1p-10;

/// hadamard_row as its documentation defines it, one stride after the other.
std::vector<float> by_definition(const std::vector<float>& x, const std::vector<float>& factors) {
  std::vector<float> y;
  for (std::size_t i = 0; i < x.size(); ++i)
    y.push_back(oracle::rounded(static_cast<double>(x[i]) * static_cast<double>(factors[i])));
  const std::size_t block = std::size_t{1} << log2_of_block(x.size());
  for (std::size_t first = 0; first + block <= x.size();
       first += std::max<std::size_t>(x.size() - block, 1)) {
    for (std::size_t j = first; first > 0 && j < block; ++j) y[j] *= static_cast<float>(sign_between(j));
    for (std::size_t stride = block / 2; stride > 0; stride /= 2) {
      for (std::size_t i = 0; i < block; ++i) {
        if ((i & stride) != 0) continue;
        const float a = y[first + i];
        const float b = y[first + i + stride];
        y[first + i] = a + b;
        y[first + i + stride] = a - b;
      }
    }
  }
  return y;
}

template<class Arch>
std::vector<float> run(const std::vector<float>& x, const std::vector<float>& factors) {
  std::vector<float> y(x.size(), 3);
  rq::hadamard_row<Arch>(x, factors, y);
  return y;
}

}  // namespace

TEST_CASE("hadamard_row sums with the signs of its matrices, within its stated error", "[kernel][hadamard]") {
  for (const std::size_t n : sizes) {
    for (const char* kind : {"normal", "outliers", "huge mean", "gelu"}) {
      CAPTURE(n, kind);
      const std::vector<float> x = oracle::draws(kind, n, n);
      const std::vector<float> factors = some_factors(n);
      const row want = mixed(x, factors);
      const std::vector<double> stated = documented_errors(x, factors);
      const std::vector<float> y = run<rq::default_arch>(x, factors);
      CHECK(worst(y, want, want.error) <= whole);
      CHECK(worst(y, want, stated) <= whole);
    }
  }
}

TEST_CASE("errors of a first block add up in the last one", "[kernel][hadamard]") {
  // all that the first block makes has the size of its one large value and loses the small ones by rounding;
  // a sum of the last block that has the signs of those errors collects them: more than twice those of one
  double largest = 0;
  for (const std::size_t n : sizes) {
    const std::size_t block = rq::hadamard_block_size(n);
    for (std::size_t large = 0; large < block; large += 1 + block / 7) {
      CAPTURE(n, large);
      std::vector<float> x = oracle::draws("normal", n, n);
      for (float& v : x) v *= 0x1p-25F;
      x[large] = 1 + 0x1p-10F;
      const std::vector<float> one(n, 1);
      const row want = mixed(x, one);
      const std::vector<double> stated = documented_errors(x, one);
      const std::vector<float> y = run<rq::default_arch>(x, one);
      CHECK(worst(y, want, stated) <= whole);
      largest = std::fmax(largest, worst(y, want, std::vector<double>(n, stated[0])));
    }
  }
  CHECK(largest > 2);
}

TEST_CASE("hadamard_row is exact where every sum is", "[kernel][hadamard]") {
  for (const std::size_t n : sizes) {
    std::vector<float> x(n);
    std::vector<float> factors(n);
    for (std::size_t i = 0; i < n; ++i) {
      x[i] = static_cast<float>(static_cast<int>(i * 37 % 15) - 7);
      factors[i] = i % 3 == 0 ? -0.5F : 1.0F;
    }
    const row want = mixed(x, factors);
    const std::vector<float> y = run<rq::default_arch>(x, factors);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(static_cast<double>(y[i]) == want.value[i]);
  }
}

TEST_CASE("hadamard_row gives the same bits on every register", "[kernel][hadamard]") {
  for (const std::size_t n : sizes) {
    for (const oracle::sample& s : oracle::every_kind(n)) {
      CAPTURE(n, s.name);
      const std::vector<float> factors = some_factors(n);
      const std::vector<float> want = run<rq::scalar_arch>(s.values, factors);
      architectures::for_each([&]<class Arch>() {
        CHECK(oracle::same_bits(run<Arch>(s.values, factors), want));
        std::vector<float> in_place = s.values;
        rq::hadamard_row<Arch>(in_place, factors, in_place);
        CHECK(oracle::same_bits(in_place, want));
      });
    }
  }
}

TEST_CASE("every size has the bits of the definition on every register", "[kernel][hadamard]") {
  std::vector<std::size_t> all{512, 1000, 2048, 2100, 3072, 4096, 8192, 16384};  // passes of every kind
  for (std::size_t n = 1; n <= 300; ++n) all.push_back(n);
  for (const std::size_t n : all) {
    const std::vector<float> x = oracle::draws("outliers", n, n);
    const std::vector<float> factors = some_factors(n);
    const std::vector<float> want = by_definition(x, factors);
    architectures::for_each([&]<class Arch>() {
      if (!oracle::same_bits(run<Arch>(x, factors), want)) FAIL("size " << n);
    });
  }
}

TEST_CASE("hadamard_row adds what is half a row away first", "[kernel][hadamard]") {
  // 2^24 + 1 rounds to even: the 1 is lost where it meets 2^24 before another 1, and that decides the order
  const std::vector<float> one(4, 1);
  CHECK(run<rq::default_arch>({0x1p24F, 1, 0, 1}, one)[0] == 0x1p24F + 2);
  CHECK(run<rq::default_arch>({0x1p24F, 0, 1, 1}, one)[0] == 0x1p24F);
}

TEST_CASE("hadamard_row rounds each product before it adds", "[kernel][hadamard]") {
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: a fused multiply-add would keep the 2^-24 that the product drops
  const float a = 1 + 0x1p-12F;
  const std::vector<float> x{a, 1 + 0x1p-11F};
  architectures::for_each([&]<class Arch>() { CHECK(run<Arch>(x, {a, 1})[1] == 0.0F); });
}

TEST_CASE("hadamard_row twice is the row times the size of its block", "[kernel][hadamard]") {
  for (const std::size_t n : sizes) {
    if ((n & (n - 1)) != 0) continue;
    const std::vector<float> x = oracle::draws("few levels", n, n);  // small integers: all sums are exact
    const std::vector<float> one(n, 1);
    const std::vector<float> y = run<rq::default_arch>(run<rq::default_arch>(x, one), one);
    for (std::size_t i = 0; i < n; ++i) CHECK(y[i] == x[i] * static_cast<float>(n));
    CHECK(rq::hadamard_block_size(n) == n);
  }
  CHECK(rq::hadamard_block_size(1000) == 512);
  CHECK(rq::hadamard_block_size(3) == 2);
}

TEST_CASE("hadamard_row gives one NaN", "[kernel][hadamard]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const float nan = std::bit_cast<float>(0xFFD12345U);
  const float signalling = std::bit_cast<float>(0x7F812345U);
  for (const std::size_t n : sizes) {
    for (const std::vector<float>& bad : {std::vector{nan}, {signalling}, {inf}, {-inf}, {inf, inf}}) {
      for (const std::size_t first : {std::size_t{0}, n / 3, n - 1}) {
        std::vector<float> x = oracle::draws("normal", n, n);
        for (std::size_t k = 0; k < bad.size(); ++k) x[(first + 2 * k) % n] = bad[k];
        const std::vector<float> factors(n, -0.5F);
        const row want = mixed(x, factors);
        architectures::for_each([&]<class Arch>() {
          const std::vector<float> y = run<Arch>(x, factors);
          int wrong = 0;
          for (std::size_t i = 0; i < n; ++i) {
            if (std::isnan(want.value[i])) {
              wrong += oracle::bits(y[i]) == 0x7FC00000U ? 0 : 1;
            } else if (std::isinf(want.value[i])) {
              wrong += static_cast<double>(y[i]) == want.value[i] ? 0 : 1;
            } else {
              wrong += std::isfinite(y[i]) ? 0 : 1;
            }
          }
          CAPTURE(n, first, bad[0], bad.size());
          CHECK(wrong == 0);
        });
      }
    }
  }
}

TEST_CASE("hadamard_row touches nothing outside its row", "[kernel][hadamard]") {
  for (const std::size_t n : sizes) {
    const std::vector<float> x = oracle::draws("normal", n, n);
    const std::vector<float> factors = some_factors(n);
    const std::vector<float> want = run<rq::scalar_arch>(x, factors);
    for (const guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
      const guarded::memory<float> in(std::span<const float>(x), edge);
      const guarded::memory<float> by(std::span<const float>(factors), edge);
      const guarded::memory<float> out(n, edge);
      architectures::for_each([&]<class Arch>() {
        rq::hadamard_row<Arch>(in.span(), by.span(), out.span());
        CHECK(oracle::same_bits({out.span().begin(), out.span().end()}, want));
      });
    }
  }
}
