// SPDX-License-Identifier: MIT
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/calibrate/percentile.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "oracle/samples.hpp"
#include <string_view>

namespace rq = repquant;

namespace {

/// Channels of every kind beside each other.
rq::matrix<> channels(rq::index rows, rq::index cols) {
  const auto kinds = oracle::every_kind(static_cast<std::size_t>(rows));
  rq::matrix<> x(rows, cols);
  for (rq::index j = 0; j < cols; ++j) {
    const auto& v = kinds[static_cast<std::size_t>(j) % kinds.size()].values;
    for (rq::index i = 0; i < rows; ++i) x(i, j) = v[static_cast<std::size_t>((i * (j + 1)) % rows)];
  }
  return x;
}

template<class Q>
bool same(const Q& a, const Q& b) {
  return std::equal(a.params().begin(), a.params().end(), b.params().begin(), b.params().end(),
                    [](auto x, auto y) {
                      return std::bit_cast<std::uint32_t>(x.scale) == std::bit_cast<std::uint32_t>(y.scale) &&
                             x.zero_point == y.zero_point;
                    });
}

template<class O, class G>
void check_splits(const O& observer, const G& granularity, rq::shape size, const rq::matrix<>& x) {
  const rq::uniform codec{.bits = 4};
  rq::calibrator whole(observer, granularity, size, "site");
  REQUIRE(!whole.observe(x));
  const auto want = whole.make(codec);
  REQUIRE(want);
  REQUIRE(same(*want, *whole.make(codec, rq::threads{.count = 3})));

  rq::calibrator threaded(observer, granularity, size, "site");
  REQUIRE(!threaded.observe(x, rq::threads{.count = 3}));
  REQUIRE(same(*want, *threaded.make(codec)));

  if (size.rows != 0) return;
  rq::calibrator backwards(observer, granularity, size, "site");
  for (rq::index i = x.rows(); i-- > 0;) REQUIRE(!backwards.observe(x.row(i)));
  REQUIRE(same(*want, *backwards.make(codec)));
  REQUIRE(backwards.batches() == x.rows());

  rq::calibrator top(observer, granularity, size, "site");
  rq::calibrator bottom(observer, granularity, size, "site");
  const rq::index half = x.rows() / 3;
  REQUIRE(!top.observe(x.topRows(half)));
  REQUIRE(!bottom.observe(x.bottomRows(x.rows() - half)));
  REQUIRE(!bottom.merge(top));
  REQUIRE(same(*want, *bottom.make(codec)));
}

bool says(const rq::failure& f, rq::errc code, std::string_view where, long got, long want) {
  INFO(f.where << " got " << f.got << " want " << f.want);
  CHECK(std::string_view(f.where) == where);
  CHECK(f.got == got);
  CHECK(f.want == want);
  return f.code == code;
}

}  // namespace

TEST_CASE("calibrator: batches, splits, merging and threads give the same parameters, bit for bit") {
  const rq::matrix<> x = channels(700, 37);  // not a multiple of the tiles
  const auto all = [&](const auto& observer) {
    check_splits(observer, rq::per_tensor{}, {.rows = 0, .cols = 37}, x);
    check_splits(observer, rq::per_col{}, {.rows = 0, .cols = 37}, x);
    check_splits(observer, rq::per_row{}, {.rows = 700, .cols = 37}, x);
  };
  all(rq::min_max{});
  all(rq::percentile{.keep = 0.99});
  check_splits(rq::least_error{}, rq::per_col{}, {.rows = 0, .cols = 37}, x);
  check_splits(rq::least_error{}, rq::per_tensor{}, {.rows = 0, .cols = 37}, x);
  check_splits(rq::min_max{}, rq::per_group{.size = 9}, {.rows = 700, .cols = 36}, x.leftCols(36).eval());
}

TEST_CASE("calibrator: each parameter set sees its own values and no others") {
  const rq::matrix<> x = channels(300, 21);
  const auto block = x.block(10, 2, 200, 18);  // rows are not contiguous
  rq::calibrator columns(rq::min_max{}, rq::per_col{}, 18, "site");
  rq::calibrator groups(rq::min_max{}, rq::per_group{.size = 6}, rq::shape{200, 18}, "site");
  REQUIRE(!columns.observe(block));
  REQUIRE(!groups.observe(block));
  for (rq::index j = 0; j < 18; ++j) {
    const auto& seen = columns.observers()[static_cast<std::size_t>(j)].seen;
    REQUIRE(seen.min() == block.col(j).minCoeff());
    REQUIRE(seen.max() == block.col(j).maxCoeff());
    REQUIRE(seen.count() == 200);
  }
  for (rq::index i = 0; i < 200; ++i) {
    for (rq::index g = 0; g < 3; ++g) {
      const auto& seen = groups.observers()[static_cast<std::size_t>(3 * i + g)].seen;
      REQUIRE(seen.min() == block.block(i, 6 * g, 1, 6).minCoeff());
      REQUIRE(seen.max() == block.block(i, 6 * g, 1, 6).maxCoeff());
    }
  }
}

TEST_CASE("calibrator: constant, one-signed and wildly scaled channels get usable scales, and are counted") {
  rq::matrix<> x(50, 5);
  for (rq::index i = 0; i < 50; ++i) {
    const float u = static_cast<float>(i) / 50;
    x.row(i) << u - 0.5F, 1e6F * (u - 0.5F), 1e-9F * u, 0.0F, 5.0F;
  }
  rq::calibrator c(rq::min_max{}, rq::per_col{}, 5, "ln");
  REQUIRE(!c.observe(x));
  rq::fit_report report;
  const auto q = c.make(rq::uniform{.bits = 4}, rq::inline_executor{}, &report);
  REQUIRE(q);
  const float largest = q->params()[1].scale;
  for (const rq::affine& p : q->params()) REQUIRE(p.scale >= largest * 0x1p-24F);
  REQUIRE(report.sets == 5);
  REQUIRE(report.floored == 3);   // 1e-9 wide, zero, and 5: its own 5 / 2^22 is below 1e6 / 15 / 2^24
  REQUIRE(report.enlarged == 2);  // the two constants
  REQUIRE(q->params()[0].scale == Approx(0.98 / 15));  // untouched: 1e-6 of the largest
  for (rq::index j = 0; j < 5; ++j) {
    for (rq::index i = 0; i < 50; ++i) {
      const float back = q->decode(q->encode(x(i, j), i, j), i, j);
      // half a step, and the zero point's rounding, which may move an end by another half
      REQUIRE(std::fabs(back - x(i, j)) <= 1.001F * q->params_of(i, j).scale);
    }
  }
}

TEST_CASE(
    "calibrator: refuses what it cannot use, with the place and both numbers, and takes nothing of it in") {
  using rq::errc;
  rq::calibrator c(rq::percentile{}, rq::per_col{}, 4, "ln.out");
  REQUIRE(says(c.make(rq::uniform{}).error(), errc::empty, "ln.out: calibrator saw no batch", 0, 1));
  const rq::matrix<> good = rq::matrix<>::Random(6, 4);
  REQUIRE(says(c.observe(rq::matrix<>(0, 4)), errc::empty, "ln.out: calibration batch", 0, 1));
  REQUIRE(says(c.observe(rq::matrix<>::Zero(3, 5).eval()), errc::shape_mismatch,
               "ln.out: calibration columns", 5, 4));
  rq::matrix<> bad = good;
  bad(1, 1) = std::nanf("");
  bad(5, 3) = -std::numeric_limits<float>::infinity();
  REQUIRE(says(c.observe(bad), errc::non_finite, "ln.out: calibration batch", 2, 0));
  REQUIRE(c.batches() == 0);
  REQUIRE(c.observers()[0].seen.count() == 0);
  REQUIRE(!c.observe(good));
  REQUIRE(says(c.make(rq::uniform{.bits = 9}).error(), errc::bad_bits, "ln.out: codec", 9, 8));
  REQUIRE(says(c.make(rq::log2{.bits = 1}).error(), errc::bad_bits, "ln.out: codec", 1, 2));
  REQUIRE(says(c.make(rq::log2{.bits = 4, .depth = 31}).error(), errc::bad_option, "ln.out: codec", 31, 30));
  REQUIRE(c.make(rq::log2{.bits = 4}));

  rq::calibrator rows(rq::min_max{}, rq::per_row{}, rq::shape{3, 4}, "w");
  REQUIRE(says(rows.observe(good), errc::shape_mismatch, "w: calibration rows", 6, 3));
  rq::calibrator groups(rq::min_max{}, rq::per_group{.size = 3}, rq::shape{6, 4}, "w");
  REQUIRE(says(groups.observe(good), errc::group_mismatch, "w: calibrator: columns", 4, 3));
  rq::calibrator none(rq::min_max{}, rq::per_tensor{}, 0, "w");
  REQUIRE(says(none.observe(good), errc::empty, "w: calibrator: columns", 0, 1));

  rq::calibrator other(rq::percentile{}, rq::per_col{}, 5, "other");
  REQUIRE(says(c.merge(other), errc::shape_mismatch, "ln.out: merge: columns", 5, 4));
  rq::calibrator wrong(rq::percentile{.keep = 0.2}, rq::per_tensor{}, 4, "fc1.in");
  REQUIRE(!wrong.observe(good));
  REQUIRE(says(wrong.make(rq::uniform{}).error(), errc::bad_option, "fc1.in: percentile.keep (millionths)",
               200000, 500001));
}
