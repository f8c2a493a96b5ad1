// SPDX-License-Identifier: MIT
#include <repquant/block/layer_evidence.hpp>
#include <repquant/parallel/inline_executor.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include <cstring>
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

using numbers = rq::matrix<double>;

numbers random(rq::index rows, rq::index cols, double deviation, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal(0, deviation);
  numbers m(rows, cols);
  for (rq::index i = 0; i < m.size(); ++i) m.data()[i] = normal(engine);
  return m;
}

/// A layer's inputs before and after a noise, sample by sample, and what the noise does to its outputs.
struct noisy_layer {
  numbers weight;
  std::vector<numbers> clean;
  std::vector<numbers> inputs;
  std::vector<numbers> errors;

  noisy_layer(rq::index count, double noise, unsigned seed) : weight(random(6, 8, 1, 1)) {
    const numbers mix = random(3, 8, 1, 2);  // the same for all seeds
    for (rq::index i = 0; i < count; ++i) {
      const unsigned own = seed + 10 * static_cast<unsigned>(i);
      const rq::index tokens = 5 + i % 3;
      numbers x = random(tokens, 3, 1, own) * mix + random(tokens, 8, 0.2, own + 1);
      x.array() += 0.7;
      clean.push_back(x);
      inputs.push_back(x + random(tokens, 8, noise, own + 2));
      errors.push_back((clean.back() - inputs.back()) * weight.transpose());
      errors.back().array() += 0.3;  // a mean that the bias takes
    }
  }
  template<class E>
  [[nodiscard]] rq::layer_evidence evidence(const E& exec) const {
    return rq::collect_evidence(
        static_cast<rq::index>(inputs.size()), weight.rows(), weight.cols(), exec,
        [&](rq::index i, numbers& x, numbers& e) {
          x = inputs[static_cast<std::size_t>(i)];
          e = errors[static_cast<std::size_t>(i)];
        },
        [](rq::index, rq::index token, rq::index) { return token == 0 ? 4.0 : 1.0; });
  }
  /// Squared error of the outputs about their mean, with weights changed by `change`.
  [[nodiscard]] double loss(const numbers& change) const {
    rq::column<double> sum = rq::column<double>::Zero(weight.rows());
    double squares = 0;
    double tokens = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const numbers e = errors[i] - inputs[i] * change.transpose();
      sum += e.colwise().sum().transpose();
      squares += e.squaredNorm();
      tokens += static_cast<double>(e.rows());
    }
    return squares - sum.squaredNorm() / tokens;
  }
};

bool same_bits(const numbers& a, const numbers& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(double)) == 0;
}
bool same_bits(const rq::layer_evidence& a, const rq::layer_evidence& b) {
  bool same = true;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& [x, y] = std::pair(a.halves[i], b.halves[i]);
    same = same && same_bits(x.inputs, y.inputs) && same_bits(x.errors, y.errors) &&
           same_bits(x.input_sum, y.input_sum) && same_bits(x.error_sum, y.error_sum) &&
           x.weight == y.weight && x.tokens == y.tokens;
  }
  return same;
}

}  // namespace

TEST_CASE("layer evidence: centred sums are those of the definition", "[block]") {
  const noisy_layer n(21, 0.3, 100);  // more than one wave, an odd number
  const rq::layer_evidence e = n.evidence(rq::inline_executor{});

  // the weighted means of everything, token by token
  rq::column<double> m = rq::column<double>::Zero(8);
  rq::column<double> c = rq::column<double>::Zero(6);
  double total = 0;
  for (std::size_t i = 0; i < n.inputs.size(); ++i) {
    for (rq::index t = 0; t < n.inputs[i].rows(); ++t) {
      const double w = t == 0 ? 4 : 1;
      m += w * n.inputs[i].row(t).transpose();
      c += w * n.errors[i].row(t).transpose();
      total += w;
    }
  }
  m /= total;
  c /= total;
  CHECK(e.weight() == total);
  CHECK((e.input_mean() - m).norm() < 1e-12);
  CHECK((e.error_mean() - c).norm() < 1e-12);
  CHECK_FALSE(e.empty());
  CHECK(rq::layer_evidence(6, 8).empty());
  for (std::size_t half = 0; half < 2; ++half) {
    numbers inputs = numbers::Zero(8, 8);
    numbers errors = numbers::Zero(6, 8);
    std::int64_t tokens = 0;
    for (std::size_t i = half; i < n.inputs.size(); i += 2) {
      tokens += n.inputs[i].rows();
      for (rq::index t = 0; t < n.inputs[i].rows(); ++t) {
        const double w = t == 0 ? 4 : 1;
        const rq::column<double> x = n.inputs[i].row(t).transpose() - m;
        const rq::column<double> y = n.errors[i].row(t).transpose() - c;
        inputs += w * x * x.transpose();
        errors += w * y * x.transpose();
      }
    }
    CAPTURE(half);
    const rq::gram g = rq::centred_inputs(e.halves[half], m);
    CHECK(g.tokens == tokens);
    CHECK((g.sum - inputs).norm() < 1e-10 * inputs.norm());
    CHECK(g.sum == g.sum.transpose());
    CHECK((rq::centred_errors(e.halves[half], m, c) - errors).norm() < 1e-10 * errors.norm());
  }

  rq::layer_evidence twice = e;
  twice.add(e);
  CHECK(twice.weight() == 2 * total);
  CHECK((twice.halves[1].errors - 2 * e.halves[1].errors).norm() < 1e-12);
  CHECK((twice.input_mean() - m).norm() < 1e-12);
}

TEST_CASE("layer evidence has the same bits for any number of threads", "[block]") {
  const noisy_layer n(37, 0.3, 100);
  const rq::layer_evidence one = n.evidence(rq::inline_executor{});
  CHECK(same_bits(one, n.evidence(rq::threads{.count = 3})));
  CHECK(same_bits(one, n.evidence(rq::threads{.count = 8})));
  noisy_layer other = n;
  other.errors[17](0, 0) += 1e-9;  // the comparison sees this much
  CHECK_FALSE(same_bits(one, other.evidence(rq::inline_executor{})));
}

TEST_CASE("weights corrected for noisy inputs err less, on samples held back, too", "[block]") {
  const numbers nothing = numbers::Zero(6, 8);
  for (double noise : {0.1, 0.3, 0.8}) {
    for (unsigned seed : {1000U, 20000U, 300000U}) {
      const noisy_layer fit(64, noise, seed);
      const noisy_layer held(64, noise, seed + 5000);
      const rq::target_correction c = rq::correct_target(fit.evidence(rq::inline_executor{}), 0.01, 1);
      CAPTURE(noise, seed, c.alpha);
      CHECK(c.alpha > 0.3);
      CHECK(c.alpha <= 1);
      CHECK(fit.loss(c.change) < fit.loss(nothing));
      CHECK(held.loss(c.change) < 0.97 * held.loss(nothing));
      // a bound below one is kept
      const rq::target_correction half = rq::correct_target(fit.evidence(rq::inline_executor{}), 0.01, 0.25);
      CHECK(half.alpha == 0.25);
      CHECK((half.change * c.alpha / 0.25 - c.change).norm() < 1e-9 * c.change.norm());
    }
  }
}

TEST_CASE("the corrected weights solve the normal equations", "[block]") {
  noisy_layer n(64, 0.3, 7);
  const numbers wanted = random(6, 8, 0.5, 8);
  for (std::size_t i = 0; i < n.inputs.size(); ++i) n.errors[i] = n.inputs[i] * wanted.transpose();
  const rq::target_correction c = rq::correct_target(n.evidence(rq::inline_executor{}), 0, 1);
  CHECK(c.alpha == Approx(1).epsilon(1e-9));
  CHECK((c.change - wanted).norm() < 1e-8 * wanted.norm());
}

TEST_CASE("a correction that the other half does not bear out is small", "[block]") {
  noisy_layer n(20, 0.3, 400);
  double largest = 0;
  for (unsigned seed = 0; seed < 10; ++seed) {
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      n.errors[i] = random(n.inputs[i].rows(), 6, 1, 900 + 100 * seed + static_cast<unsigned>(i));
    }
    const rq::target_correction c = rq::correct_target(n.evidence(rq::inline_executor{}), 0.01, 1);
    CHECK(c.alpha >= 0);
    CHECK(c.alpha <= 1);
    if (c.alpha == 0) CHECK(c.change == numbers::Zero(6, 8));
    largest = std::fmax(largest, c.alpha);
  }
  CHECK(largest < 0.3);
  // errors of opposite sign in the halves: what one asks for harms the other
  const numbers wanted = random(6, 8, 0.5, 8);
  for (std::size_t i = 0; i < n.inputs.size(); ++i) {
    n.errors[i] = (i % 2 == 0 ? 1.0 : -1.0) * n.inputs[i] * wanted.transpose();
  }
  const rq::target_correction c = rq::correct_target(n.evidence(rq::inline_executor{}), 0.01, 1);
  CHECK(c.alpha == 0);
  CHECK(c.change == numbers::Zero(6, 8));
}

TEST_CASE("no correction where none is asked for, seen or possible", "[block]") {
  const noisy_layer n(8, 0.3, 100);
  const rq::layer_evidence e = n.evidence(rq::inline_executor{});
  CHECK(rq::correct_target(e, 0.01, 0).change == numbers::Zero(6, 8));
  CHECK(rq::correct_target(rq::layer_evidence(6, 8), 0.01, 1).change == numbers::Zero(6, 8));
  // one sample: the other half is empty, inputs that never move
  noisy_layer one(1, 0.3, 100);
  CHECK(rq::correct_target(one.evidence(rq::inline_executor{}), 0.01, 1).alpha == 0);
  one.inputs[0].setConstant(2);
  const rq::target_correction c = rq::correct_target(one.evidence(rq::inline_executor{}), 0.01, 1);
  CHECK(c.alpha == 0);
  CHECK(c.change.allFinite());
}
