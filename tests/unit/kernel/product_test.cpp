// SPDX-License-Identifier: MIT
#include <repquant/kernel/product.hpp>

#include "catch.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

using words = std::vector<std::int16_t>;

std::vector<std::int64_t> exact(const words& a, rq::index m, rq::index as, const words& b, rq::index n,
                                rq::index bs, rq::index k) {
  std::vector<std::int64_t> c(static_cast<std::size_t>(m * n));
  for (rq::index i = 0; i < m; ++i) {
    for (rq::index j = 0; j < n; ++j) {
      std::int64_t sum = 0;
      for (rq::index d = 0; d < k; ++d) {
        sum +=
            std::int64_t{a[static_cast<std::size_t>(i * as + d)]} * b[static_cast<std::size_t>(j * bs + d)];
      }
      c[static_cast<std::size_t>(i * n + j)] = sum;
    }
  }
  return c;
}

/// Runs product and product_wide on both architectures; true where all equal the int64 loop and nothing
/// outside m x n is written.
bool agrees(const words& a, rq::index m, rq::index as, const words& b, rq::index n, rq::index bs, rq::index k,
            std::int64_t max_a, std::int64_t max_b) {
  const std::vector<std::int64_t> want = exact(a, m, as, b, n, bs, k);
  const rq::index cs = n + 3;
  const auto check = [&](const auto& c) {
    bool good = true;
    for (rq::index i = 0; i < m; ++i) {
      for (rq::index j = 0; j < cs; ++j) {
        const std::int64_t w = j < n ? want[static_cast<std::size_t>(i * n + j)] : 77;
        good = good && c[static_cast<std::size_t>(i * cs + j)] == w;
      }
    }
    return good;
  };
  const auto size = static_cast<std::size_t>(m * cs);
  bool good = true;
  if (rq::product_fits(k, max_a, max_b)) {
    std::vector<std::int32_t> narrow(size, 77);
    rq::product(a.data(), m, as, b.data(), n, bs, k, narrow.data(), cs);
    good = good && check(narrow);
    narrow.assign(size, 77);
    rq::product<rq::scalar_arch>(a.data(), m, as, b.data(), n, bs, k, narrow.data(), cs);
    good = good && check(narrow);
  }
  std::vector<std::int64_t> wide(size, 77);
  rq::product_wide(a.data(), m, as, b.data(), n, bs, k, max_a, max_b, wide.data(), cs);
  good = good && check(wide);
  wide.assign(size, 77);
  rq::product_wide<rq::scalar_arch>(a.data(), m, as, b.data(), n, bs, k, max_a, max_b, wide.data(), cs);
  return good && check(wide);
}

words fill(std::size_t n, int kind, int low, int high, unsigned seed) {
  std::mt19937 engine(seed);
  words v(n);
  for (std::size_t i = 0; i < n; ++i) {
    const int x = kind == 0   ? low
                  : kind == 1 ? high
                  : kind == 2 ? (i % 2 == 0 ? low : high)
                              : low + static_cast<int>(engine() % static_cast<unsigned>(high - low + 1));
    v[i] = static_cast<std::int16_t>(x);
  }
  return v;
}

}  // namespace

TEST_CASE("product_fits is the exact limit") {
  STATIC_REQUIRE(rq::product_fits(33025, 255, 255));
  STATIC_REQUIRE(!rq::product_fits(33026, 255, 255));
  STATIC_REQUIRE(rq::product_fits(1, 1 << 15, (1 << 15)));
  STATIC_REQUIRE(!rq::product_fits(2, 1 << 15, 1 << 15));  // -32768 squared, twice, is 2^31
  STATIC_REQUIRE(rq::product_fits(1000000, 0, 255));
  STATIC_REQUIRE(rq::product_chunk(255, 255) == 33025);
  STATIC_REQUIRE(rq::product_chunk(1 << 15, 1 << 15) == 1);
}

TEST_CASE("products are exact on random shapes, 1 and primes among them") {
  std::mt19937 engine(11);
  const rq::index sizes[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 64, 65, 97};
  const auto pick = [&] { return sizes[engine() % 14]; };
  for (int trial = 0; trial < 60; ++trial) {
    const rq::index m = pick();
    const rq::index n = pick();
    const rq::index k = pick();
    const rq::index as = k + static_cast<rq::index>(engine() % 5);
    const rq::index bs = k + static_cast<rq::index>(engine() % 5);
    const words a = fill(static_cast<std::size_t>(m * as), 3, -255, 255, static_cast<unsigned>(engine()));
    const words b = fill(static_cast<std::size_t>(n * bs), 3, -255, 255, static_cast<unsigned>(engine()));
    INFO(m << " x " << n << " x " << k);
    CHECK(agrees(a, m, as, b, n, bs, k, 255, 255));
  }
}

TEST_CASE("products are exact on adversarial fills at the edge of the range") {
  for (int kind_a = 0; kind_a < 3; ++kind_a) {
    for (int kind_b = 0; kind_b < 3; ++kind_b) {
      // 2^31 - 1 is nearly reached: 33025 * 255 * 255 = 2147450625
      const rq::index k = kind_a == 1 && kind_b == 1 ? 33025 : 3301;
      const words a = fill(static_cast<std::size_t>(2 * k), kind_a, -255, 255, 1);
      const words b = fill(static_cast<std::size_t>(3 * k), kind_b, -255, 255, 1);
      CHECK(agrees(a, 2, k, b, 3, k, k, 255, 255));
      // sums that do not fit an int32: 2^14 * 255 * 1031, and the widest int16
      const words p = fill(static_cast<std::size_t>(2 * 1031), kind_a, 0, 1 << 14, 1);
      const words v = fill(static_cast<std::size_t>(3 * 1031), kind_b, -255, 255, 1);
      CHECK(agrees(p, 2, 1031, v, 3, 1031, 1031, 1 << 14, 255));
      const words x = fill(static_cast<std::size_t>(2 * 67), kind_a, -32768, 32767, 1);
      const words y = fill(static_cast<std::size_t>(3 * 67), kind_b, -32768, 32767, 1);
      CHECK(agrees(x, 2, 67, y, 3, 67, 67, 1 << 15, 1 << 15));
    }
  }
}

TEST_CASE("products of matrices larger than a block are exact") {
  const words a = fill(47 * 1500, 3, -255, 255, 1);
  const words b = fill(131 * 1500, 3, -255, 255, 2);
  CHECK(agrees(a, 47, 1500, b, 131, 1500, 1500, 255, 255));
}

TEST_CASE("an empty sum is zero, and add goes onto what is there") {
  std::int32_t c[2] = {5, 5};
  rq::product(nullptr, 1, 0, nullptr, 2, 0, 0, c, 2);
  CHECK((c[0] == 0 && c[1] == 0));
  const std::int16_t a[3] = {1, 2, 3};
  const std::int16_t b[3] = {4, 5, 6};
  std::int64_t acc = 1000;
  rq::product_wide(a, 1, 3, b, 1, 3, 3, 3, 6, &acc, 1, true);
  CHECK(acc == 1032);
  rq::product_wide(a, 1, 3, b, 1, 3, 3, 1 << 15, 1 << 15, &acc, 1, true);
  CHECK(acc == 1064);
}
