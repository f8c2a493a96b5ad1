// SPDX-License-Identifier: MIT
#include <repquant/calibrate/clipping_problem.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "unit/calibrate/clipping.hpp"
#include <limits>

namespace rq = repquant;

TEST_CASE("the cost of ranges is that of its definition", "[calibrate]") {
  for (const bool centred : {false, true}) {
    for (const bool weighted : {false, true}) {
      for (const int bits : {2, 4, 8}) {
        clipping::sample s = clipping::make_sample(60, 4, 3, 5, weighted);
        s.centred = centred;
        s.codec.bits = bits;
        CAPTURE(centred, weighted, bits);
        for (const double shrink : {1.0, 0.6}) {
          std::vector<rq::range> r = s.whole;
          for (rq::range& one : r) {
            const float middle = (one.lo + one.hi) / 2;
            one = {middle + static_cast<float>(shrink) * (one.lo - middle),
                   middle + static_cast<float>(shrink) * (one.hi - middle)};
          }
          const double want = clipping::cost(s, r);
          REQUIRE(want > 0);
          // the value of a code is a float
          CHECK(s.problem().error(r) == Approx(want).epsilon(1e-5));
          CHECK(s.problem().gradient_at(r).error == s.problem().error(r));
        }
      }
    }
  }
}

TEST_CASE("the gradient by the ends of ranges is that of finite differences", "[calibrate]") {
  for (const bool centred : {false, true}) {
    clipping::sample s = clipping::make_sample(50, 4, 6, 9);
    s.centred = centred;
    std::vector<rq::range> at = s.whole;
    for (rq::range& r : at) {
      const float width = r.hi - r.lo;
      r = {r.lo + 0.13F * width, r.hi - 0.21F * width};
    }
    // straight through: what rounding adds stays where it is, in steps
    rq::matrix<double> residue(s.x.rows(), s.x.cols());
    const auto values = [&](const std::vector<std::pair<double, double>>& ends, bool fix) {
      rq::matrix<double> v(s.x.rows(), s.x.cols());
      for (rq::index t = 0; t < s.x.rows(); ++t) {
        for (rq::index d = 0; d < s.x.cols(); ++d) {
          const auto [lo, hi] = ends[static_cast<std::size_t>(d)];
          const auto x = static_cast<double>(s.x(t, d));
          const double inside = std::fmin(std::fmax(x, lo), hi);
          const double step = (hi - lo) / 7;
          if (fix) residue(t, d) = (clipping::coded(x, at[static_cast<std::size_t>(d)], 3) - inside) / step;
          v(t, d) = inside + residue(t, d) * step;
        }
      }
      return v;
    };
    std::vector<std::pair<double, double>> ends;
    for (const rq::range& r : at) ends.emplace_back(r.lo, r.hi);
    values(ends, true);
    const rq::clipping_problem::gradient g = s.problem().gradient_at(at);
    for (std::size_t d = 0; d < at.size(); ++d) {
      for (const bool upper : {false, true}) {
        const double h = 1e-6;
        auto more = ends;
        auto less = ends;
        (upper ? more[d].second : more[d].first) += h;
        (upper ? less[d].second : less[d].first) -= h;
        const double want =
            (clipping::cost(s, values(more, false)) - clipping::cost(s, values(less, false))) / (2 * h);
        const double got = (upper ? g.hi : g.lo)(static_cast<rq::index>(d));
        CAPTURE(centred, d, upper);
        // J is quadratic between the tokens' own values: what is left is that codes are floats
        CHECK(got == Approx(want).epsilon(1e-4).margin(1e-4 * g.error));
      }
    }
  }
}

TEST_CASE("cost and gradient do not depend on the executor", "[calibrate]") {
  const clipping::sample s = clipping::make_sample(90, 140, 30, 4);
  const rq::clipping_problem p = s.problem();
  const rq::clipping_problem::gradient one = p.gradient_at(s.whole);
  for (const int count : {2, 3, 5}) {
    const rq::clipping_problem::gradient other = p.gradient_at(s.whole, rq::threads{.count = count});
    CHECK(one.error == other.error);
    CHECK(one.lo == other.lo);
    CHECK(one.hi == other.hi);
  }
}

TEST_CASE("a clipping problem refuses what does not fit", "[calibrate]") {
  const clipping::sample s = clipping::make_sample(20, 4, 3, 1);
  const auto make = [](const clipping::sample& from) {
    return rq::clipping_problem::make(from.codec, from.x, from.weight, from.readers, true).error();
  };
  const auto refused = [](const rq::failure& f, rq::errc code, std::string_view place, std::int64_t got) {
    CHECK(f.code == code);
    CHECK(std::string_view(f.where).find(place) != std::string_view::npos);
    CHECK(f.got == got);
  };
  clipping::sample bad = s;
  bad.codec.bits = 9;
  refused(make(bad), rq::errc::bad_bits, "clipping: codec", 9);
  bad = s;
  bad.codec.symmetric = true;
  refused(make(bad), rq::errc::bad_option, "symmetric", 1);
  bad = s;
  bad.x(3, 2) = std::numeric_limits<float>::quiet_NaN();
  refused(make(bad), rq::errc::non_finite, "clipping: tokens", 1);
  bad = s;
  bad.x.resize(0, 4);
  refused(make(bad), rq::errc::empty, "clipping: tokens", 0);
  bad = s;
  bad.readers = rq::matrix<double>::Identity(3, 3);
  refused(make(bad), rq::errc::shape_mismatch, "clipping: readers", 9);
  bad = s;
  bad.readers(1, 1) = std::numeric_limits<double>::infinity();
  refused(make(bad), rq::errc::non_finite, "clipping: readers", 1);
  bad = s;
  bad.weight.pop_back();
  refused(make(bad), rq::errc::shape_mismatch, "clipping: weights", 19);
  bad = s;
  bad.weight[7] = -1;
  refused(make(bad), rq::errc::bad_option, "clipping: weight of token", 7);

  std::vector<rq::range> ranges = s.whole;
  CHECK_FALSE(s.problem().check_ranges(ranges));
  ranges[2] = {1, 0};
  refused(s.problem().check_ranges(ranges), rq::errc::bad_option, "clipping: range of channel", 2);
  ranges.pop_back();
  refused(s.problem().check_ranges(ranges), rq::errc::shape_mismatch, "clipping: ranges", 3);
}
