// SPDX-License-Identifier: MIT
#include <repquant/calibrate/min_max.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/testing/observer_laws.hpp>

#include "catch.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

TEST_CASE("min_max: the smallest and the largest value, for every kind and number of values") {
  for (std::size_t n : {1U, 2U, 3U, 777U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      INFO(name << ", " << n);
      rq::min_max m;
      m.observe(xs);
      const auto r = m.choose(rq::uniform{});
      REQUIRE(r);
      REQUIRE(r->lo == *std::min_element(xs.begin(), xs.end()));
      REQUIRE(r->hi == *std::max_element(xs.begin(), xs.end()));
      REQUIRE((std::signbit(r->lo) == (r->lo < 0)));  // no minus zero
      if (n > 1)
        REQUIRE(rq::testing::broken_observer_law(rq::min_max{}, rq::uniform{.bits = 4}, xs) == nullptr);
    }
  }
}

TEST_CASE("min_max: NaN and infinities are counted and do not become ends") {
  rq::min_max m;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  m.observe(std::vector<float>{1, infinity, -infinity, std::nanf(""), 2, std::numeric_limits<float>::max()});
  const auto r = m.choose(rq::uniform{});
  REQUIRE(!r);
  REQUIRE(r.error().code == rq::errc::non_finite);
  REQUIRE(r.error().got == 3);
  REQUIRE(m.seen.count() == 3);
  REQUIRE(m.seen.min() == 1);
  REQUIRE(m.seen.max() == std::numeric_limits<float>::max());
}

namespace {

/// Observers that break one law each, to see that the laws notice.
struct keeps_the_last : rq::min_max {
  void observe(std::span<const float> xs) {
    if (!xs.empty()) seen = {};
    rq::min_max::observe(xs);
  }
};
struct forgets_to_merge : rq::min_max {
  void merge(const forgets_to_merge&) {}
};
struct shares_state : rq::min_max {
  rq::min_max* shared = nullptr;
  explicit shares_state(rq::min_max& s) : shared(&s) {}
  void observe(std::span<const float> xs) { shared->observe(xs); }
  void merge(const shares_state&) {}
  template<rq::Codec C>
  [[nodiscard]] rq::result<rq::range> choose(const C& c) const {
    return shared->choose(c);
  }
};
struct swallows_nan : rq::min_max {
  template<rq::Codec C>
  [[nodiscard]] rq::result<rq::range> choose(const C&) const {
    if (seen.count() == 0) return rq::failure{rq::errc::empty, "nothing", 0, 1};
    return rq::range{seen.min(), seen.max()};
  }
};
struct upside_down : rq::min_max {
  template<rq::Codec C>
  [[nodiscard]] rq::result<rq::range> choose(const C& c) const {
    const auto r = rq::min_max::choose(c);
    if (!r) return r.error();
    return rq::range{r->hi, r->lo};
  }
};

template<class O>
std::string broken(const O& o) {
  const auto xs = oracle::draws("normal", 50);
  const char* law = rq::testing::broken_observer_law(o, rq::uniform{}, xs);
  return law == nullptr ? "" : law;
}

}  // namespace

TEST_CASE("observer laws: each planted liar is caught by the law that it breaks") {
  rq::min_max place;
  REQUIRE(broken(rq::min_max{}) == "");
  REQUIRE(broken(keeps_the_last{}).find("split") != std::string::npos);
  REQUIRE(broken(forgets_to_merge{}).find("merging") != std::string::npos);
  REQUIRE(broken(shares_state{place}).find("does not share") != std::string::npos);
  REQUIRE(broken(swallows_nan{}).find("NaN") != std::string::npos);
  REQUIRE(broken(upside_down{}).find("lo <= hi") != std::string::npos);
}
