// SPDX-License-Identifier: MIT
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/row_ranges.hpp>
#include <repquant/reconstruct/row_scales.hpp>

#include "catch.hpp"
#include "problem.hpp"

namespace rq = repquant;

namespace {
struct layer_problem {
  rq::matrix<> w = problem::normal(66, 32, 0.05, 1);
  rq::gram h = rq::gram_of(problem::activations(120, 32, 2)).value();
};
}  // namespace

TEST_CASE("refit_scales gives the least-squares scale of each row", "[reconstruct]") {
  const layer_problem p;
  const auto q = problem::fitted(rq::uniform{3}, rq::per_row{}, p.w);
  const auto start = rq::gptq{}(q, p.w, p.h).value();
  const auto refit = rq::refit_scales(start.weights, p.w, p.h, 0).value();
  CHECK(refit.codes() == start.weights.codes());
  for (rq::index i = 0; i < p.w.rows(); ++i) {
    double numerator = 0;
    double denominator = 0;
    for (rq::index a = 0; a < 32; ++a) {
      for (rq::index b = 0; b < 32; ++b) {
        const double u = refit.codes()(i, b) - q.params_of(i, 0).zero_point;
        const double v = refit.codes()(i, a) - q.params_of(i, 0).zero_point;
        numerator += static_cast<double>(p.w(i, a)) * p.h.sum(a, b) * u;
        denominator += v * p.h.sum(a, b) * u;
      }
    }
    CHECK(refit.quantizer().params_of(i, 0).scale == Approx(numerator / denominator).epsilon(1e-5));
    CHECK(refit.quantizer().params_of(i, 0).zero_point == q.params_of(i, 0).zero_point);
  }
}

TEST_CASE("reconstruct_with_scales is never worse than its start, row by row", "[reconstruct]") {
  const layer_problem p;
  const auto check = [&](const auto& codec, const auto& granularity) {
    const auto q = problem::fitted(codec, granularity, p.w);
    const auto start = rq::gptq{}(q, p.w, p.h).value();
    const auto r = rq::reconstruct_with_scales(q, p.w, p.h, rq::gptq{}, 4).value();
    rq::index worse = 0;
    for (rq::index i = 0; i < p.w.rows(); ++i) {
      worse += problem::row_loss(r.weights, p.w, p.h, i) >
                       problem::row_loss(start.weights, p.w, p.h, i) * (1 + 1e-9)
                   ? 1
                   : 0;
    }
    CHECK(worse == 0);
    CHECK(r.report.loss < 0.95 * start.report.loss);
    CHECK(r.report.loss == Approx(problem::loss(r.weights, p.w, p.h)).epsilon(1e-9));
    double before = start.report.loss;
    for (int rounds = 1; rounds < 4; ++rounds) {
      const auto next = rq::reconstruct_with_scales(q, p.w, p.h, rq::gptq{}, rounds).value();
      CHECK(next.report.loss <= before * (1 + 1e-9));
      before = next.report.loss;
    }
  };
  check(rq::uniform{3}, rq::per_row{});
  check(rq::uniform{4}, rq::per_group{8});
  check(rq::uniform{4, true}, rq::per_row{});
  check(rq::log_sqrt2{4}, rq::per_row{});
}

TEST_CASE("reconstruct_with_scales does not depend on threads and refuses shared scales", "[reconstruct]") {
  const layer_problem p;
  const auto q = problem::fitted(rq::uniform{3}, rq::per_group{8}, p.w);
  const auto one = rq::reconstruct_with_scales(q, p.w, p.h, rq::gptq{}, 3).value();
  const auto two = rq::reconstruct_with_scales(q, p.w, p.h, rq::gptq{}, 3, {}, rq::threads{2}).value();
  CHECK(one.weights.codes() == two.weights.codes());
  CHECK(one.report.loss == two.report.loss);
  const auto shared = problem::fitted(rq::uniform{4}, rq::per_tensor{}, p.w);
  CHECK(rq::reconstruct_with_scales(shared, p.w, p.h, rq::gptq{}, 1).error().code ==
        rq::errc::group_mismatch);
  CHECK(rq::reconstruct_with_scales(q, p.w, p.h, rq::gptq{}, -1).error().code == rq::errc::bad_option);
}

TEST_CASE("fit_rows_to_gram chooses by the output error of rounding", "[reconstruct]") {
  const layer_problem p;
  const auto full = rq::range_options{.score = rq::range_score::full};
  const auto rounded = [&](const auto& q) { return rq::quantize(q, p.w).value(); };
  SECTION("never above min_max or least_error, row by row") {
    const auto chosen = rounded(rq::fit_rows_to_gram(rq::uniform{3}, rq::per_row{}, p.w, p.h, full).value());
    const auto least = rounded(rq::fit(rq::uniform{3}, rq::per_row{}, rq::least_error{}, p.w).value());
    const auto whole = rounded(rq::fit(rq::uniform{3}, rq::per_row{}, rq::min_max{}, p.w).value());
    rq::index worse = 0;
    for (rq::index i = 0; i < p.w.rows(); ++i) {
      const double loss = problem::row_loss(chosen, p.w, p.h, i);
      worse += loss > problem::row_loss(least, p.w, p.h, i) * (1 + 1e-8) ? 1 : 0;
      worse += loss > problem::row_loss(whole, p.w, p.h, i) * (1 + 1e-8) ? 1 : 0;
    }
    CHECK(worse == 0);
    CHECK(problem::loss(chosen, p.w, p.h) < 0.9 * problem::loss(least, p.w, p.h));
  }
  SECTION("each score prefers its own measure") {
    rq::gram diagonal = p.h;
    diagonal.sum = p.h.sum.diagonal().asDiagonal();
    const auto by_diagonal = rounded(
        rq::fit_rows_to_gram(rq::uniform{3}, rq::per_row{}, p.w, p.h, {.score = rq::range_score::diagonal})
            .value());
    const auto by_full = rounded(rq::fit_rows_to_gram(rq::uniform{3}, rq::per_row{}, p.w, p.h, full).value());
    CHECK(problem::loss(by_diagonal, p.w, diagonal) < problem::loss(by_full, p.w, diagonal));
    CHECK(problem::loss(by_diagonal, p.w, p.h) > problem::loss(by_full, p.w, p.h));
  }
  SECTION("an end on the far side of zero does not move, dead columns are no obstacle") {
    rq::matrix<> positive = p.w.cwiseAbs().array() + 1.0F;
    rq::gram h = p.h;
    h.sum.leftCols(8).setZero();
    h.sum.topRows(8).setZero();
    const auto q = rq::fit_rows_to_gram(rq::uniform{4}, rq::per_group{8}, positive, h).value();
    for (const rq::affine& a : q.params()) CHECK(static_cast<float>(-a.zero_point) * a.scale > 0.9F);
  }
  SECTION("the same for any number of threads") {
    const auto one = rq::fit_rows_to_gram(rq::uniform{3}, rq::per_group{8}, p.w, p.h).value();
    const auto two =
        rq::fit_rows_to_gram(rq::uniform{3}, rq::per_group{8}, p.w, p.h, {}, rq::threads{2}).value();
    for (std::size_t k = 0; k < one.params().size(); ++k)
      CHECK(one.params()[k].scale == two.params()[k].scale);
  }
  SECTION("what does not fit is refused") {
    const auto code = [&](const auto& granularity, rq::range_options o) {
      return rq::fit_rows_to_gram(rq::uniform{3}, granularity, p.w, p.h, o).error().code;
    };
    CHECK(code(rq::per_tensor{}, {}) == rq::errc::group_mismatch);
    CHECK(code(rq::per_group{7}, {}) == rq::errc::group_mismatch);
    CHECK(code(rq::per_row{}, {.step = 0}) == rq::errc::bad_option);
    const rq::failure f =
        rq::fit_rows_to_gram(rq::uniform{3}, rq::per_row{}, p.w, p.h, {.smallest = 1.5}).error();
    CHECK(std::string(f.where) == "fit_rows_to_gram: smallest (millionths)");
    CHECK(f.got == 1500000);
    CHECK(f.want == 1000000);
  }
}

namespace {
/// gptq that factors the Gram matrix for every quantizer.
struct forgetful {
  rq::gptq solver;
  template<rq::Codec C, rq::Granularity G>
  rq::result<rq::reconstruction<C, G>> operator()(const rq::quantizer<C, G>& q, rq::matrix_view w,
                                                  const rq::gram& h) const {
    return solver(q, w, h);
  }
};
}  // namespace

TEST_CASE("reconstruct_with_ranges gives the same with one factor as with many", "[reconstruct]") {
  const layer_problem p;
  const auto same = [&](const auto& granularity, const rq::gptq& solver) {
    const rq::uniform codec{3};
    const auto one = rq::reconstruct_with_ranges(codec, granularity, p.w, p.h, solver).value();
    const auto many = rq::reconstruct_with_ranges(codec, granularity, p.w, p.h, forgetful{solver}).value();
    CHECK(one.weights.codes() == many.weights.codes());
    CHECK(rq::dequantize(one.weights) == rq::dequantize(many.weights));
    CHECK(one.report.loss == many.report.loss);
    CHECK(one.report.damped_loss == many.report.damped_loss);
  };
  same(rq::per_row{}, {});
  same(rq::per_group{8}, {0.1, rq::column_order::natural});
  for (const double damping : {-1.0, std::nan("")}) {
    CHECK(rq::reconstruct_with_ranges(rq::uniform{3}, rq::per_row{}, p.w, p.h, rq::gptq{damping})
              .error()
              .code == rq::errc::bad_option);
  }
}

TEST_CASE("reconstruct_with_ranges is never worse than the solver with one range", "[reconstruct]") {
  const layer_problem p;
  const auto check = [&](const auto& granularity) {
    const rq::uniform codec{3};
    const auto r = rq::reconstruct_with_ranges(codec, granularity, p.w, p.h, rq::gptq{}).value();
    const auto whole = rq::fit(codec, granularity, rq::min_max{}, p.w).value();
    const auto searched = rq::fit_rows_to_gram(codec, granularity, p.w, p.h).value();
    const auto first = rq::gptq{}(whole, p.w, p.h).value();
    const auto second = rq::gptq{}(searched, p.w, p.h).value();
    rq::index worse = 0;
    for (rq::index i = 0; i < p.w.rows(); ++i) {
      const double loss = problem::row_loss(r.weights, p.w, p.h, i);
      worse += loss > problem::row_loss(first.weights, p.w, p.h, i) * (1 + 1e-8) ? 1 : 0;
      worse += loss > problem::row_loss(second.weights, p.w, p.h, i) * (1 + 1e-8) ? 1 : 0;
    }
    CHECK(worse == 0);
    CHECK(r.report.loss < 0.98 * std::fmin(first.report.loss, second.report.loss));
    CHECK(r.report.loss == Approx(problem::loss(r.weights, p.w, p.h)).epsilon(1e-9));
    const double ridge = 0.01 * problem::mean_live_diagonal(p.h);
    CHECK(r.report.damped_loss == Approx(problem::loss(r.weights, p.w, p.h, ridge)).epsilon(1e-9));
  };
  check(rq::per_row{});
  check(rq::per_group{8});
  CHECK(rq::reconstruct_with_ranges(rq::uniform{3}, rq::per_tensor{}, p.w, p.h, rq::gptq{}).error().code ==
        rq::errc::group_mismatch);
}
