// SPDX-License-Identifier: MIT
#include <repquant/train/activations.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>
#include <repquant/train/rows.hpp>

#include "gradients.hpp"

namespace rq = repquant;
namespace d = repquant::differentiable;
using gradients::check;
using gradients::noise;
using nodes = std::vector<rq::node>;

TEST_CASE("tape: the product with a transposed matrix", "[train]") {
  check([](rq::tape& t, const nodes& x) { return d::multiply_transposed(t, x[0], x[1]); },
        {noise(5, 7, 1), noise(3, 7, 2)});
}

TEST_CASE("tape: sums and products entry by entry, also with one row for all", "[train]") {
  const rq::index rows = GENERATE(4, 1);
  check([](rq::tape& t, const nodes& x) { return d::add(t, x[0], x[1]); },
        {noise(4, 6, 1), noise(rows, 6, 2)});
  check([](rq::tape& t, const nodes& x) { return d::multiply(t, x[0], x[1]); },
        {noise(4, 6, 1), noise(rows, 6, 2)});
  check([](rq::tape& t, const nodes& x) { return d::scale(t, x[0], -1.7F); }, {noise(4, 6, 1)});
}

TEST_CASE("tape: choose takes each entry, and its gradient, from one operand", "[train]") {
  const rq::matrix<> mask = (noise(4, 6, 7).array() > 0.0F).cast<float>();
  check([&mask](rq::tape& t, const nodes& x) { return d::choose(t, mask, x[0], x[1]); },
        {noise(4, 6, 1), noise(4, 6, 2)});
}

TEST_CASE("tape: a value that is used several times collects its gradients", "[train]") {
  check(
      [](rq::tape& t, const nodes& x) {
        const rq::node square = d::multiply(t, x[0], x[0]);
        return d::add(t, d::multiply(t, square, x[0]), square);
      },
      {noise(3, 3, 1)});
}

TEST_CASE("tape: norms", "[train]") {
  const rq::matrix<> gamma = noise(1, 8, 2).array() + 1.0F;
  check([](rq::tape& t, const nodes& x) { return d::layer_norm(t, x[0], x[1], x[2], 1e-5F); },
        {noise(4, 8, 1), gamma, noise(1, 8, 3)});
  check([](rq::tape& t, const nodes& x) { return d::rms_norm(t, x[0], x[1], 1e-5F); },
        {noise(4, 8, 1), gamma});
}

TEST_CASE("tape: activations have their analytic derivatives", "[train]") {
  const auto f = GENERATE(rq::activation::gelu_erf, rq::activation::gelu_tanh, rq::activation::silu);
  check([f](rq::tape& t, const nodes& x) { return d::activate(t, f, x[0]); }, {noise(5, 9, 1, 2)});
  // far out the derivatives are 0 and 1, and nothing overflows on the way
  rq::matrix<> far(1, 4);
  far << -60, 60, -3e30F, 3e30F;
  rq::tape t;
  const rq::node x = t.variable(far);
  t.backward(d::sum(t, d::activate(t, f, x)));
  CHECK(t.gradient(x).isApprox((rq::matrix<>(1, 4) << 0, 1, 0, 1).finished(), 1e-6F));
}

TEST_CASE("tape: relu passes what is above zero", "[train]") {
  rq::matrix<> x = noise(5, 9, 1);
  x = (x.array() + x.array().sign() * 0.5F).matrix();  // no difference crosses the kink
  check([](rq::tape& t, const nodes& n) { return d::activate(t, rq::activation::relu, n[0]); }, {x});
}

TEST_CASE("tape: the pieces of attention, with grouped queries and causal masks", "[train]") {
  const bool causal = GENERATE(false, true);
  const d::attention_heads heads{.heads = 4, .kv_heads = 2, .causal = causal};
  const rq::index tokens = GENERATE(5, 2);
  check([&](rq::tape& t, const nodes& x) { return d::attention_scores(t, x[0], x[1], heads); },
        {noise(tokens, 12, 1), noise(5, 6, 2)});
  check([&](rq::tape& t, const nodes& x) { return d::scale_heads(t, x[0], x[1]); },
        {noise(4 * tokens, 5, 1), noise(1, 4, 2)});
  check([&](rq::tape& t, const nodes& x) { return d::softmax_rows(t, x[0], heads); },
        {noise(4 * tokens, 5, 1)});
  check([&](rq::tape& t, const nodes& x) { return d::mask_hidden(t, x[0], heads); },
        {noise(4 * tokens, 5, 1)});
  check([&](rq::tape& t, const nodes& x) { return d::attention_values(t, x[0], x[1], heads); },
        {noise(4 * tokens, 5, 1), noise(5, 6, 2)});
}

TEST_CASE("tape: a causal token has no probability on later keys", "[train]") {
  rq::tape t;
  const d::attention_heads heads{.heads = 2, .kv_heads = 2, .causal = true};
  const rq::matrix<> p = t.value(d::softmax_rows(t, t.constant(noise(6, 4, 1)), heads));
  for (rq::index i = 0; i < 6; ++i) {
    const rq::index seen = i % 3 + 2;
    CHECK(p.row(i).tail(4 - seen).cwiseAbs().sum() == 0.0F);
    CHECK(p.row(i).sum() == Approx(1.0F).margin(1e-5));
  }
}

TEST_CASE("tape: rows are picked, averaged, put in front and added", "[train]") {
  check([](rq::tape& t, const nodes& x) { return d::select_row(t, x[0], -2); }, {noise(4, 6, 1)});
  check([](rq::tape& t, const nodes& x) { return d::mean_rows(t, x[0]); }, {noise(4, 6, 1)});
  check([](rq::tape& t, const nodes& x) { return d::prepend_row(t, x[0], x[1]); },
        {noise(1, 6, 1), noise(4, 6, 2)});
  check([](rq::tape& t, const nodes& x) { return d::add_rows(t, x[0], x[1]); },
        {noise(4, 6, 1), noise(7, 6, 2)});
  rq::tape t;
  const rq::matrix<> a = noise(4, 6, 1);
  CHECK(t.value(d::select_row(t, t.constant(a), -2)) == a.row(2));
}

TEST_CASE("tape: rotary positions turn pairs of neighbours and keep their length", "[train]") {
  const rq::matrix<> angles = noise(7, 2, 3);
  const rq::matrix<> cosines = angles.array().cos();
  const rq::matrix<> sines = angles.array().sin();
  const auto f = [&](rq::tape& t, const nodes& x) { return d::rotate(t, x[0], cosines, sines); };
  check(f, {noise(5, 8, 1)});
  rq::tape t;
  const rq::matrix<> x = noise(5, 8, 1);
  const rq::matrix<> y = t.value(f(t, {t.constant(x)}));
  CHECK(y.rowwise().norm().isApprox(x.rowwise().norm(), 1e-5F));
  CHECK(y(2, 4) == Approx(x(2, 4) * cosines(2, 0) - x(2, 5) * sines(2, 0)));
}
