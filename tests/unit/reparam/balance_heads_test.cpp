// SPDX-License-Identifier: MIT
#include <repquant/reparam/balance_heads.hpp>

#include "catch.hpp"
#include <random>

namespace rq = repquant;

namespace {

using square = rq::matrix<double>;

square random(rq::index rows, rq::index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  square m(rows, cols);
  for (rq::index i = 0; i < m.size(); ++i) m.data()[i] = normal(engine);
  return m;
}
/// Second moments of `rank` random directions whose sizes fall by `fall` from one to the next.
square moments(rq::index d, rq::index rank, double fall, unsigned seed) {
  square x = random(rank, d, seed);
  for (rq::index i = 0; i < rank; ++i) x.row(i) *= std::pow(fall, static_cast<double>(i));
  return x.transpose() * x;
}
/// sum over k of E[x_k^2] E[y_k^2]: what codes with steps in proportion to the deviations leave in x y^T.
double noise(const square& a, const square& b) { return a.diagonal().dot(b.diagonal()); }
/// What balance_heads makes of moments first: mean diagonal 1, and a ridge.
square regular(const square& m, double ridge) {
  square r = m / (m.trace() / static_cast<double>(m.rows()));
  r.diagonal().array() += ridge;
  return r;
}

}  // namespace

TEST_CASE("balanced heads keep every product of two rows", "[reparam]") {
  for (rq::index d : {1, 2, 3, 8, 12, 32}) {
    for (unsigned seed : {1U, 2U, 3U}) {
      const rq::head_basis basis =
          rq::balance_heads(moments(d, 2 * d, 0.9, seed), moments(d, 2 * d, 0.95, seed + 50));
      const square x = random(7, d, seed + 100);
      const square y = random(9, d, seed + 200);
      const square want = x * y.transpose();
      const square got = (x * basis.forward) * (y * basis.backward).transpose();
      CAPTURE(d, seed);
      CHECK((got - want).cwiseAbs().maxCoeff() < 1e-9 * want.cwiseAbs().maxCoeff());
      CHECK((basis.forward * basis.backward.transpose() - square::Identity(d, d)).cwiseAbs().maxCoeff() <
            1e-9);
    }
  }
}

TEST_CASE("both sides of a balanced head have the same second moments, equally large", "[reparam]") {
  const double ridge = GENERATE(0.0, 1e-3, 0.1);
  for (rq::index d : {1, 2, 8, 16, 64}) {
    const square a = moments(d, 3 * d, 0.97, 5);
    const square b = moments(d, 3 * d, 0.95, 6);
    const rq::head_basis basis = rq::balance_heads(a, b, ridge);
    const square first = basis.forward.transpose() * regular(a, ridge) * basis.forward;
    const square second = basis.backward.transpose() * regular(b, ridge) * basis.backward;
    const double mean = first.trace() / static_cast<double>(d);
    CAPTURE(d, ridge, mean);
    CHECK((first - second).cwiseAbs().maxCoeff() < 1e-8 * mean);
    CHECK((first.diagonal().array() - mean).abs().maxCoeff() < 1e-8 * mean);
  }
}

TEST_CASE("heads whose size is no power of two are diagonal on both sides", "[reparam]") {
  for (rq::index d : {3, 6, 12}) {
    const square a = moments(d, 3 * d, 0.9, 7);
    const square b = moments(d, 3 * d, 0.9, 8);
    const rq::head_basis basis = rq::balance_heads(a, b);
    const square first = basis.forward.transpose() * regular(a, 1e-3) * basis.forward;
    const square second = basis.backward.transpose() * regular(b, 1e-3) * basis.backward;
    const square diagonal = first.diagonal().asDiagonal();
    CAPTURE(d);
    CHECK((first - diagonal).cwiseAbs().maxCoeff() < 1e-8 * diagonal.maxCoeff());
    CHECK((second - diagonal).cwiseAbs().maxCoeff() < 1e-8 * diagonal.maxCoeff());
  }
}

// tr((A^1/2 B A^1/2)^1/2) is at most the sum of sqrt(A_kk B_kk) in any basis, and (sum of n)^2 / d at most
// the sum of squares.
TEST_CASE("a balanced head is never noisier than the head as it was", "[reparam]") {
  for (rq::index d : {1, 2, 4, 16, 32}) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      const square a = moments(d, 2 * d, 0.8 + 0.01 * seed, 10 + seed);
      const square b = moments(d, 2 * d, 0.95, 40 + seed);
      const rq::head_basis basis = rq::balance_heads(a, b, 0);
      const double before = noise(a, b);
      const double after = noise(basis.forward.transpose() * a * basis.forward,
                                 basis.backward.transpose() * b * basis.backward);
      CAPTURE(d, seed, before, after);
      CHECK(after < before * (1 + 1e-9));
      if (d >= 16) CHECK(after < 0.9 * before);
    }
  }
  // where nothing can be gained, nothing is lost: all directions alike
  const square one = square::Identity(8, 8);
  const rq::head_basis basis = rq::balance_heads(one, 3 * one);
  CHECK(noise(basis.forward.transpose() * one * basis.forward,
              basis.backward.transpose() * one * basis.backward) == Approx(8).epsilon(1e-9));
  // sizes of channels that answer each other, 1 and 100 against 100 and 1, are made alike
  square wide = one;
  wide.topLeftCorner(4, 4) *= 1e4;
  square narrow = one;
  narrow.bottomRightCorner(4, 4) *= 1e4;
  const rq::head_basis even = rq::balance_heads(wide, narrow, 0);
  const square x = even.forward.transpose() * wide * even.forward;
  CHECK(x.diagonal().maxCoeff() / x.diagonal().minCoeff() == Approx(1).epsilon(1e-9));
}

TEST_CASE("a head that never moves, or in few directions, is balanced without a division by zero",
          "[reparam]") {
  const rq::index d = 8;
  const square zero = square::Zero(d, d);
  const square thin = moments(d, 1, 1, 3);
  const square full = moments(d, 16, 0.9, 4);
  const square tiny = 1e-30 * full;
  for (const auto& [a, b] : std::vector<std::pair<square, square>>{
           {zero, full}, {full, zero}, {zero, zero}, {thin, full}, {thin, thin}, {tiny, full}}) {
    const rq::head_basis basis = rq::balance_heads(a, b);
    REQUIRE(basis.forward.allFinite());
    REQUIRE(basis.backward.allFinite());
    CHECK((basis.forward * basis.backward.transpose() - square::Identity(d, d)).cwiseAbs().maxCoeff() < 1e-9);
    // no direction is blown up by more than the ridge allows
    CHECK(basis.forward.cwiseAbs().maxCoeff() < 1e3);
    CHECK(basis.backward.cwiseAbs().maxCoeff() < 1e3);
  }
}
