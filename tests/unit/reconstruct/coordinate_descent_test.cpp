// SPDX-License-Identifier: MIT
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/coordinate_descent.hpp>
#include <repquant/testing/host_laws.hpp>

#include "catch.hpp"
#include "problem.hpp"

namespace rq = repquant;

namespace {

/// No single weight of row i can move to any level and lower the damped loss.
template<class C, class G>
rq::index improvable(const rq::quantized<C, G>& q, const rq::matrix<>& w, const rq::gram& h, double ridge) {
  rq::index found = 0;
  for (rq::index i = 0; i < w.rows(); ++i) {
    const double now = problem::row_loss(q, w, h, i, ridge);
    for (rq::index j = 0; j < w.cols(); ++j) {
      for (int code = 0; code < q.quantizer().codec().levels(); ++code) {
        rq::matrix<std::uint8_t> codes = q.codes();
        codes(i, j) = static_cast<std::uint8_t>(code);
        const rq::quantized<C, G> other(q.quantizer(), codes);
        found += problem::row_loss(other, w, h, i, ridge) < now * (1 - 1e-7) ? 1 : 0;
      }
    }
  }
  return found;
}

template<class C, class G>
void ends_where_nothing_moves(const C& codec, const G& granularity) {
  const rq::matrix<> w = problem::normal(5, 16, 0.05, 1);
  const rq::gram h = rq::gram_of(problem::activations(60, 16, 2)).value();
  const auto q = problem::fitted(codec, granularity, w);
  const auto r = rq::coordinate_descent<rq::round_to_nearest>{}(q, w, h).value();
  const double ridge = 0.01 * problem::mean_live_diagonal(h);
  CHECK(improvable(r.weights, w, h, ridge) == 0);
  CHECK(improvable(rq::quantize(q, w).value(), w, h, ridge) > 0);  // the check can fail
  CHECK(r.report.loss == Approx(problem::loss(r.weights, w, h)).epsilon(1e-9));
  CHECK(r.report.damped_loss == Approx(problem::loss(r.weights, w, h, ridge)).epsilon(1e-9));
}

}  // namespace

TEST_CASE("coordinate_descent keeps the laws of a reconstructor", "[reconstruct]") {
  problem::keeps_the_laws(rq::coordinate_descent<>{});
  problem::keeps_the_laws(rq::coordinate_descent<rq::round_to_nearest>{{}, {0, 3}});
}

TEST_CASE("coordinate_descent finds the nearest value of a logarithmic codec", "[reconstruct]") {
  const rq::matrix<> w = problem::normal(6, 16, 0.05, 12).cwiseAbs();
  const rq::gram h = rq::gram::identity(16);
  const auto q = problem::fitted(rq::log2{4}, rq::per_row{}, w);
  const auto r = rq::coordinate_descent<>{}(q, w, h).value();
  rq::index further = 0;
  for (rq::index i = 0; i < w.size(); ++i) {
    const rq::index row = i / 16;
    const auto distance = [&](int code) { return std::fabs(w(row, i % 16) - q.decode(code, row, i % 16)); };
    for (int code = 0; code < 16; ++code) {
      further += distance(r.weights.codes()(row, i % 16)) > distance(code) * (1 + 1e-6F) ? 1 : 0;
    }
  }
  CHECK(further == 0);
  CHECK(r.report.loss < rq::round_to_nearest{}(q, w, h).value().report.loss);
}

TEST_CASE("coordinate_descent ends where no single weight can move", "[reconstruct]") {
  ends_where_nothing_moves(rq::uniform{3}, rq::per_row{});
  ends_where_nothing_moves(rq::uniform{4, true}, rq::per_group{8});
  ends_where_nothing_moves(rq::log_sqrt2{4}, rq::per_row{});
}

TEST_CASE("coordinate_descent lowers the loss with every sweep", "[reconstruct]") {
  const rq::matrix<> w = problem::normal(70, 40, 0.05, 3);
  const rq::gram h = rq::gram_of(problem::activations(100, 40, 4)).value();
  const auto q = problem::fitted(rq::uniform{3}, rq::per_row{}, w);
  const auto start = rq::round_to_nearest{}(q, w, h).value();
  const double ridge = 0.01 * problem::mean_live_diagonal(h);
  double before = problem::loss(start.weights, w, h, ridge);
  for (int sweeps = 1; sweeps <= 5; ++sweeps) {
    const auto r = rq::descend(start.weights, w, h, {0.01, sweeps}).value();
    const double now = problem::loss(r.weights, w, h, ridge);
    CHECK(now <= before);
    if (sweeps == 1) CHECK(now < 0.8 * before);
    before = now;
  }
}

TEST_CASE("coordinate_descent is never worse than its start, row by row", "[reconstruct]") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const rq::matrix<> w = problem::normal(66, 32, 0.05, seed);
    const rq::gram h = rq::gram_of(problem::activations(20, 32, seed + 10)).value();  // singular
    const auto q = problem::fitted(rq::uniform{4}, rq::per_group{8}, w);
    const auto start = rq::gptq{0.1}(q, w, h).value();
    const auto r = rq::coordinate_descent<>{{0.1}, {0.1}}(q, w, h).value();
    rq::index worse = 0;
    for (rq::index i = 0; i < w.rows(); ++i) {
      worse += problem::row_loss(r.weights, w, h, i) > problem::row_loss(start.weights, w, h, i) * (1 + 1e-9)
                   ? 1
                   : 0;
    }
    CHECK(worse == 0);
    CHECK(r.report.loss < start.report.loss);
    CHECK(r.report.notice.code == rq::errc::not_positive_definite);  // fewer tokens than inputs
  }
}

TEST_CASE("coordinate_descent gives the same codes for any number of threads", "[reconstruct]") {
  const rq::matrix<> w = problem::normal(200, 24, 0.05, 6);
  const rq::gram h = rq::gram_of(problem::activations(90, 24, 7)).value();
  const auto q = problem::fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto one = rq::coordinate_descent<>{}(q, w, h).value();
  const auto three = rq::coordinate_descent<>{}(q, w, h, rq::threads{3}).value();
  CHECK(one.weights.codes() == three.weights.codes());
  CHECK(one.report.loss == three.report.loss);
}

TEST_CASE("coordinate_descent refuses bad settings with their place", "[reconstruct]") {
  const rq::matrix<> w = problem::normal(4, 8, 0.05, 8);
  const rq::gram h = rq::gram_of(problem::activations(20, 8, 9)).value();
  const auto q = problem::fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto codes = rq::quantize(q, w).value();
  const auto refused = [&](const rq::matrix<>& weights, rq::descent_options o) {
    return rq::descend(codes, weights, h, o).error().code;
  };
  CHECK(refused(w, {-1, 3}) == rq::errc::bad_option);
  CHECK(refused(w, {0.01, -1}) == rq::errc::bad_option);
  const rq::failure f = rq::descend(codes, w, h, {.damping = -1}).error();
  CHECK(std::string(f.where) == "descend: damping (millionths)");
  CHECK(f.got == -1000000);
  CHECK(f.want == 0);
  CHECK(refused(w.topRows(3), {}) == rq::errc::shape_mismatch);
  CHECK(refused(w.leftCols(4), {}) == rq::errc::shape_mismatch);
}
