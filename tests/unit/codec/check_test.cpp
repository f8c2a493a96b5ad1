// SPDX-License-Identifier: MIT
#include <repquant/codec/check.hpp>

#include "catch.hpp"
#include <string_view>

namespace rq = repquant;

namespace {

/// A user's codecs: one that checks its own settings, one that only has levels.
struct particular {
  int wish = 0;
  struct params {};
  [[nodiscard]] int levels() const { return 2; }
  [[nodiscard]] params fit(rq::range) const { return {}; }
  [[nodiscard]] std::int32_t encode(float, params) const { return 0; }
  [[nodiscard]] float decode(std::int32_t, params) const { return 0; }
  friend rq::failure check(const particular& p, std::string_view place) {
    return p.wish == 7 ? rq::failure{rq::errc::bad_option, place, 7, 0} : rq::failure{};
  }
};
struct many {
  int count = 2;
  struct params {};
  [[nodiscard]] int levels() const { return count; }
  [[nodiscard]] params fit(rq::range) const { return {}; }
  [[nodiscard]] std::int32_t encode(float, params) const { return 0; }
  [[nodiscard]] float decode(std::int32_t, params) const { return 0; }
};

}  // namespace

TEST_CASE("check: bits 2 to 8 and depths 0 to 30, and nothing else") {
  for (int bits = -40; bits <= 40; ++bits) {
    const bool good = bits >= 2 && bits <= 8;
    for (const rq::failure& f : {rq::check(rq::uniform{.bits = bits}, "w"),
                                 rq::check_codec(rq::uniform{.bits = bits, .symmetric = true}, "w"),
                                 rq::check(rq::logarithmic<1>{.bits = bits}, "w"),
                                 rq::check_codec(rq::logarithmic<2>{.bits = bits}, "w")}) {
      REQUIRE(static_cast<bool>(f) == !good);
      if (good) continue;
      REQUIRE(f.code == rq::errc::bad_bits);
      REQUIRE(f.got == bits);
      REQUIRE(f.want == (bits < 2 ? 2 : 8));
      REQUIRE(std::string_view(f.where) == "w");
    }
  }
  for (int depth = -3; depth <= 40; ++depth) {
    const rq::failure f = rq::check_codec(rq::logarithmic<2>{.depth = depth}, "w");
    REQUIRE(static_cast<bool>(f) == (depth < 0 || depth > 30));
    if (f) REQUIRE(f.code == rq::errc::bad_option);
  }
}

TEST_CASE("check_codec: asks a user's own check, and looks at the levels of any codec") {
  REQUIRE(!rq::check_codec(particular{}, "w"));
  REQUIRE(rq::check_codec(particular{.wish = 7}, "w").code == rq::errc::bad_option);
  REQUIRE(!rq::check_codec(many{.count = 256}, "w"));
  for (int levels : {-1, 0, 1, 257}) {
    const rq::failure f = rq::check_codec(many{.count = levels}, "w");
    REQUIRE(f.code == rq::errc::bad_bits);
    REQUIRE(f.got == levels);
    REQUIRE(f.want == (levels < 2 ? 2 : 256));
  }
}
