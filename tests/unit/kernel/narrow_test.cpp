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

}  // namespace

TEST_CASE("narrow, widen: every byte, every place", "[kernel]") {
  CHECK(mismatches<rq::default_arch>() == 0);
  CHECK(mismatches<rq::scalar_arch>() == 0);
}
