// SPDX-License-Identifier: MIT
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>
#include <repquant/reconstruct/pre_correct.hpp>

#include "catch.hpp"
#include "oracle/gptq.hpp"
#include "problem.hpp"

namespace rq = repquant;

namespace {

constexpr rq::index tokens = 150;
constexpr rq::index in = 12;
constexpr rq::index out = 5;

/// A float stream, a quantized one that lags behind it, and a residual beside each.
struct streams {
  rq::matrix<> x = problem::activations(tokens, in, 1);
  rq::matrix<> xq = x + problem::normal(tokens, in, 0.2, 2) - 0.3F * x.rowwise().reverse();
  rq::matrix<> r = problem::normal(tokens, out, 1, 3);
  rq::matrix<> rq_ = 0.8F * r + xq.leftCols(out) * 0.1F;
  rq::matrix<> w = problem::normal(out, in, 0.3, 4);
  rq::gram h = rq::gram_of(xq).value();

  [[nodiscard]] rq::cross_gram of_inputs() const {
    rq::cross_gram_accumulator c(in, in);
    REQUIRE_FALSE(c.add(x, xq, xq));
    return c.total();
  }
  [[nodiscard]] rq::cross_gram of_residual() const {
    rq::cross_gram_accumulator c(out, in);
    REQUIRE_FALSE(c.add(r, rq_, xq));
    return c.total();
  }
};

/// Least squares of y on x with a ridge, in plain loops: sum of y^T x times the inverse of sum of x^T x +
/// ridge.
oracle::double_rows least_squares(const rq::matrix<double>& y, const rq::matrix<>& x, double ridge) {
  const auto n = static_cast<std::size_t>(x.cols());
  const auto m = static_cast<std::size_t>(y.cols());
  oracle::double_rows h(n, std::vector<double>(n, 0.0));
  oracle::double_rows b(m, std::vector<double>(n, 0.0));
  for (rq::index t = 0; t < x.rows(); ++t) {
    for (std::size_t i = 0; i < n; ++i) {
      const double xi = static_cast<double>(x(t, static_cast<rq::index>(i)));
      for (std::size_t j = 0; j < n; ++j)
        h[i][j] += xi * static_cast<double>(x(t, static_cast<rq::index>(j)));
      for (std::size_t o = 0; o < m; ++o) b[o][i] += y(t, static_cast<rq::index>(o)) * xi;
    }
  }
  for (std::size_t i = 0; i < n; ++i) h[i][i] += ridge;
  const oracle::double_rows inv = oracle::inverse(h);
  oracle::double_rows answer(m, std::vector<double>(n, 0.0));
  for (std::size_t o = 0; o < m; ++o) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) answer[o][i] += b[o][j] * inv[j][i];
    }
  }
  return answer;
}
double furthest(const rq::matrix<>& w, const oracle::double_rows& expected) {
  double far = 0;
  for (rq::index i = 0; i < w.rows(); ++i) {
    for (rq::index j = 0; j < w.cols(); ++j) {
      far = std::fmax(far, std::fabs(static_cast<double>(w(i, j)) -
                                     expected[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)]));
    }
  }
  return far;
}

}  // namespace

TEST_CASE("pre_correct gives the least-squares weights", "[reconstruct]") {
  const streams s;
  const rq::matrix<double> target = s.x.cast<double>() * s.w.transpose().cast<double>();
  // float rounding of weights up to 4: 2^-22
  CHECK(furthest(rq::pre_correct(s.w, s.of_inputs(), s.h, 0, 1).value(), least_squares(target, s.xq, 0)) <
        1e-6);
  SECTION("alpha is the fraction of the way") {
    const rq::matrix<> whole = rq::pre_correct(s.w, s.of_inputs(), s.h, 0.01, 1).value();
    const rq::matrix<> half = rq::pre_correct(s.w, s.of_inputs(), s.h, 0.01, 0.5).value();
    CHECK((half - 0.5F * (whole + s.w)).cwiseAbs().maxCoeff() < 1e-6F);
    CHECK(rq::pre_correct(s.w, s.of_inputs(), s.h, 0.01, 0).value() == s.w);
  }
  SECTION("damping is a ridge that pulls to the weights, not to zero") {
    const double ridge = 0.1 * problem::mean_live_diagonal(s.h);
    const rq::matrix<double> missing =
        (s.x.cast<double>() - s.xq.cast<double>()) * s.w.transpose().cast<double>();
    oracle::double_rows expected = least_squares(missing, s.xq, ridge);
    for (rq::index i = 0; i < out; ++i) {
      for (rq::index j = 0; j < in; ++j) {
        expected[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] += static_cast<double>(s.w(i, j));
      }
    }
    CHECK(furthest(rq::pre_correct(s.w, s.of_inputs(), s.h, 0.1, 1).value(), expected) < 1e-6);
  }
  SECTION("with the residual: the best weights for the sum") {
    const rq::matrix<double> wanted = target + s.r.cast<double>() - s.rq_.cast<double>();
    const rq::matrix<> first = rq::pre_correct(s.w, s.of_inputs(), s.h, 0, 1).value();
    const rq::matrix<> both = rq::pre_correct_residual(first, s.of_residual(), s.h, 0, 1).value();
    CHECK(furthest(both, least_squares(wanted, s.xq, 0)) < 1e-6);
    CHECK(furthest(first, least_squares(wanted, s.xq, 0)) > 1e-3);
  }
}

TEST_CASE("pre_correct leaves the columns of dead inputs alone", "[reconstruct]") {
  streams s;
  s.xq.col(4).setZero();
  s.h = rq::gram_of(s.xq).value();
  const rq::matrix<> w = rq::pre_correct(s.w, s.of_inputs(), s.h, 0.01, 1).value();
  CHECK(w.col(4) == s.w.col(4));
  CHECK(w.col(3) != s.w.col(3));
}

TEST_CASE("cross_gram_accumulator does not depend on batches or threads", "[reconstruct]") {
  const rq::matrix<> x = problem::activations(700, 150, 5);
  const rq::matrix<> q = x + problem::normal(700, 150, 0.1, 6);
  rq::cross_gram_accumulator whole(150, 150);
  rq::cross_gram_accumulator split(150, 150);
  REQUIRE_FALSE(whole.add(x, q, q));
  for (rq::index i = 0; i < 700; i += 100) {
    REQUIRE_FALSE(
        split.add(x.middleRows(i, 100), q.middleRows(i, 100), q.middleRows(i, 100), rq::threads{2}));
  }
  CHECK(whole.total().sum == split.total().sum);
  CHECK(split.total().tokens == 700);
  double expected = 0;
  for (rq::index t = 0; t < 700; ++t) {
    expected +=
        (static_cast<double>(x(t, 140)) - static_cast<double>(q(t, 140))) * static_cast<double>(q(t, 7));
  }
  CHECK(whole.total().sum(140, 7) == Approx(expected).epsilon(1e-12).margin(1e-9));
}

TEST_CASE("pre_correct refuses what does not fit", "[reconstruct]") {
  const streams s;
  const rq::cross_gram c = s.of_inputs();
  const auto code = [&](const rq::cross_gram& cross, double damping, double alpha) {
    return rq::pre_correct(s.w, cross, s.h, damping, alpha).error().code;
  };
  CHECK(code(c, -0.1, 1) == rq::errc::bad_option);
  CHECK(code(c, 0.1, 1.5) == rq::errc::bad_option);
  CHECK(code(s.of_residual(), 0.1, 1) == rq::errc::shape_mismatch);
  CHECK(code({c.sum, 3}, 0.1, 1) == rq::errc::shape_mismatch);
  CHECK(code({}, 0.1, 1) == rq::errc::empty);
  rq::cross_gram_accumulator sum(in, in);
  CHECK(sum.add(s.x.topRows(3), s.xq, s.xq).code == rq::errc::shape_mismatch);
  CHECK(sum.add(s.r, s.rq_, s.xq).code == rq::errc::shape_mismatch);
  CHECK(sum.add(s.x.topRows(0), s.xq.topRows(0), s.xq.topRows(0)).code == rq::errc::empty);
  CHECK(sum.tokens() == 0);
}
