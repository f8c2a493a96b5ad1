// SPDX-License-Identifier: MIT
#include <repquant/train/activations.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/losses.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>
#include <repquant/train/rows.hpp>

#include "gradients.hpp"

namespace rq = repquant;
namespace d = repquant::differentiable;
using gradients::check;
using gradients::noise;
using nodes = std::vector<rq::node>;

TEST_CASE("tape: linear layers, with and without an offset", "[train]") {
  check([](rq::tape& t, const nodes& x) { return d::linear(t, x[0], x[1]); },
        {noise(5, 7, 1), noise(3, 7, 2)});
  check([](rq::tape& t, const nodes& x) { return d::linear(t, x[0], x[1], x[2]); },
        {noise(5, 7, 1), noise(3, 7, 2), noise(1, 3, 3)});
}

TEST_CASE("tape: sums and products entry by entry, also with one row for all", "[train]") {
  const rq::index rows = GENERATE(4, 1);
  check([](rq::tape& t, const nodes& x) { return d::add(t, x[0], x[1]); },
        {noise(4, 6, 1), noise(rows, 6, 2)});
  check([](rq::tape& t, const nodes& x) { return d::multiply(t, x[0], x[1]); },
        {noise(4, 6, 1), noise(rows, 6, 2)});
  check([](rq::tape& t, const nodes& x) { return d::scale(t, x[0], -1.7F); }, {noise(4, 6, 1)});
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

TEST_CASE("tape: attention, with grouped queries and causal masks", "[train]") {
  const bool causal = GENERATE(false, true);
  const d::attention_heads heads{.heads = 4, .kv_heads = 2, .causal = causal};
  const rq::index tokens = GENERATE(5, 2);
  check(
      [&](rq::tape& t, const nodes& x) {
        return d::attention(t, x[0], x[1], x[2], x[3], t.constant(rq::matrix<>::Ones(1, 1)), heads);
      },
      {noise(tokens, 12, 1), noise(5, 6, 2), noise(5, 10, 3), noise(1, 4, 4)});
}

TEST_CASE("tape: attention is that of the definition, in blocks of rows or not", "[train]") {
  const bool causal = GENERATE(false, true);
  const rq::index tokens = GENERATE(3, 70, 130);
  const rq::index keys = tokens + 4;
  const d::attention_heads heads{.heads = 2, .kv_heads = 1, .causal = causal};
  const rq::matrix<> q = noise(tokens, 6, 1);
  const rq::matrix<> k = noise(keys, 3, 2);
  const rq::matrix<> v = noise(keys, 5, 3);
  const rq::matrix<> factors = noise(1, 2, 4);
  rq::tape t;
  const rq::matrix<> y = t.value(d::attention(t, t.constant(q), t.constant(k), t.constant(v),
                                              t.constant(factors), t.constant(factors), heads));
  REQUIRE(y.rows() == tokens);
  REQUIRE(y.cols() == 10);
  for (rq::index h = 0; h < 2; ++h) {
    for (rq::index i = 0; i < tokens; ++i) {
      const rq::index seen = causal ? i + 1 + keys - tokens : keys;
      Eigen::ArrayXd e(seen);
      for (rq::index j = 0; j < seen; ++j) {
        double sum = 0;
        for (rq::index c = 0; c < 3; ++c)
          sum += static_cast<double>(q(i, 3 * h + c)) * static_cast<double>(k(j, c));
        e(j) = std::exp(sum * static_cast<double>(factors(0, h)));
      }
      for (rq::index c = 0; c < 5; ++c) {
        double want = 0;
        for (rq::index j = 0; j < seen; ++j) want += e(j) / e.sum() * static_cast<double>(v(j, c));
        CHECK(static_cast<double>(y(i, 5 * h + c)) == Approx(want).margin(1e-5));
      }
    }
  }
}

TEST_CASE("tape: relative codes of an attention add up to one", "[train]") {
  const rq::index tokens = 40;
  const rq::matrix<> q = noise(tokens, 3, 1) * 3;
  const rq::matrix<> k = noise(tokens, 3, 2) * 3;
  const rq::matrix<> v = noise(tokens, 4, 3);
  const rq::matrix<> one = rq::matrix<>::Ones(1, 1);
  const d::fake_probabilities codes{
      .coded = true,
      .code = {.kind = rq::probability_kind::as_log_sqrt2, .bits = 4, .depth = 7, .relative = true}};
  rq::tape t;
  const rq::node scale = t.variable(one);
  const rq::node y = d::attention(t, t.variable(q), t.constant(k), t.constant(v), t.constant(one), scale,
                                  {.causal = true}, codes);
  int compared = 0;
  for (rq::index i = 0; i < tokens; ++i) {
    const Eigen::RowVectorXd x = q.row(i).cast<double>() * k.topRows(i + 1).cast<double>().transpose();
    const Eigen::ArrayXd far = 2 * (x.maxCoeff() - x.array()).transpose() / std::log(2.0);
    const Eigen::ArrayXd from_tie = (far - far.floor() - 0.5).abs();
    if (from_tie.minCoeff() < 1e-3) continue;  // float and double may round to both sides
    Eigen::ArrayXd weight = (-far.round() / 2).unaryExpr([](double e) { return std::exp2(e); });
    weight = (far.round() > 14).select(0.0, weight);
    for (rq::index c = 0; c < 4; ++c) {
      const double want = (weight * v.col(c).head(i + 1).cast<double>().array()).sum() / weight.sum();
      CHECK(static_cast<double>(t.value(y)(i, c)) == Approx(want).margin(1e-5));
    }
    ++compared;
  }
  CHECK(compared > tokens / 2);
  t.backward(d::sum(t, y));
  CHECK(t.gradient(scale)(0, 0) == 0);  // fixed: what it changes is divided out
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

TEST_CASE("tape: hadamard sends gradients back through its blocks", "[train]") {
  for (const rq::index cols : {1, 2, 5, 8, 12, 16}) {  // one block, and two that overlap
    CAPTURE(cols);
    const rq::matrix<> x = noise(3, cols, 1);
    const rq::matrix<> factors = noise(1, cols, 2);
    const std::span<const float> numbers(factors.data(), static_cast<std::size_t>(cols));
    const auto f = [&](rq::tape& t, const nodes& n) { return d::hadamard(t, n[0], numbers); };
    check(f, {x});
    rq::tape t;
    const rq::matrix<> y = t.value(f(t, {t.constant(x)}));
    rq::matrix<> row(1, cols);
    for (rq::index i = 0; i < 3; ++i) {
      const auto n = static_cast<std::size_t>(cols);
      rq::hadamard_row({x.row(i).data(), n}, numbers, {row.data(), n});
      CHECK(y.row(i) == row);
    }
  }
}

TEST_CASE("tape: mix_heads sends gradients back through the matrix of each head", "[train]") {
  const rq::matrix<> matrices = noise(12, 4, 2);  // three heads
  const auto f = [&](rq::tape& t, const nodes& n) { return d::mix_heads(t, n[0], matrices); };
  const rq::matrix<> x = noise(5, 12, 1);
  check(f, {x});
  rq::tape t;
  const rq::matrix<> y = t.value(f(t, {t.constant(x)}));
  rq::matrix<> row(1, 12);
  for (rq::index i = 0; i < 5; ++i) {
    rq::mix_heads_row({x.row(i).data(), 12}, {matrices.data(), 48}, 4, {row.data(), 12});
    CHECK(y.row(i).isApprox(row, 1e-6F));
  }
}
