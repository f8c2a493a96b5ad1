// SPDX-License-Identifier: MIT
#include <repquant/train/losses.hpp>

#include "gradients.hpp"

namespace rq = repquant;
namespace d = repquant::differentiable;
using gradients::check;
using gradients::noise;
using nodes = std::vector<rq::node>;

TEST_CASE("tape: losses have the gradients of their formulas", "[train]") {
  const rq::matrix<> target = noise(4, 6, 5);
  const std::vector<rq::index> rows{2, 0};
  check([](rq::tape& t, const nodes& x) { return d::sum(t, x[0]); }, {noise(4, 6, 1)});
  check([&](rq::tape& t, const nodes& x) { return d::mean_squared_error(t, x[0], target); },
        {noise(4, 6, 1)});
  check([&](rq::tape& t, const nodes& x) { return d::kl_divergence(t, x[0], target); }, {noise(4, 6, 1)});
  check([&](rq::tape& t, const nodes& x) { return d::kl_divergence(t, x[0], target, rows); },
        {noise(4, 6, 1)});
}

TEST_CASE("tape: the divergence of known distributions", "[train]") {
  // softmax of logarithms gives the numbers back: KL = 1/2 log(1/2 / (1/4)) + 1/2 log(1/2 / (3/4))
  rq::matrix<> target(2, 2);
  target << std::log(0.5F), std::log(0.5F), 1, 2;
  rq::matrix<> x(2, 2);
  x << std::log(0.25F) + 3, std::log(0.75F) + 3, 7, 8;
  rq::tape t;
  const double want = 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0);
  CHECK(t.value(d::kl_divergence(t, t.constant(x), target))(0, 0) == Approx(want / 2).margin(1e-7));
  const std::vector<rq::index> first{0};
  CHECK(t.value(d::kl_divergence(t, t.constant(x), target, first))(0, 0) == Approx(want));
  const std::vector<rq::index> second{1};
  CHECK(t.value(d::kl_divergence(t, t.constant(x), target, second))(0, 0) == Approx(0).margin(1e-6));
}

TEST_CASE("tape: a cleared tape gives the same numbers again, and constants have no gradient", "[train]") {
  rq::tape t;
  const rq::matrix<> x = noise(4, 6, 1);
  const rq::matrix<> target = noise(4, 6, 2);
  rq::matrix<> first;
  for (int pass = 0; pass < 3; ++pass) {
    t.clear();
    CHECK(t.size() == 0);
    const rq::node variable = t.variable(x);
    const rq::node idle = t.variable(noise(2, 2, 3));
    const rq::node constant = t.constant(x);
    CHECK(!t.wanted(constant));
    t.backward(d::mean_squared_error(t, variable, target));
    if (pass == 0) first = t.gradient(variable);
    CHECK(t.gradient(variable) == first);
    CHECK(t.gradient(idle) == rq::matrix<>::Zero(2, 2));
  }
}
