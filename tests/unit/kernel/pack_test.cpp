// SPDX-License-Identifier: MIT
/// pack and unpack: the canonical order, for every size and architecture.
#include <repquant/kernel/pack.hpp>

#include "catch.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

using bytes = std::vector<std::uint8_t>;

bytes random_bytes(std::size_t n) {
  std::mt19937 bits(static_cast<unsigned>(n) + 1);
  bytes b(n);
  for (std::uint8_t& v : b) v = static_cast<std::uint8_t>(bits() >> 9);
  return b;
}

/// Sizes at which pack, unpack or what lies behind their output differ from the bit-by-bit definition.
template<int Bits, class Arch>
int mismatches(std::size_t n) {
  const bytes codes = random_bytes(n);  // also bits above the code, which pack must drop
  bytes expected(rq::packed_size<Bits>(n), 0);
  for (std::size_t i = 0; i < n * Bits; ++i) {
    const unsigned bit = (static_cast<unsigned>(codes[i / Bits]) >> (i % Bits)) & 1U;
    expected[i / 8] = static_cast<std::uint8_t>(expected[i / 8] | (bit << (i % 8)));
  }
  bytes packed(expected.size() + 1, 0xEE);
  rq::pack<Bits, Arch>(codes, std::span(packed).first(expected.size()));
  int bad = packed.back() == 0xEE ? 0 : 1;
  packed.pop_back();
  bad += packed == expected ? 0 : 1;

  bytes back(n + 1, 0xEE);
  rq::unpack<Bits, Arch>(packed, std::span(back).first(n));
  bad += back.back() == 0xEE ? 0 : 1;
  for (std::size_t i = 0; i < n; ++i) bad += back[i] == (codes[i] & ((1 << Bits) - 1)) ? 0 : 1;
  return bad;
}

}  // namespace

TEST_CASE("pack, unpack: every size to 600, both widths, scalar and in registers", "[kernel]") {
  int bad = 0;
  for (std::size_t n = 0; n <= 600; ++n) {
    bad += mismatches<4, rq::default_arch>(n) + mismatches<4, rq::scalar_arch>(n);
    bad += mismatches<2, rq::default_arch>(n) + mismatches<2, rq::scalar_arch>(n);
  }
  CHECK(bad == 0);
}

TEST_CASE("pack: the first code is in the lowest bits, the rest is zero", "[kernel]") {
  bytes out(2);
  rq::pack<4>(bytes{1, 2, 15}, out);
  CHECK(out == bytes{0x21, 0x0F});
  rq::pack<2>(bytes{1, 2, 3, 0, 2}, out);
  CHECK(out == bytes{0x39, 0x02});
  CHECK(rq::packed_size<4>(0) == 0);
  CHECK(rq::packed_size<4>(7) == 4);
  CHECK(rq::packed_size<2>(9) == 3);
}

TEST_CASE("unpack: every byte", "[kernel]") {
  bytes all(256);
  for (std::size_t i = 0; i < 256; ++i) all[i] = static_cast<std::uint8_t>(i);
  bytes four(512);
  bytes two(1024);
  rq::unpack<4>(all, four);
  rq::unpack<2>(all, two);
  int bad = 0;
  for (std::size_t i = 0; i < 256; ++i) {
    bad += four[2 * i] + 16 * four[2 * i + 1] == static_cast<int>(i) ? 0 : 1;
    bad += two[4 * i] + 4 * two[4 * i + 1] + 16 * two[4 * i + 2] + 64 * two[4 * i + 3] == static_cast<int>(i)
               ? 0
               : 1;
  }
  CHECK(bad == 0);
}
