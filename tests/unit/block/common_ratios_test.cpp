// SPDX-License-Identifier: MIT
#include <repquant/block/common_ratios.hpp>

#include "catch.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

/// Costs as of uniform codes: step^2 where nothing clips, a steep rise below the scale that suits.
rq::channel_costs call(const std::vector<double>& log_scales, double weight, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> importance(0.2, 3);
  const auto n = static_cast<rq::index>(log_scales.size());
  rq::channel_costs c{rq::column<double>(n), rq::matrix<double>(n, rq::channel_costs::count)};
  for (rq::index d = 0; d < n; ++d) {
    c.scale(d) = log_scales[static_cast<std::size_t>(d)];
    const double matters = weight * importance(engine);
    for (rq::index k = 0; k < rq::channel_costs::count; ++k) {
      const double octaves = rq::channel_costs::first + static_cast<double>(k) * rq::channel_costs::step;
      const double clipped = octaves < 0 ? 20 * octaves * octaves : 0;
      c.error(d, k) = matters * std::exp2(2 * c.scale(d)) * (std::exp2(2 * octaves) + clipped);
    }
  }
  return c;
}
/// The least sum that ratios reach, each call's factor found by a fine search.
double least_sum(const std::vector<rq::channel_costs>& calls, const rq::column<double>& ratios) {
  double total = 0;
  for (const rq::channel_costs& c : calls) {
    double least = 1e300;
    for (double f = -8; f < 8; f += 1.0 / 64) {
      double sum = 0;
      for (rq::index d = 0; d < ratios.size(); ++d) sum += c.at(d, f + std::log2(ratios(d)));
      least = std::fmin(least, sum);
    }
    total += least;
  }
  return total;
}

}  // namespace

TEST_CASE("costs between and beyond the scales that were tried", "[block]") {
  const rq::channel_costs c = call({1.5}, 1, 3);
  for (rq::index k = 0; k < rq::channel_costs::count; ++k) {
    const double t = 1.5 + rq::channel_costs::first + static_cast<double>(k) * rq::channel_costs::step;
    CHECK(c.at(0, t) == Approx(c.error(0, k)));
  }
  CHECK(c.at(0, 1.5 + 0.125) == Approx((c.error(0, 4) + c.error(0, 5)) / 2));
  CHECK(c.at(0, 1.5 + 3 + 1) == Approx(4 * c.error(0, rq::channel_costs::count - 1)));
  CHECK(c.at(0, 1.5 - 1 - 0.5) == Approx(2 * c.error(0, 0)));
}

TEST_CASE("calls that agree keep their own ratios", "[block]") {
  const std::vector<rq::channel_costs> calls{call({0, 1, -2}, 1, 1), call({3, 4, 1}, 2, 2)};
  for (const int rounds : {0, 8}) {
    const rq::column<double> r = rq::common_ratios(calls, rounds);
    CAPTURE(rounds);
    CHECK(r(1) / r(0) == Approx(2));
    CHECK(r(2) / r(0) == Approx(0.25));
    CHECK(r.prod() == Approx(1));
  }
}

TEST_CASE("common ratios cost no more than geometric means, and less where calls disagree", "[block]") {
  std::mt19937 engine(7);
  std::normal_distribution<double> normal(0, 1);
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::vector<rq::channel_costs> calls;
    for (unsigned c = 0; c < 5; ++c) {
      std::vector<double> scales(12);
      for (double& s : scales) s = normal(engine);
      calls.push_back(call(scales, c == 0 ? 10 : 1, 20 * seed + c));
    }
    const double means = least_sum(calls, rq::common_ratios(calls, 0));
    const double one = least_sum(calls, rq::common_ratios(calls, 1));
    const double eight = least_sum(calls, rq::common_ratios(calls, 8));
    CAPTURE(seed, means, one, eight);
    CHECK(eight < 0.95 * means);
    CHECK(eight <= one * (1 + 1e-9));
  }
}
