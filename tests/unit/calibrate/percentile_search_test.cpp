// SPDX-License-Identifier: MIT
#include <repquant/calibrate/percentile_search.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/testing/observer_laws.hpp>

#include "catch.hpp"
#include "oracle/calibrate.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

namespace {
template<class C>
rq::range searched(const std::vector<float>& xs, const C& codec, rq::percentile_search o = {}) {
  o.observe(xs);
  return *o.choose(codec);
}
}  // namespace

TEST_CASE("percentile_search: RepQ-ViT's search, uniform") {
  for (std::size_t n : {100U, 6304U, 30000U}) {
    for (const char* kind : {"normal", "outliers", "positive", "negative", "gelu", "relu"}) {
      const auto xs = oracle::draws(kind, n);
      std::vector<float> sorted = xs;
      std::sort(sorted.begin(), sorted.end());
      for (int bits : {4, 6}) {
        double least = 1e10;
        for (double p : {0.999, 0.9999, 0.99999}) {
          const oracle::interval r{oracle::quantile(sorted, 1 - p), oracle::quantile(sorted, p)};
          least = std::fmin(least, oracle::uniform_error(xs, r, bits));
        }
        const rq::range r = searched(xs, rq::uniform{.bits = bits});
        const double got = oracle::uniform_error(xs, {r.lo, r.hi}, bits);
        INFO(kind << ", " << n << ", " << bits << " bits: " << got << " least " << least);
        // two candidates closer than the error of the histogram (2^-9 of a value) may change places: 1 %
        REQUIRE(got <= least * 1.01);
      }
    }
  }
}

TEST_CASE("percentile_search: RepQ-ViT's search, log_sqrt2") {
  const auto xs = oracle::draws("softmax", 30000);
  std::vector<float> sorted = xs;
  std::sort(sorted.begin(), sorted.end());
  double least = 1e10;
  for (double p : {0.999, 0.9999, 0.99999}) {
    least = std::fmin(least, oracle::log_error(xs, oracle::quantile(sorted, p), 4, 2));
  }
  const double got = oracle::log_error(xs, searched(xs, rq::log_sqrt2{.bits = 4}).hi, 4, 2);
  REQUIRE(got <= least * 1.01);  // as above
}

TEST_CASE("percentile_search: one share is percentile, the first of equals wins, shares are checked") {
  const auto xs = oracle::draws("outliers", 20000);
  rq::percentile one{.keep = 0.995};
  one.observe(xs);
  REQUIRE(searched(xs, rq::uniform{.bits = 4}, {.keep = {0.995}}) == *one.choose(rq::uniform{.bits = 4}));
  // a constant channel: every candidate is equal and none wins over the first (RepQ-ViT's own search found
  // none)
  REQUIRE(searched(std::vector<float>(500, 0.3F), rq::uniform{.bits = 4}) == rq::range{0.3F, 0.3F});
  for (const std::vector<double>& keep : {std::vector<double>{}, {0.999, 0.4}, {2.0}}) {
    rq::percentile_search o{.keep = keep};
    o.observe(xs);
    REQUIRE(o.choose(rq::uniform{}).error().code == rq::errc::bad_option);
  }
}

TEST_CASE("percentile_search: keeps the laws") {
  for (const auto& [name, xs] : oracle::every_kind(400)) {
    INFO(name);
    REQUIRE(rq::testing::broken_observer_law(rq::percentile_search{}, rq::uniform{.bits = 4}, xs) == nullptr);
    REQUIRE(rq::testing::broken_observer_law(rq::percentile_search{}, rq::log_sqrt2{}, xs) == nullptr);
  }
}
