// SPDX-License-Identifier: MIT
#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/calibrate/percentile_search.hpp>
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/testing/observer_laws.hpp>

#include "catch.hpp"
#include "oracle/calibrate.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

namespace {

template<class O, class C>
rq::range chosen(const std::vector<float>& xs, const C& codec, O o = {}) {
  o.observe(xs);
  const auto r = o.choose(codec);
  REQUIRE(r);
  return *r;
}

oracle::interval wide(rq::range r) { return {r.lo, r.hi}; }

std::vector<float> ascending(std::vector<float> xs) {
  std::sort(xs.begin(), xs.end());
  return xs;
}

}  // namespace

TEST_CASE("least_error: by its own measure never worse than min_max and percentile_search") {
  const auto compare = [](const std::vector<float>& xs, const auto& codec) {
    rq::least_error o;
    o.observe(xs);
    const rq::distribution d(o.seen);
    rq::codec_error error(d, codec);
    const double least = error(codec.fit(*o.choose(codec)));
    REQUIRE(least <= error(codec.fit(chosen<rq::min_max>(xs, codec))));
    REQUIRE(least <= error(codec.fit(chosen<rq::percentile_search>(xs, codec))));
  };
  for (std::size_t n : {1U, 2U, 3U, 50U, 6000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      INFO(name << ", " << n);
      for (int bits : {2, 4, 8}) compare(xs, rq::uniform{.bits = bits});
      compare(xs, rq::uniform{.bits = 4, .symmetric = true});
      compare(xs, rq::log2{.bits = 4});
      compare(xs, rq::log_sqrt2{.bits = 4});
    }
  }
}

TEST_CASE("least_error: as good as a fine grid over all values in double, uniform") {
  for (const char* kind : {"normal", "outliers", "positive", "negative", "relu", "gelu", "huge mean"}) {
    const auto xs = ascending(oracle::draws(kind, 3000));
    for (int bits : {2, 3, 4, 6}) {
      const auto error = [&](oracle::interval r) { return oracle::uniform_error(xs, r, bits); };
      const double got = error(wide(chosen<rq::least_error>(xs, rq::uniform{.bits = bits})));
      const double grid = oracle::least_over_grid(xs, 24, error);
      const double whole = error({xs.front(), xs.back()});
      INFO(kind << ", " << bits << " bits: " << got << " grid " << grid << " min_max " << whole);
      // 3 %: a local optimum, found on bins. 10 %: 2994 of the values lie within three of the 64 steps far
      // from zero, and how the levels fall there is a matter of luck for any search along the ends of a range
      const bool lucky = bits == 6 && (std::string(kind) == "positive" || std::string(kind) == "negative");
      REQUIRE(got <= grid * (lucky ? 1.1 : 1.03));
      REQUIRE(got <= whole * 1.003);  // never worse by its own measure; 0.3 % for what bins do not know
    }
    const auto symmetric = [&](oracle::interval r) { return oracle::symmetric_error(xs, r, 4); };
    const double got =
        symmetric(wide(chosen<rq::least_error>(xs, rq::uniform{.bits = 4, .symmetric = true})));
    const double grid = oracle::least_over_grid(xs, 24, symmetric);
    INFO(kind << ", symmetric: " << got << " grid " << grid);
    REQUIRE(got <= grid * 1.03);
  }
}

TEST_CASE("least_error: as good as a fine grid over all values in double, logarithmic") {
  for (const char* kind : {"softmax", "relu", "outliers"}) {
    const auto xs = ascending(oracle::draws(kind, 5000));
    for (int steps : {1, 2}) {
      for (int bits : {3, 4}) {
        const double s = steps == 1 ? chosen<rq::least_error>(xs, rq::log2{.bits = bits}).hi
                                    : chosen<rq::least_error>(xs, rq::log_sqrt2{.bits = bits}).hi;
        const double got = oracle::log_error(xs, s, bits, steps);
        double grid = HUGE_VAL;
        for (int k = -16; k < 256; ++k) {
          grid = std::fmin(grid, oracle::log_error(xs, xs.back() * std::exp2(-k / 32.0), bits, steps));
        }
        INFO(kind << ", " << steps << " steps, " << bits << " bits: " << got << " grid " << grid);
        REQUIRE(got <= grid * 1.03);
      }
    }
  }
}

TEST_CASE("least_error: clips an outlier, also of one-signed values, towards the bulk and not towards zero") {
  for (float sign : {1.0F, -1.0F}) {
    auto xs = oracle::draws("normal", 20000);
    for (float& x : xs) x = sign * (12 + x);
    xs.push_back(sign * 60);
    const rq::range r = chosen<rq::least_error>(xs, rq::uniform{.bits = 4});
    INFO(r.lo << " .. " << r.hi);
    // one value in 20001 lies 48 away; clipped to 20 it costs 0.08 a value, a range up to it 48^2 / 15^2 / 12
    // = 0.85
    REQUIRE(r.hi - r.lo < 16);
    REQUIRE(std::fabs((r.lo + r.hi) / 2 - sign * 12) < 3);
    REQUIRE((r.lo > 0) == (sign > 0));
    REQUIRE((r.hi > 0) == (sign > 0));
  }
}

TEST_CASE("least_error: constant values and very few values are coded exactly, or as well as they can be") {
  const rq::uniform codec{.bits = 4};
  for (float c : {0.0F, 0.3F, -5.0F, 1e30F, 1e-40F}) {
    const rq::range r = chosen<rq::least_error>(std::vector<float>(1000, c), codec);
    const auto p = codec.fit(r);
    const float back = codec.decode(codec.encode(c, p), p);
    REQUIRE(std::fabs(back - c) <=
            std::fmax(std::fabs(c) * 0x1p-22F, 0x1p-100F));  // fit's limits: |z|, smallest scale
  }
  for (const std::vector<float>& xs : {std::vector<float>{1.0F, 2.0F}, {-1.0F, 0.0F, 2.0F}}) {
    const rq::range r = chosen<rq::least_error>(xs, codec);
    const auto p = codec.fit(r);
    for (float x : xs) {
      // min_max leaves at most half of its step, 3 / 15 / 2
      REQUIRE(std::fabs(codec.decode(codec.encode(x, p), p) - x) <= 0.1001F);
    }
  }
}

TEST_CASE("least_error: keeps the laws") {
  for (const auto& [name, xs] : oracle::every_kind(300)) {
    INFO(name);
    REQUIRE(rq::testing::broken_observer_law(rq::least_error{}, rq::uniform{.bits = 4}, xs) == nullptr);
    REQUIRE(rq::testing::broken_observer_law(rq::least_error{}, rq::log_sqrt2{}, xs) == nullptr);
  }
}
