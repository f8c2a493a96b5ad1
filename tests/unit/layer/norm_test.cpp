// SPDX-License-Identifier: MIT
#include <repquant/layer/norm.hpp>

#include "catch.hpp"
#include "oracle/fold.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

rq::matrix<> noise(rq::index rows, rq::index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(1, 2);
  rq::matrix<> m(rows, cols);
  for (rq::index i = 0; i < rows * cols; ++i) m.data()[i] = normal(engine);
  return m;
}

std::vector<double> row(const rq::matrix<>& m, rq::index t) {
  std::vector<double> v;
  for (rq::index d = 0; d < m.cols(); ++d) v.push_back(static_cast<double>(m(t, d)));
  return v;
}

}  // namespace

TEST_CASE("layer_norm: the formula, for any number of channels", "[layer]") {
  const rq::index channels = GENERATE(1, 2, 7, 16, 33, 64, 192);
  const rq::layer_norm n{noise(channels, 1, 1), noise(channels, 1, 2), 1e-5F};
  const rq::matrix<> x = noise(9, channels, 3);
  const rq::matrix<> y = apply(n, x);
  const rq::matrix<> gamma = n.gamma.transpose();
  const rq::matrix<> beta = n.beta.transpose();
  for (rq::index t = 0; t < 9; ++t) {
    const auto want = oracle::layer_norm(row(x, t), row(gamma, 0), row(beta, 0), static_cast<double>(1e-5F));
    for (rq::index d = 0; d < channels; ++d) {
      // a float mean and variance, then five rounded operations on values of about 10
      const double got = static_cast<double>(y(t, d));
      CHECK(got == Approx(want[static_cast<std::size_t>(d)]).epsilon(1e-5).margin(1e-5));
    }
  }
}

TEST_CASE("rms_norm: the formula", "[layer]") {
  const rq::index channels = GENERATE(1, 5, 48);
  const rq::rms_norm n{noise(channels, 1, 1), 1e-6F};
  const rq::matrix<> x = noise(9, channels, 3);
  const rq::matrix<> y = apply(n, x);
  for (rq::index t = 0; t < 9; ++t) {
    double square = 0;
    for (double v : row(x, t)) square += v * v / static_cast<double>(channels);
    for (rq::index d = 0; d < channels; ++d) {
      const double want = static_cast<double>(x(t, d)) / std::sqrt(square + static_cast<double>(1e-6F)) *
                          static_cast<double>(n.gamma(d));
      CHECK(static_cast<double>(y(t, d)) == Approx(want).epsilon(1e-5));  // six rounded operations
    }
  }
}

TEST_CASE("norms: check", "[layer]") {
  rq::layer_norm n{noise(4, 1, 1), noise(4, 1, 2)};
  CHECK_FALSE(check(n, "here"));
  n.beta = noise(3, 1, 2);
  CHECK(check(n, "here").code == rq::errc::shape_mismatch);
  CHECK(check(n, "here").got == 3);
  n.beta = noise(4, 1, 2);
  n.beta(0) = std::numeric_limits<float>::quiet_NaN();
  CHECK(check(n, "here").code == rq::errc::non_finite);
  CHECK(check(rq::layer_norm{}, "here").code == rq::errc::empty);
  CHECK(check(rq::rms_norm{}, "here").code == rq::errc::empty);
  CHECK_FALSE(check(rq::rms_norm{noise(4, 1, 1)}, "here"));
}

TEST_CASE("norms of rows that lie apart have the bits of rows that do not", "[layer]") {
  for (const rq::index channels : {1, 7, 16, 48}) {
    const rq::layer_norm layer{noise(channels, 1, 1), noise(channels, 1, 2), 1e-5F};
    const rq::rms_norm rms{noise(channels, 1, 1), 1e-6F};
    const rq::matrix<> wide = noise(37, channels + 3, 3);
    const rq::matrix<> x = wide.leftCols(channels);
    const rq::matrix_view apart(wide.data(), 37, channels, channels + 3);
    CHECK(apply(layer, apart) == apply(layer, x));
    CHECK(apply(rms, apart) == apply(rms, x));
  }
}
