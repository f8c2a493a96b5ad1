// SPDX-License-Identifier: MIT
#include <repquant/reparam/spread_channels.hpp>

#include "catch.hpp"
#include <random>

namespace rq = repquant;

namespace {

rq::matrix<double> normal_matrix(rq::index rows, rq::index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  rq::matrix<double> m(rows, cols);
  for (rq::index i = 0; i < m.size(); ++i) m.data()[i] = normal(engine);
  return m;
}
rq::column<double> sizes_between(rq::index d, double ratio, rq::index step) {
  rq::column<double> s(d);
  for (rq::index j = 0; j < d; ++j)
    s(j) = std::pow(ratio, static_cast<double>(j * step % d) / static_cast<double>(d) - 0.5);
  return s;
}
rq::matrix<> spread_rows(const rq::matrix<>& x, const rq::column<float>& factors) {
  rq::matrix<> y(x.rows(), x.cols());
  const auto n = static_cast<std::size_t>(x.cols());
  for (rq::index i = 0; i < x.rows(); ++i)
    rq::hadamard_row({x.row(i).data(), n}, {factors.data(), n}, {y.row(i).data(), n});
  return y;
}
/// sum over channels of variance times squared norm of the weights' column.
double noise_of(const rq::matrix<>& x, const rq::matrix<>& w) {
  const rq::matrix<double> v = x.cast<double>();
  const rq::matrix<double> about = v.rowwise() - v.colwise().mean().eval();
  const Eigen::RowVectorXd power = about.colwise().squaredNorm() / static_cast<double>(x.rows());
  return power.dot(w.cast<double>().colwise().squaredNorm());
}

}  // namespace

TEST_CASE("spread weights give for spread inputs what the weights gave for the inputs", "[reparam]") {
  for (rq::index d : {1, 2, 3, 7, 8, 24, 64, 100, 172, 256}) {
    const rq::matrix<> x = (normal_matrix(20, d, 1) * sizes_between(d, 30, 5).asDiagonal()).cast<float>();
    const rq::matrix<> w = (normal_matrix(9, d, 2) * sizes_between(d, 10, 7).asDiagonal()).cast<float>();
    const rq::column<float> factors = rq::spread_factors(sizes_between(d, 900, 5), sizes_between(d, 100, 7));
    REQUIRE(factors.size() == d);
    const rq::matrix<double> want = x.cast<double>() * w.cast<double>().transpose();
    const rq::matrix<double> got =
        spread_rows(x, factors).cast<double>() * rq::spread_weights(w, factors).cast<double>().transpose();
    CAPTURE(d);
    CHECK((want - got).cwiseAbs().maxCoeff() < 2e-5 * want.cwiseAbs().maxCoeff());
  }
}

TEST_CASE("spread channels lose no more than the Cauchy bound of those before", "[reparam]") {
  for (rq::index d : {8, 64, 128}) {  // one block: every channel is mixed alike
    const rq::matrix<> x = (normal_matrix(4000, d, 3) * sizes_between(d, 50, 3).asDiagonal()).cast<float>();
    const rq::matrix<> w = (normal_matrix(40, d, 4) * sizes_between(d, 5, 3).asDiagonal()).cast<float>();
    const rq::matrix<double> v = x.cast<double>();
    const rq::matrix<double> about = v.rowwise() - v.colwise().mean().eval();
    const rq::column<double> power = about.colwise().squaredNorm().transpose() / 4000.0;
    const rq::column<double> importance = w.cast<double>().colwise().squaredNorm().transpose();
    const rq::column<float> factors = rq::spread_factors(power, importance);
    const double before = noise_of(x, w);
    const double after = noise_of(spread_rows(x, factors), rq::spread_weights(w, factors));
    const double bound =
        std::pow(power.cwiseProduct(importance).cwiseSqrt().sum(), 2) / static_cast<double>(d);
    CAPTURE(d, before, after, bound);
    CHECK(bound < 0.6 * before);
    CHECK(after < 1.25 * bound);  // random rows are not exactly uncorrelated
    CHECK(after < 0.8 * before);
  }
}

TEST_CASE("channels that never move and channels that nothing reads get finite factors", "[reparam]") {
  rq::column<double> power = rq::column<double>::Ones(8);
  rq::column<double> importance = rq::column<double>::Ones(8);
  power(2) = 0;
  importance(5) = 0;
  const rq::column<float> some = rq::spread_factors(power, importance);
  const rq::column<float> none = rq::spread_factors(rq::column<double>::Zero(8), rq::column<double>::Zero(8));
  for (rq::index j = 0; j < 8; ++j) {
    CHECK(std::isfinite(some(j)));
    CHECK(std::fabs(some(j)) > 1e-3F);
    CHECK(std::fabs(none(j)) == Approx(1 / std::sqrt(8.0)));
  }
  CHECK((none.array() > 0).count() > 0);
  CHECK((none.array() < 0).count() > 0);
}
