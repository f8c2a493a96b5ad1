// SPDX-License-Identifier: MIT
#include <repquant/calibrate/histogram.hpp>

#include "catch.hpp"
#include "oracle/samples.hpp"
#include <limits>
#include <numeric>

namespace rq = repquant;

namespace {

rq::histogram seen(std::span<const float> xs) {
  rq::histogram h;
  h.observe(xs);
  return h;
}

std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

bool same(const rq::histogram& a, const rq::histogram& b) {
  const auto x = a.bins();
  const auto y = b.bins();
  if (a.count() != b.count() || a.non_finite() != b.non_finite() || a.mantissa_bits() != b.mantissa_bits())
    return false;
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const auto& p, const auto& q) {
    return bits(p.lo) == bits(q.lo) && bits(p.hi) == bits(q.hi) && p.count == q.count;
  });
}

std::vector<float> shuffled(std::vector<float> xs, std::uint64_t seed) {
  oracle::mixer m{seed};
  for (std::size_t i = xs.size(); i > 1; --i) std::swap(xs[i - 1], xs[m.next() % i]);
  return xs;
}

}  // namespace

TEST_CASE("histogram: every value is in its bin, bins ascend, and are as fine as stated") {
  for (std::size_t n : {1U, 2U, 3U, 63U, 64U, 65U, 66U, 200U, 20000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      INFO(name << ", " << n << " values");
      const rq::histogram h = seen(xs);
      std::vector<float> sorted = xs;
      std::sort(sorted.begin(), sorted.end());
      REQUIRE(h.count() == n);
      REQUIRE(h.min() == sorted.front());
      REQUIRE(h.max() == sorted.back());
      std::size_t i = 0;
      for (const auto& b : h.bins()) {
        REQUIRE(b.lo <= b.hi);
        REQUIRE(i + b.count <= n);
        for (std::uint64_t k = 0; k < b.count; ++k, ++i) {
          REQUIRE(b.lo <= sorted[i]);
          REQUIRE(sorted[i] <= b.hi);
        }
        const double size = std::fmax(std::fabs(b.lo), std::fabs(b.hi));
        REQUIRE(static_cast<double>(b.hi) - b.lo <= std::fmax(size * 0x1p-8, 0x1p-134));
      }
      REQUIRE(i == n);
      // the tails, and everything up to 64 values, exactly
      const auto exact = h.exact();
      REQUIRE(exact.size() == std::min<std::size_t>(n, 64));
      for (std::size_t k = 0; k < exact.size(); ++k) {
        const bool low = k < 32 || n <= 64;
        REQUIRE(exact[k] == sorted[low ? k : n - exact.size() + k]);
      }
    }
  }
}

TEST_CASE("histogram: narrow data get finer bins than their octave") {
  // spread / mean = 1e-3, 12 standard deviations wide: 32 pages of 256 bins divide it into at least 4096
  const rq::histogram h = seen(oracle::draws("huge mean", 50000));
  REQUIRE(h.mantissa_bits() >= 18);
  // so few distinct values that all stay exact
  for (const char* kind : {"constant", "few levels"}) {
    const rq::histogram few = seen(oracle::draws(kind, 50000));
    REQUIRE(few.mantissa_bits() == 23);
    for (const auto& b : few.bins()) REQUIRE(b.lo == b.hi);
  }
  REQUIRE(seen(oracle::draws("every octave", 50000)).mantissa_bits() == 8);
}

TEST_CASE("histogram: order, split and merge order change nothing, bit for bit") {
  for (const auto& [name, xs] : oracle::every_kind(3000)) {
    INFO(name);
    const rq::histogram whole = seen(xs);
    std::vector<float> ascending = xs;
    std::sort(ascending.begin(), ascending.end());
    const std::vector<float> descending(ascending.rbegin(), ascending.rend());
    REQUIRE(same(whole, seen(ascending)));
    REQUIRE(same(whole, seen(descending)));
    REQUIRE(same(whole, seen(shuffled(xs, 7))));

    for (std::size_t parts : {2U, 3U, 17U, 500U}) {
      std::vector<rq::histogram> hs(parts);
      for (std::size_t i = 0; i < xs.size(); ++i) hs[(i * i) % parts].observe({&xs[i], 1});
      rq::histogram forward;
      for (const auto& h : hs) forward.merge(h);
      REQUIRE(same(whole, forward));
      rq::histogram backward = hs.back();
      for (std::size_t i = parts - 1; i-- > 0;) backward.merge(hs[i]);
      REQUIRE(same(whole, backward));
      for (std::size_t width = 1; width < parts; width *= 2) {  // as a tree
        for (std::size_t i = 0; i + width < parts; i += 2 * width) hs[i].merge(hs[i + width]);
      }
      REQUIRE(same(whole, hs[0]));
    }
  }
}

TEST_CASE("histogram: kinds that need different bins merge into the bins of both") {
  const auto narrow = oracle::draws("huge mean", 2000);
  const auto wide = oracle::draws("every octave", 2000);
  std::vector<float> both = narrow;
  both.insert(both.end(), wide.begin(), wide.end());
  rq::histogram a = seen(narrow);
  a.merge(seen(wide));
  rq::histogram b = seen(wide);
  b.merge(seen(narrow));
  REQUIRE(same(a, seen(both)));
  REQUIRE(same(b, seen(both)));
}

TEST_CASE("histogram: NaN and infinities are counted and nothing else") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t n : {0U, 5U, 5000U}) {
    auto xs = oracle::draws("normal", n);
    const rq::histogram clean = seen(xs);
    for (float bad : {nan, infinity, -infinity, -nan})
      xs.insert(xs.begin() + static_cast<std::ptrdiff_t>(n / 2), bad);
    const rq::histogram h = seen(xs);
    REQUIRE(h.non_finite() == 4);
    REQUIRE(h.count() == n);
    REQUIRE(h.bins().size() == clean.bins().size());
    rq::histogram twice = h;
    twice.merge(h);
    REQUIRE(twice.non_finite() == 8);
  }
}

TEST_CASE("histogram: minus zero is zero") {
  const std::vector<float> xs(100, -0.0F);
  const rq::histogram h = seen(xs);
  for (const auto& b : h.bins()) {
    REQUIRE(bits(b.lo) == 0);
    REQUIRE(bits(b.hi) == 0);
  }
  REQUIRE(same(h, seen(std::vector<float>(100, 0.0F))));
}

TEST_CASE("histogram: counts go beyond 32 bits") {
  rq::histogram h = seen(oracle::draws("normal", 1000));
  for (int i = 0; i < 30; ++i) h.merge(h);
  REQUIRE(h.count() == 1000ULL << 30);
  std::uint64_t sum = 0;
  std::uint64_t most = 0;
  for (const auto& b : h.bins()) {
    sum += b.count;
    most = std::max(most, b.count);
  }
  REQUIRE(sum == h.count());
  REQUIRE(most > UINT32_MAX);

  // exactly at the limit of a 32-bit count, one value at a time
  rq::histogram one = seen(std::vector<float>(1, 2.5F));
  rq::histogram at_limit = seen(std::vector<float>(64, 2.5F));
  for (int k = 0; k < 32; ++k) {  // 64 exact ones and 2^32 - 1 in the bin
    at_limit.merge(one);
    one.merge(one);
  }
  REQUIRE(at_limit.bins()[32].count == UINT32_MAX);
  at_limit.observe(std::vector<float>(5, 2.5F));
  REQUIRE(at_limit.bins()[32].count == UINT32_MAX + 5ULL);
  at_limit.observe(std::vector<float>{2.0F, 3.0F, 9.0F, 2.5F});  // other pages after a carry
  REQUIRE(at_limit.count() == UINT32_MAX + 73ULL);
  sum = 0;
  for (const auto& b : at_limit.bins()) sum += b.count;
  REQUIRE(sum == at_limit.count());
}

TEST_CASE("histogram: memory is bounded as stated") {
  REQUIRE(seen(oracle::draws("normal", 64)).bytes() <= 512);
  REQUIRE(seen(oracle::draws("normal", 100000)).bytes() <= 50 * 1024);
  std::vector<float> all;  // every bin that 8 mantissa bits have, in both signs
  for (std::uint32_t place = 0; place < (1U << 16); ++place) {
    const float x = std::bit_cast<float>(place << 15 | 5U);
    if (x * 0 == 0) all.insert(all.end(), {x, -x});
  }
  const rq::histogram h = seen(shuffled(all, 3));
  REQUIRE(h.mantissa_bits() == 8);
  REQUIRE(h.bytes() <= 550 * 1000);
  REQUIRE(h.bins().size() > 2 * 255 * 256 - 64);
}

TEST_CASE("histogram: a copy does not share state") {
  const rq::histogram h = seen(oracle::draws("normal", 1000));
  rq::histogram copy = h;
  copy.observe(oracle::draws("every octave", 1000));
  REQUIRE(same(h, seen(oracle::draws("normal", 1000))));
}
