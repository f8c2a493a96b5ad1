// SPDX-License-Identifier: MIT
/// One encoder block of a transformer on a tape, 99 tokens of 64 channels: forward, and forward and backward,
/// all weights as variables; beside it fake quantization alone.
#include <repquant/train/activations.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/fake_quantize.hpp>
#include <repquant/train/losses.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;
namespace d = repquant::differentiable;

constexpr rq::index tokens = 99;
constexpr rq::index width = 64;
constexpr rq::index hidden = 256;

rq::matrix<> noise(rq::index rows, rq::index cols, float size) {
  const std::vector<float> x = workload::normal(static_cast<std::size_t>(rows * cols));
  return Eigen::Map<const rq::matrix<>>(x.data(), rows, cols) * size;
}

struct block_weights {
  std::vector<rq::matrix<>> weights{noise(width, width, 0.1F),  noise(width, width, 0.1F),
                                    noise(width, width, 0.1F),  noise(width, width, 0.1F),
                                    noise(hidden, width, 0.1F), noise(width, hidden, 0.1F)};
  rq::matrix<> gamma = noise(1, width, 1);
  rq::matrix<> step = rq::matrix<>::Constant(1, 1, 0.2F);
  rq::matrix<> zero = rq::matrix<>::Constant(1, 1, 8);
  rq::matrix<> factor = rq::matrix<>::Constant(1, 1, 0.125F);
  rq::matrix<> top = rq::matrix<>::Constant(1, 1, 1);
};

rq::node block(rq::tape& t, const block_weights& b, rq::node x) {
  std::vector<rq::node> w;
  for (const rq::matrix<>& m : b.weights) w.push_back(t.variable(m));
  const rq::node gamma = t.variable(b.gamma);
  const rq::node step = t.variable(b.step);
  const rq::node zero = t.variable(b.zero);
  const auto codes = [&](rq::node v) { return d::fake_quantize(t, v, step, zero, {}); };
  const d::attention_heads heads{.heads = 1, .kv_heads = 1};
  const rq::node n = codes(d::layer_norm(t, x, gamma, gamma, 1e-5F));
  const auto linear = [&](rq::node v, std::size_t i) { return d::linear(t, v, w[i]); };
  const rq::node values =
      d::attention(t, codes(linear(n, 0)), codes(linear(n, 1)), codes(linear(n, 2)), t.constant(b.factor),
                   t.constant(b.top), heads, {.coded = true, .code = {.depth = 7}});
  const rq::node a = d::add(t, x, linear(codes(values), 3));
  const rq::node m = linear(codes(d::layer_norm(t, a, gamma, gamma, 1e-5F)), 4);
  return d::add(t, a, linear(codes(d::activate(t, rq::activation::gelu_erf, m)), 5));
}

void encoder(benchmark::State& state, bool backward) {
  const block_weights b;
  const rq::matrix<> x = noise(tokens, width, 1);
  rq::tape t;
  for (auto _ : state) {
    t.clear();
    const rq::node loss = d::sum(t, block(t, b, t.variable(x)));
    if (backward) t.backward(loss);
    benchmark::DoNotOptimize(t.value(loss).data());
  }
}

void fake(benchmark::State& state) {
  const block_weights b;
  const rq::matrix<> x = noise(tokens, hidden, 1);
  rq::tape t;
  for (auto _ : state) {
    t.clear();
    const rq::node y =
        d::fake_quantize(t, t.variable(x), t.variable(b.step), t.variable(b.zero), {.levels = 16});
    t.backward(d::sum(t, y));
    benchmark::DoNotOptimize(t.gradient(y).data());
  }
  workload::count(state, static_cast<std::size_t>(x.size()), 8 * static_cast<std::size_t>(x.size()));
}

}  // namespace

BENCHMARK_CAPTURE(encoder, forward, false);
BENCHMARK_CAPTURE(encoder, forward_and_backward, true);
BENCHMARK(fake);
