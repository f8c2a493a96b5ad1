// SPDX-License-Identifier: MIT
#include <repquant/calibrate/fit.hpp>
#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/calibrate/percentile_search.hpp>
#include <repquant/matrix/quantize.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include <string_view>

namespace rq = repquant;

namespace {

const rq::uniform four{.bits = 4};

/// Weights whose rows differ in scale, with an outlier in each.
rq::matrix<> weights(rq::index rows, rq::index cols) {
  std::srand(3);
  rq::matrix<> w = rq::matrix<>::Random(rows, cols);
  for (rq::index i = 0; i < rows; ++i) {
    w.row(i) *= std::exp2(static_cast<float>(i % 7));
    w(i, i % cols) *= 4;
  }
  return w;
}

template<class G, class O>
double error_of(const rq::matrix<>& w, const G& granularity, const O& observer) {
  const auto q = rq::fit(four, granularity, observer, w);
  REQUIRE(q);
  return static_cast<double>((rq::dequantize(*rq::quantize(*q, w)) - w).squaredNorm());
}

/// An observer whose ranges no codec takes.
struct endless {
  void observe(std::span<const float>) {}
  void merge(const endless&) {}
  template<rq::Codec C>
  [[nodiscard]] rq::result<rq::range> choose(const C&) const {
    return rq::range{0, std::numeric_limits<float>::infinity()};
  }
};

}  // namespace

TEST_CASE("fit: a range that no codec takes is refused at the place") {
  const rq::failure f = rq::fit(four, rq::per_row{}, endless{}, weights(3, 8), "weight").error();
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "weight: quantizer: range");
}

TEST_CASE("fit: the parameters of each set come from its values") {
  const rq::matrix<> w = weights(24, 32);
  const auto rows = rq::fit(four, rq::per_row{}, rq::min_max{}, w);
  const auto cols = rq::fit(four, rq::per_col{}, rq::min_max{}, w);
  const auto groups = rq::fit(four, rq::per_group{.size = 8}, rq::min_max{}, w);
  const auto whole = rq::fit(four, rq::per_tensor{}, rq::min_max{}, w);
  REQUIRE((rows && cols && groups && whole));
  const auto is = [](const rq::affine& p, const auto& part) {
    const rq::affine want = four.fit({part.minCoeff(), part.maxCoeff()});
    return p.scale == want.scale && p.zero_point == want.zero_point;
  };
  REQUIRE(is(whole->params()[0], w));
  for (rq::index i = 0; i < 24; ++i) REQUIRE(is(rows->params_of(i, 0), w.row(i)));
  for (rq::index j = 0; j < 32; ++j) REQUIRE(is(cols->params_of(0, j), w.col(j)));
  for (rq::index i = 0; i < 24; ++i) {
    for (rq::index g = 0; g < 4; ++g) REQUIRE(is(groups->params_of(i, 8 * g), w.block(i, 8 * g, 1, 8)));
  }
}

TEST_CASE("fit: finer sets and better observers leave less error") {
  const rq::matrix<> w = weights(40, 96);
  const double tensor = error_of(w, rq::per_tensor{}, rq::least_error{});
  const double row = error_of(w, rq::per_row{}, rq::least_error{});
  const double group = error_of(w, rq::per_group{.size = 16}, rq::least_error{});
  REQUIRE(row < tensor);
  REQUIRE(group < row);
  for (double keep : {0.999, 0.9}) {
    REQUIRE(row <= error_of(w, rq::per_row{}, rq::percentile_search{.keep = {keep}}));
  }
  REQUIRE(row <= error_of(w, rq::per_row{}, rq::min_max{}));
}

TEST_CASE("fit: threads change nothing, and one row, one column, one value work") {
  for (const rq::shape s : {rq::shape{33, 20}, {1, 20}, {20, 1}, {1, 1}}) {
    const rq::matrix<> w = weights(s.rows, s.cols);
    const auto compare = [&](auto granularity) {
      const auto a = rq::fit(four, granularity, rq::least_error{}, w);
      const auto b = rq::fit(four, granularity, rq::least_error{}, w, "w", rq::threads{.count = 4});
      REQUIRE((a && b));
      for (std::size_t k = 0; k < a->params().size(); ++k) {
        REQUIRE(a->params()[k].scale == b->params()[k].scale);
        REQUIRE(a->params()[k].zero_point == b->params()[k].zero_point);
      }
    };
    compare(rq::per_tensor{});
    compare(rq::per_row{});
    compare(rq::per_col{});
    compare(rq::per_group{.size = s.cols % 4 == 0 ? 4 : 1});
  }
}

TEST_CASE("fit: refuses what it cannot use, with the place and both numbers") {
  using rq::errc;
  const auto says = [](const auto& r, errc code, std::string_view where, long got, long want) {
    REQUIRE(!r);
    INFO(r.error().where << " got " << r.error().got << " want " << r.error().want);
    return r.error().code == code && where == r.error().where && r.error().got == got &&
           r.error().want == want;
  };
  rq::matrix<> w = weights(6, 10);
  REQUIRE(says(rq::fit(four, rq::per_row{}, rq::min_max{}, rq::matrix<>(0, 10), "fc1"), errc::empty, "fc1", 0,
               1));
  REQUIRE(says(rq::fit(four, rq::per_group{.size = 4}, rq::min_max{}, w, "fc1"), errc::group_mismatch,
               "fc1: columns", 10, 4));
  REQUIRE(says(rq::fit(four, rq::per_group{.size = 0}, rq::min_max{}, w, "fc1"), errc::group_mismatch,
               "fc1: columns", 10, 0));
  for (int bits : {-1, 0, 1, 9, 31}) {
    REQUIRE(says(rq::fit(rq::uniform{.bits = bits}, rq::per_row{}, rq::min_max{}, w, "fc1"), errc::bad_bits,
                 "fc1", bits, bits < 2 ? 2 : 8));
  }
  REQUIRE(says(rq::fit(four, rq::per_row{}, rq::percentile{.keep = 7}, w, "fc1"), errc::bad_option,
               "fc1: percentile.keep (millionths)", 7000000, 1000000));
  w(2, 3) = std::numeric_limits<float>::infinity();
  REQUIRE(says(rq::fit(four, rq::per_row{}, rq::min_max{}, w, "fc1"), errc::non_finite, "fc1", 1, 0));
  REQUIRE(says(rq::fit(four, rq::per_col{}, rq::min_max{}, w, "fc1"), errc::non_finite, "fc1", 1, 0));
}

TEST_CASE("quantizer_for: ranges that are none are refused, and their number must fit") {
  const rq::range ok{-1, 1};
  const rq::shape s{2, 3};
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const rq::range bad : {rq::range{1, -1}, {nan, 1}, {0, std::numeric_limits<float>::infinity()}}) {
    const std::vector<rq::range> rs = {ok, bad};
    const auto q = rq::quantizer_for(four, rq::per_row{}, s, rs);
    REQUIRE(!q);
    REQUIRE(q.error().code == rq::errc::bad_option);
    REQUIRE(q.error().got == 1);
  }
  REQUIRE(rq::quantizer_for(four, rq::per_row{}, s, std::vector<rq::range>{ok}).error().code ==
          rq::errc::shape_mismatch);
  REQUIRE(rq::quantizer_for(four, rq::per_group{.size = 2}, s, std::vector<rq::range>{ok}).error().code ==
          rq::errc::group_mismatch);
  rq::fit_report report;
  REQUIRE(rq::quantizer_for(rq::log2{}, rq::per_row{}, s, std::vector<rq::range>{ok, ok}, &report));
  REQUIRE(report.sets == 2);
  REQUIRE(report.enlarged + report.floored == 0);
}
