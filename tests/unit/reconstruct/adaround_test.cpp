// SPDX-License-Identifier: MIT
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/adaround.hpp>
#include <repquant/testing/host_laws.hpp>

#include "catch.hpp"
#include "problem.hpp"

namespace rq = repquant;

namespace {

constexpr rq::adaround_options quick{.steps = 150, .rate = 0.08};

rq::relaxed_rounding small_problem(double lambda) {
  rq::relaxed_rounding p;
  p.weight = problem::normal(3, 7, 0.5, 1).cast<double>();
  p.width = (problem::normal(3, 7, 0.1, 2).cwiseAbs().array() + 0.05F).matrix().cast<double>();
  p.low = p.weight - 0.4 * p.width;
  p.width(1, 2) = 0;  // no choice
  p.curvature = rq::gram_of(problem::activations(30, 7, 3)).value().sum;
  p.lambda = lambda;
  p.measure_unit();
  return p;
}

}  // namespace

TEST_CASE("adaround keeps the laws of a reconstructor", "[reconstruct]") {
  problem::keeps_the_laws(rq::adaround<>{{}, quick});
  problem::keeps_the_laws(rq::adaround<rq::gptq>{{}, quick});
}

TEST_CASE("the gradient of relaxed_rounding is that of its loss", "[reconstruct]") {
  for (double beta : {20.0, 7.0, 2.0}) {
    const bool pull = beta < 20;
    const rq::relaxed_rounding p = small_problem(pull ? 0.3 : 0);
    rq::matrix<double> v = problem::normal(3, 7, 1, 4).cast<double>();
    v(0, 0) = 4;  // h is clipped: no gradient
    rq::matrix<double> g(3, 7);
    p.gradient(v, beta, pull, g);
    CHECK(g(0, 0) == 0);
    CHECK(g(1, 2) == 0);
    for (rq::index i = 0; i < v.size(); ++i) {
      const double step = 1e-6;
      rq::matrix<double> up = v;
      rq::matrix<double> down = v;
      up.data()[i] += step;
      down.data()[i] -= step;
      const double slope = (p.loss(up, beta) - p.loss(down, beta)) / (2 * step);
      CHECK(g.data()[i] == Approx(slope).epsilon(1e-5).margin(1e-7));  // differences lose half the digits
    }
  }
}

TEST_CASE("relaxed_rounding starts where it is asked to", "[reconstruct]") {
  for (double h : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    CHECK(rq::relaxed_rounding::share(rq::relaxed_rounding::position(h)) == Approx(h).margin(1e-12));
  }
}

TEST_CASE("adaround beats rounding, and its start row by row", "[reconstruct]") {
  const rq::matrix<> w = problem::normal(66, 32, 0.05, 5);
  const rq::gram h = rq::gram_of(problem::activations(120, 32, 6)).value();
  const auto q = problem::fitted(rq::uniform{3}, rq::per_row{}, w);
  const auto nearest = rq::round_to_nearest{}(q, w, h).value();
  const auto learned = rq::adaround<>{{}, quick}(q, w, h).value();
  CHECK(learned.report.loss < 0.7 * nearest.report.loss);
  CHECK(learned.report.loss == Approx(problem::loss(learned.weights, w, h)).epsilon(1e-9));
  const auto solved = rq::gptq{}(q, w, h).value();
  const auto composed = rq::adaround<rq::gptq>{{}, quick}(q, w, h).value();
  CHECK(composed.report.loss < solved.report.loss);
  rq::index worse = 0;
  for (rq::index i = 0; i < w.rows(); ++i) {
    worse +=
        problem::row_loss(composed.weights, w, h, i) > problem::row_loss(solved.weights, w, h, i) * (1 + 1e-9)
            ? 1
            : 0;
  }
  CHECK(worse == 0);
  SECTION("a code is the weight's lower or upper level") {
    rq::index far = 0;
    for (rq::index i = 0; i < w.rows(); ++i) {
      for (rq::index j = 0; j < w.cols(); ++j) {
        const float scale = q.params_of(i, j).scale;
        far += std::fabs(w(i, j) - q.decode(learned.weights.codes()(i, j), i, j)) > 1.0001F * scale ? 1 : 0;
      }
    }
    CHECK(far == 0);
  }
  SECTION("no steps, no change") {
    const auto same = rq::adaround<rq::gptq>{{}, {.steps = 0, .lean = 1}}(q, w, h).value();
    CHECK(same.weights.codes() == solved.weights.codes());
  }
  SECTION("the same for any number of threads") {
    const auto two = rq::adaround<rq::gptq>{{}, quick}(q, w, h, rq::threads{2}).value();
    CHECK(two.weights.codes() == composed.weights.codes());
    CHECK(two.report.loss == composed.report.loss);
  }
}

TEST_CASE("adaround refuses bad settings", "[reconstruct]") {
  const rq::matrix<> w = problem::normal(4, 8, 0.05, 8);
  const rq::gram h = rq::gram_of(problem::activations(20, 8, 9)).value();
  const auto q = problem::fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto code = [&](rq::adaround_options o) { return rq::adaround<>{{}, o}(q, w, h).error().code; };
  CHECK(code({.steps = -1}) == rq::errc::bad_option);
  CHECK(code({.rate = 0}) == rq::errc::bad_option);
  CHECK(code({.warm_up = 2}) == rq::errc::bad_option);
  CHECK(code({.beta_from = 1}) == rq::errc::bad_option);
  CHECK(code({.lean = -1}) == rq::errc::bad_option);
  CHECK(code({.damping = -1}) == rq::errc::bad_option);
}
