// SPDX-License-Identifier: MIT
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/kernel/log_product.hpp>

#include "catch.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

/// Even and odd sums by definition: 2^(D - floor(c / steps)), with code, D and zero counted here anew.
template<int Steps>
bool agrees(const rq::logarithmic<Steps>& codec, const std::vector<std::uint8_t>& codes, rq::index m,
            rq::index k, const std::vector<std::int16_t>& v, rq::index n, std::int64_t max_v) {
  const int levels = 1 << codec.bits;
  int smallest = levels - (codec.zero == rq::zero_rule::last_code ? 2 : 1);
  while (smallest / Steps > codec.depth) --smallest;
  const int depth = smallest / Steps;
  std::vector<std::int64_t> want[2];
  for (auto& w : want) w.assign(static_cast<std::size_t>(m * n), 0);
  for (rq::index i = 0; i < m; ++i) {
    for (rq::index j = 0; j < k; ++j) {
      const int c = codes[static_cast<std::size_t>(i * k + j)];
      if (c > smallest) continue;
      for (rq::index d = 0; d < n; ++d) {
        want[c % Steps][static_cast<std::size_t>(i * n + d)] +=
            (std::int64_t{1} << (depth - c / Steps)) * v[static_cast<std::size_t>(d * k + j)];
      }
    }
  }
  std::vector<std::int16_t> scratch(static_cast<std::size_t>(m * k));
  // v once as it is, once in padded rows with rubbish behind them
  const rq::index padded = rq::padded_row(k);
  std::vector<std::int16_t> padded_v(static_cast<std::size_t>(n * padded), std::int16_t{32767});
  for (rq::index d = 0; d < n; ++d) std::copy_n(v.data() + d * k, k, padded_v.data() + d * padded);
  std::vector<std::int16_t> padded_scratch(static_cast<std::size_t>(m * padded));
  const auto run = [&]<class Arch, class Sum>(Arch, Sum) {
    std::vector<Sum> even(static_cast<std::size_t>(m * n), 5);
    std::vector<Sum> odd(even);
    rq::log_product<Arch>(codec, codes.data(), m, k, v.data(), n, k, k, max_v, even.data(), odd.data(), n,
                          scratch);
    std::vector<Sum> even_padded(even.size(), 5);
    std::vector<Sum> odd_padded(even.size(), 5);
    rq::log_product<Arch>(codec, codes.data(), m, k, padded_v.data(), n, padded, k, max_v, even_padded.data(),
                          odd_padded.data(), n, padded_scratch);
    bool good = even_padded == even && odd_padded == odd;
    for (std::size_t i = 0; i < even.size(); ++i) {
      good = good && even[i] == want[0][i] && odd[i] == (Steps == 2 ? want[1][i] : 5);
    }
    return good;
  };
  bool good = run(rq::default_arch{}, std::int64_t{}) && run(rq::scalar_arch{}, std::int64_t{});
  if (rq::log_product_fits(codec, k, max_v)) {
    good = good && run(rq::default_arch{}, std::int32_t{}) && run(rq::scalar_arch{}, std::int32_t{});
  }
  return good;
}

template<int Steps>
void all_codecs() {
  std::mt19937 engine(5);
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    for (int depth : {0, 3, 7, 14, 15, 22, 29, 30}) {
      for (rq::zero_rule zero : {rq::zero_rule::last_code, rq::zero_rule::none}) {
        const rq::logarithmic<Steps> codec{.bits = bits, .zero = zero, .depth = depth};
        const rq::index m = 1 + static_cast<rq::index>(engine() % 5);
        const rq::index n = 1 + static_cast<rq::index>(engine() % 9);
        const rq::index k = 1 + static_cast<rq::index>(engine() % 67);
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(m * k));
        for (auto& c : codes) {
          // what encode produces: a used code, or the last one
          const auto used = static_cast<std::uint32_t>(codec.smallest()) + 1;
          const auto draw = engine() % (used + 1);
          c = static_cast<std::uint8_t>(draw == used ? static_cast<std::uint32_t>(codec.last()) : draw);
        }
        std::vector<std::int16_t> v(static_cast<std::size_t>(n * k));
        for (auto& x : v) x = static_cast<std::int16_t>(static_cast<int>(engine() % 511) - 255);
        INFO("bits " << bits << " depth " << depth << " k " << k);
        CHECK(agrees(codec, codes, m, k, v, n, 255));
        // all code 0, the largest values: every product at its largest
        std::fill(codes.begin(), codes.end(), std::uint8_t{0});
        std::fill(v.begin(), v.end(), std::int16_t{-255});
        CHECK(agrees(codec, codes, m, k, v, n, 255));
        std::fill(codes.begin(), codes.end(), static_cast<std::uint8_t>(codec.last()));
        CHECK(agrees(codec, codes, m, k, v, n, 255));
      }
    }
  }
}

}  // namespace

TEST_CASE("log2 products are exact for every depth") { all_codecs<1>(); }
TEST_CASE("log-sqrt2 products are exact for every depth") { all_codecs<2>(); }

TEST_CASE("log products choose int32 by proved range") {
  STATIC_REQUIRE(rq::log_product_fits(rq::log_sqrt2{.bits = 4}, 65793, 255));
  STATIC_REQUIRE(!rq::log_product_fits(rq::log_sqrt2{.bits = 4}, 65794, 255));
  STATIC_REQUIRE(rq::log_product_fits(rq::log2{.bits = 4}, 514, 255));
  STATIC_REQUIRE(!rq::log_product_fits(rq::log2{.bits = 4}, 515, 255));
  STATIC_REQUIRE(!rq::log_product_fits(rq::log2{.bits = 5}, 1, 1));  // a power of 2^30 is no int16
  STATIC_REQUIRE(rq::largest_shift(rq::log_sqrt2{.bits = 4}) == 7);
  STATIC_REQUIRE(rq::largest_shift(rq::log2{.bits = 4}) == 14);
  STATIC_REQUIRE(rq::power_bands(rq::log2{.bits = 8}) == 3);
}

TEST_CASE("log products are exact where only int64 holds them") {
  const rq::index k = 1300;
  const std::vector<std::uint8_t> codes(static_cast<std::size_t>(2 * k), 0);
  const std::vector<std::int16_t> v(static_cast<std::size_t>(3 * k), 255);
  CHECK(agrees(rq::log2{.bits = 4}, codes, 2, k, v, 3, 255));
  CHECK(agrees(rq::log2{.bits = 6}, codes, 2, k, v, 3, 255));
}
