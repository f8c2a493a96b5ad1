// SPDX-License-Identifier: MIT
/// narrow and widen: every byte in every place of a register.
#include <repquant/kernel/narrow.hpp>

#include "catch.hpp"
#include <array>

namespace rq = repquant;

namespace {

template<class Arch>
int mismatches() {
  using V = rq::lane_of<Arch>;
  using I = rq::ints_of<V>;
  constexpr auto width = static_cast<std::size_t>(rq::lane_width<V>);
  int bad = 0;
  for (std::size_t first = 0; first < 256; ++first) {
    std::array<std::int32_t, 4 * width> ints{};
    std::array<std::uint8_t, 4 * width + 1> bytes{};
    for (std::size_t i = 0; i < ints.size(); ++i) ints[i] = static_cast<std::int32_t>((first + 3 * i) % 256);
    const auto at = [&](std::size_t r) { return rq::lane::load<I>(ints.data() + r * width); };
    bytes.back() = 0xEE;
    rq::narrow(at(0), at(1), at(2), at(3), bytes.data());
    for (std::size_t i = 0; i < ints.size(); ++i) bad += bytes[i] == ints[i] ? 0 : 1;
    bad += bytes.back() == 0xEE ? 0 : 1;
    std::array<std::int32_t, width> wide{};
    rq::lane::store(wide.data(), rq::widen<I>(bytes.data() + width));
    for (std::size_t i = 0; i < width; ++i) bad += wide[i] == ints[width + i] ? 0 : 1;
    bytes.fill(0xEE);
    rq::narrow(at(3), bytes.data());
    for (std::size_t i = 0; i < width; ++i) bad += bytes[i] == ints[3 * width + i] ? 0 : 1;
    for (std::size_t i = width; i < bytes.size(); ++i) bad += bytes[i] == 0xEE ? 0 : 1;
  }
  return bad;
}

/// Values far outside a byte, by the four-register form that holds them to 0 .. last.
template<class Arch>
int not_held() {
  using I = rq::ints_of<rq::lane_of<Arch>>;
  constexpr auto width = static_cast<std::size_t>(rq::lane_width<rq::lane_of<Arch>>);
  constexpr std::array<std::int32_t, 13> values{-2147483647, -65536, -32769, -1,  0,     1,         14,
                                                15,          16,     255,    256, 32768, 2147483647};
  int bad = 0;
  for (int last : {0, 1, 15, 127, 128, 255}) {
    for (std::size_t first = 0; first < values.size(); ++first) {
      std::array<std::int32_t, 4 * width> ints{};
      std::array<std::uint8_t, 4 * width> bytes{};
      for (std::size_t i = 0; i < ints.size(); ++i) ints[i] = values[(first + i) % values.size()];
      const auto at = [&](std::size_t r) { return rq::lane::load<I>(ints.data() + r * width); };
      rq::narrow(at(0), at(1), at(2), at(3), bytes.data(), last);
      for (std::size_t i = 0; i < ints.size(); ++i)
        bad += bytes[i] == (ints[i] < 0 ? 0 : ints[i] > last ? last : ints[i]) ? 0 : 1;
    }
  }
  return bad;
}

}  // namespace

TEST_CASE("narrow holds any int32 to 0 .. last", "[kernel]") {
  CHECK(not_held<rq::default_arch>() == 0);
  CHECK(not_held<rq::scalar_arch>() == 0);
}

TEST_CASE("narrow, widen: every byte, every place", "[kernel]") {
  CHECK(mismatches<rq::default_arch>() == 0);
  CHECK(mismatches<rq::scalar_arch>() == 0);
}
