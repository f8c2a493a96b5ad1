// SPDX-License-Identifier: MIT
#include <repquant/block/spread_inputs.hpp>
#include <repquant/calibrate/least_error.hpp>

#include "catch.hpp"
#include "networks.hpp"

namespace rq = repquant;

namespace {

using networks::block;
using networks::samples;

constexpr rq::uniform four{.bits = 4};

rq::program spread(const rq::program& p, const samples& x, double most, int threads = 1) {
  return rq::spread_inputs(p, x, four, rq::least_error{}, most, networks::executor{threads}).value();
}
rq::index count(const rq::program& p) {
  return std::count_if(p.steps.begin(), p.steps.end(),
                       [](const rq::step& s) { return s.kind == rq::step_kind::hadamard; });
}
/// Root of the mean square of the difference over that of the first.
double difference(const samples& a, const samples& b) {
  double error = 0;
  double power = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]).cast<double>().squaredNorm();
    power += a[i].cast<double>().squaredNorm();
  }
  return std::sqrt(error / power);
}
samples outputs(const rq::program& p, const samples& x) {
  samples all;
  for (const rq::matrix<>& m : x) all.push_back(rq::evaluate(p, m).value());
  return all;
}
/// A gated MLP: products of two values have long tails.
rq::program gated(rq::index hidden = 128) {
  return rq::record(block{[hidden](rq::trace& t, rq::value x) {
                      const rq::value a = t.linear("gate", networks::random_linear(hidden, 16, 1), x);
                      const rq::value b = t.linear("up", networks::random_linear(hidden, 16, 2), x);
                      const rq::value c = t.multiply(t.multiply(a, b), t.activate(rq::activation::relu, a));
                      return t.add(x, t.linear("down", networks::random_linear(16, hidden, 3), c));
                    }},
                    16)
      .value();
}
/// Samples whose channels have nothing to do with each other.
samples independent(std::size_t count, unsigned seed) {
  samples all;
  for (std::size_t i = 0; i < count; ++i)
    all.push_back(networks::random_matrix(16, 16, 1, seed + static_cast<unsigned>(i)));
  return all;
}

}  // namespace

TEST_CASE("long-tailed inputs of linear layers are spread, others are not", "[block]") {
  const samples x = independent(32, 3);
  const samples others = independent(6, 900);
  for (rq::index hidden : {64, 128, 256}) {
    const rq::program p = gated(hidden);
    const rq::program s = spread(p, x, 0.95);
    CAPTURE(hidden);
    REQUIRE(count(s) == 1);
    CHECK(difference(outputs(p, others), outputs(s, others)) < 1e-5);
    for (const rq::step& step : s.steps) {
      if (step.path != "down") continue;
      const auto maker =
          std::find_if(s.steps.begin(), s.steps.end(), [&](const rq::step& m) { return m.out == step.a; });
      CHECK(maker->kind == rq::step_kind::hadamard);
    }
  }
  for (rq::index hidden : {3, 43, 172}) {  // two blocks that overlap
    const rq::program p = gated(hidden);
    const rq::program s = spread(p, x, 1e9);
    CHECK(count(s) == 1);
    CHECK(difference(outputs(p, others), outputs(s, others)) < 1e-5);
  }
  CHECK(count(spread(gated(), x, 0)) == 0);
  const rq::program normal = rq::record(block{[](rq::trace& t, rq::value v) {
                                          const rq::value a =
                                              t.linear("a", networks::random_linear(64, 16, 1), v);
                                          return t.linear("b", networks::random_linear(16, 64, 2), a);
                                        }},
                                        16)
                                 .value();
  CHECK(count(spread(normal, x, 0.8)) == 0);
  // a limit that everything meets: every input of a layer but the model's own, and those of q, k and v once
  const rq::program encoder = networks::encoder_program();
  const rq::program all = spread(encoder, networks::random_samples(12, 9, encoder.input_cols(), 3), 1e9);
  CHECK(count(all) > 3);
  const samples more = networks::random_samples(5, 9, encoder.input_cols(), 33);
  CHECK(difference(outputs(encoder, more), outputs(all, more)) < 1e-5);
}

TEST_CASE("what else reads a spread value reads it as it was", "[block]") {
  const samples x = networks::random_samples(12, 9, 16, 3);
  const rq::program p = rq::record(block{[](rq::trace& t, rq::value v) {
                                     const rq::value a = t.linear("a", networks::random_linear(16, 16, 1), v);
                                     return t.add(a, t.linear("b", networks::random_linear(16, 16, 2), a));
                                   }},
                                   16)
                            .value();
  const rq::program s = spread(p, x, 1e9);
  CHECK(count(s) == 1);
  CHECK(difference(outputs(p, x), outputs(s, x)) < 1e-5);
}

TEST_CASE("calls of a shared layer are spread alike, or not at all", "[block]") {
  const samples x = networks::random_samples(12, 9, 16, 3);
  const rq::linear up = networks::random_linear(24, 16, 1);
  const rq::linear down = networks::random_linear(16, 24, 3);
  const rq::program p = rq::record(block{[&](rq::trace& t, rq::value v) {
                                     for (int call = 0; call < 3; ++call) {
                                       const auto number = std::to_string(call);
                                       const rq::value a = t.linear("up" + number, up, v);
                                       const rq::value c = t.activate(rq::activation::relu, a);
                                       v = t.add(v, t.linear("down" + number, down, c));
                                     }
                                     return v;
                                   }},
                                   16)
                            .value();
  // the first call of `up` reads the model's input, which stays as it is: so do the others
  const rq::program s = spread(p, x, 1e9);
  CHECK(count(s) == 3);
  for (const std::string name : {"up", "down"}) {
    std::vector<const rq::matrix<>*> weights;
    for (const rq::step& step : s.steps) {
      if (step.path.rfind(name, 0) == 0)
        weights.push_back(&s.linears[static_cast<std::size_t>(step.layer)].weight);
    }
    REQUIRE(weights.size() == 3);
    for (const rq::matrix<>* w : weights) CHECK(*w == *weights.front());
    CHECK((*weights.front() == (name == "up" ? up : down).weight) == (name == "up"));
  }
  CHECK(difference(outputs(p, x), outputs(s, x)) < 1e-5);
}

TEST_CASE("spreading inputs does not depend on the number of threads", "[block]") {
  const samples x = networks::random_samples(12, 9, 16, 3);
  const rq::program one = spread(gated(), x, 0.8, 1);
  const rq::program three = spread(gated(), x, 0.8, 3);
  REQUIRE(one.linears.size() == three.linears.size());
  for (std::size_t i = 0; i < one.linears.size(); ++i)
    CHECK(one.linears[i].weight == three.linears[i].weight);
  REQUIRE(one.constants.size() == three.constants.size());
  for (std::size_t i = 0; i < one.constants.size(); ++i) CHECK(one.constants[i] == three.constants[i]);
}

TEST_CASE("a model with spread inputs and mixed heads is nearer to the float one", "[block][quantize]") {
  const samples x = independent(64, 3);
  const samples others = independent(32, 900);
  const auto error = [&](const rq::program& p, const rq::repquant_recipe& r) {
    const auto m = networks::quantize(p, x, rq::with_bits(r, 4, 4));
    REQUIRE(m);
    samples got;
    for (const rq::matrix<>& o : others) {
      got.push_back(m->run(o).value());
      REQUIRE(got.back() == m->simulate(o).value());
      REQUIRE(got.back() == m->run<rq::scalar_arch>(o).value());
    }
    return difference(outputs(p, others), got);
  };
  rq::repquant_recipe plain;
  plain.spread_below = 0;
  const double spread_error = error(gated(64), {});
  const double plain_error = error(gated(64), plain);
  CAPTURE(spread_error, plain_error);
  CHECK(spread_error < 0.95 * plain_error);
}
