// SPDX-License-Identifier: MIT
/// Compares the gradients of a tape with central differences of the same function.
#pragma once

#include <repquant/train/losses.hpp>
#include <repquant/train/tape.hpp>

#include "catch.hpp"
#include <functional>
#include <random>
#include <vector>

namespace gradients {

namespace rq = repquant;
namespace d = repquant::differentiable;

inline rq::matrix<> noise(rq::index rows, rq::index cols, unsigned seed, float deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, deviation);
  rq::matrix<> m(rows, cols);
  for (rq::index i = 0; i < m.size(); ++i) m.data()[i] = normal(engine);
  return m;
}

/// Builds a result from leaves.
using function = std::function<rq::node(rq::tape&, const std::vector<rq::node>&)>;

/// The sum of the result's entries, each times its own random weight, in double.
inline double weighted(const rq::matrix<>& y, const rq::matrix<>& weights) {
  return y.cast<double>().cwiseProduct(weights.cast<double>()).sum();
}

/// The gradient of the weighted result in every leaf, from the tape.
inline std::vector<rq::matrix<>> by_tape(const function& f, const std::vector<rq::matrix<>>& leaves,
                                         const rq::matrix<>& weights) {
  rq::tape t;
  std::vector<rq::node> nodes;
  for (const rq::matrix<>& x : leaves) nodes.push_back(t.variable(x));
  const rq::node y = f(t, nodes);
  const rq::node factors = t.constant(weights);
  // sum(y * weights) by hand, so that no operation under test stands between
  const rq::node loss = t.result(1, 1, {y});
  t.value_of(loss)(0, 0) = static_cast<float>(weighted(t.value(y), weights));
  t.on_backward(loss, [y, factors](rq::tape& u) { u.add_gradient(y, u.value(factors)); });
  t.backward(loss);
  std::vector<rq::matrix<>> g;
  for (rq::node n : nodes) g.push_back(t.gradient(n));
  return g;
}

/// The same by the six-point central difference, whose error is h^6 / 140 of the seventh derivative.
inline std::vector<rq::matrix<>> by_difference(const function& f, std::vector<rq::matrix<>> leaves,
                                               const rq::matrix<>& weights, float h) {
  const auto at = [&] {
    rq::tape t;
    std::vector<rq::node> nodes;
    for (const rq::matrix<>& x : leaves) nodes.push_back(t.constant(x));
    return weighted(t.value(f(t, nodes)), weights);
  };
  std::vector<rq::matrix<>> all;
  for (rq::matrix<>& x : leaves) {
    rq::matrix<> g(x.rows(), x.cols());
    for (rq::index i = 0; i < x.size(); ++i) {
      const float center = x.data()[i];
      double slope = 0;
      const double factor[] = {0, 45, -9, 1};
      for (int k = 1; k <= 3; ++k) {
        x.data()[i] = center + static_cast<float>(k) * h;
        const double above = at();
        x.data()[i] = center - static_cast<float>(k) * h;
        slope += factor[k] * (above - at());
      }
      x.data()[i] = center;
      g.data()[i] = static_cast<float>(slope / (60.0 * static_cast<double>(h)));
    }
    all.push_back(std::move(g));
  }
  return all;
}

/// Checks every gradient of f at these leaves. A value has an error of about 2^-22 of its size, so a slope
/// one of 2^-22 / h; the tolerance is a few times that and the stencil's own error.
inline void check(const function& f, const std::vector<rq::matrix<>>& leaves, float h = 0x1p-5F,
                  float tolerance = 1e-4F) {
  rq::tape shape;
  std::vector<rq::node> nodes;
  for (const rq::matrix<>& x : leaves) nodes.push_back(shape.constant(x));
  const rq::node y = f(shape, nodes);
  const rq::matrix<> weights = noise(shape.value(y).rows(), shape.value(y).cols(), 99);
  const auto have = by_tape(f, leaves, weights);
  const auto want = by_difference(f, leaves, weights, h);
  REQUIRE(have.size() == want.size());
  for (std::size_t k = 0; k < have.size(); ++k) {
    INFO("leaf " << k);
    REQUIRE(have[k].rows() == want[k].rows());
    REQUIRE(have[k].cols() == want[k].cols());
    CHECK(want[k].cwiseAbs().maxCoeff() > 0.01F);  // a gradient that is zero would test nothing
    CHECK((have[k] - want[k]).cwiseAbs().maxCoeff() <=
          tolerance * std::max(1.0F, want[k].cwiseAbs().maxCoeff()));
  }
}

}  // namespace gradients
