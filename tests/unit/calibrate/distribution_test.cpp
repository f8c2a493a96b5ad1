// SPDX-License-Identifier: MIT
#include <repquant/calibrate/distribution.hpp>

#include "catch.hpp"
#include "oracle/calibrate.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

namespace {

rq::distribution arranged(const std::vector<float>& xs) {
  rq::histogram h;
  h.observe(xs);
  return rq::distribution(h);
}

}  // namespace

TEST_CASE("distribution: quantiles are numpy's, exact in the tails, within half a bin elsewhere") {
  for (std::size_t n : {1U, 2U, 3U, 10U, 64U, 65U, 6304U, 40000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      const rq::distribution d = arranged(xs);
      std::vector<float> sorted = xs;
      std::sort(sorted.begin(), sorted.end());
      for (double p : {0.0, 1e-5, 1e-4, 1e-3, 0.01, 0.25, 0.5, 0.7331, 0.99, 0.999, 0.9999, 0.99999, 1.0}) {
        INFO(name << ", " << n << " values, p = " << p);
        const double want = oracle::quantile(sorted, p);
        const double got = d.quantile(p);
        const double rank = static_cast<double>(n - 1) * p;
        const bool exact = n <= 64 || std::ceil(rank) < 32 || std::floor(rank) >= static_cast<double>(n) - 32;
        const auto k = static_cast<std::size_t>(rank);
        const double size = std::fmax(std::fabs(sorted[k]), std::fabs(sorted[std::min(k + 1, n - 1)]));
        // both are the same formula in double, up to the order of operations; a bin's middle is 2^-9 of the
        // value off or, below the smallest normal float, 2^-134
        const double tolerance = exact ? 1e-15 * size : size * 0x1p-9 + 0x1p-134;
        REQUIRE(std::fabs(got - want) <= tolerance);
        REQUIRE(got >= sorted.front());
        REQUIRE(got <= sorted.back());
      }
    }
  }
}

TEST_CASE("distribution: moments of a part are those of the values below") {
  for (std::size_t n : {3U, 64U, 5000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      INFO(name << ", " << n << " values");
      const rq::distribution d = arranged(xs);
      std::vector<float> sorted = xs;
      std::sort(sorted.begin(), sorted.end());
      const double largest = std::fmax(std::fabs(sorted.front()), std::fabs(sorted.back()));
      const double bin = largest * 0x1p-8 + 0x1p-134;
      for (std::size_t at : {std::size_t{0}, n / 3, n / 2, n - 1}) {
        const double t = sorted[at];
        double count = 0;
        double in_bin = 0;  // values that the threshold's bin may hold on either side
        double sum = 0;
        double squares = 0;
        for (float x : sorted) {
          if (std::fabs(x - t) <= bin) in_bin += 1;
          if (x < t) {
            const double c = x - d.center();
            count += 1;
            sum += c;
            squares += c * c;
          }
        }
        const auto m = d.below(t);
        const double spread = std::fmax(sorted.back() - d.center(), d.center() - sorted.front());
        const double doubt = n <= 64 ? 0 : in_bin;
        REQUIRE(std::fabs(m.count - count) <= doubt);
        // every value may be off by a bin, and `doubt` values may be counted on the wrong side
        const double moved = n <= 64 ? 0 : bin * static_cast<double>(n);
        REQUIRE(std::fabs(m.sum - sum) <= moved + doubt * spread + 1e-12 * spread * static_cast<double>(n));
        REQUIRE(std::fabs(m.squares - squares) <= 2 * spread * moved + moved * bin + doubt * spread * spread +
                                                      1e-12 * spread * spread * static_cast<double>(n));
      }
      REQUIRE(d.all().count == static_cast<double>(n));
      REQUIRE(d.below(std::nextafter(static_cast<double>(sorted.back()), HUGE_VAL)).count ==
              static_cast<double>(n));
      REQUIRE(d.below(sorted.front()).count == 0);
    }
  }
}

TEST_CASE("distribution: moments of a part are the same wherever the search for it begins") {
  for (std::size_t n : {1U, 64U, 5000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      INFO(name << ", " << n << " values");
      const rq::distribution d = arranged(xs);
      const std::size_t bins = d.bins().size();
      for (double p : {0.0, 0.01, 0.4, 0.9, 1.0}) {
        const double t = d.quantile(p);
        const auto want = d.below(t);
        std::size_t found = bins / 2;
        (void)d.below(t, found);
        REQUIRE((found == 0 || d.bins()[found - 1].hi < t));
        REQUIRE((found == bins || d.bins()[found].hi >= t));
        for (std::size_t start : {std::size_t{0}, bins / 3, bins - 1, bins}) {
          std::size_t near = start;
          const auto got = d.below(t, near);
          REQUIRE(near == found);
          REQUIRE(got.count == want.count);
          REQUIRE(got.sum == want.sum);
          REQUIRE(got.squares == want.squares);
        }
      }
    }
  }
}
