// SPDX-License-Identifier: MIT
/// What comes after GPTQ, beside gptq itself on the same layer: coordinate descent, scales, ranges, learned
/// rounding, pre-correction. `loss` is the squared output error, as a fraction of gptq's with min-max ranges.
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/adaround.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>
#include <repquant/reconstruct/pre_correct.hpp>
#include <repquant/reconstruct/row_ranges.hpp>

#include "workload.hpp"
#include <cstdlib>
#include <random>

namespace {

namespace rq = repquant;

rq::matrix<> noise(rq::index rows, rq::index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  rq::matrix<> m(rows, cols);
  for (rq::index i = 0; i < rows * cols; ++i) m.data()[i] = uniform(engine);
  return m;
}

/// A layer whose inputs are correlated, 4 bits, ranges by min and max.
struct layer {
  explicit layer(rq::index in, rq::index out)
      : w(noise(out, in, 1)),
        x(noise(2 * in, in, 2) + 2 * noise(2 * in, 8, 3) * noise(8, in, 4)),
        h(rq::gram_of(x).value()),
        q(rq::fit(codec, rq::per_row{}, rq::min_max{}, w).value()),
        solved(rq::gptq{}(q, w, h).value()) {}
  rq::uniform codec{4};
  rq::matrix<> w;
  rq::matrix<> x;
  rq::gram h;
  rq::quantizer<rq::uniform, rq::per_row> q;
  rq::reconstruction<rq::uniform, rq::per_row> solved;
};

template<class F>
void solve(benchmark::State& state, const F& f) {
  const layer l(state.range(0), state.range(1));
  double loss = 0;
  for (auto _ : state) {
    const auto r = f(l);
    if (!r) std::abort();
    loss = r->report.loss;
  }
  state.counters["loss"] = loss / l.solved.report.loss;
}

void layers(benchmark::internal::Benchmark* b) {
  b->Args({64, 256})->Args({256, 256})->Args({768, 768})->Unit(benchmark::kMillisecond)->UseRealTime();
}
void small_layers(benchmark::internal::Benchmark* b) {
  b->Args({64, 256})->Args({256, 256})->Unit(benchmark::kMillisecond)->UseRealTime();
}

void cross_gram(benchmark::State& state) {
  const rq::index in = state.range(0);
  const rq::matrix<> x = noise(1024, in, 1);
  const rq::matrix<> q = noise(1024, in, 2);
  rq::cross_gram_accumulator sum(in, in);
  for (auto _ : state) {
    if (sum.add(x, q, q)) std::abort();
  }
}

void pre_correct(benchmark::State& state) {
  const layer l(state.range(0), state.range(1));
  const rq::matrix<> q = l.x + 0.1F * noise(l.x.rows(), l.x.cols(), 5);
  rq::cross_gram_accumulator sum(l.x.cols(), l.x.cols());
  if (sum.add(l.x, q, q)) std::abort();
  const rq::cross_gram c = sum.total();
  for (auto _ : state) {
    const auto w = rq::pre_correct(l.w, c, l.h, 0.1, 0.5);
    if (!w) std::abort();
    benchmark::DoNotOptimize(w->data());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto bench = [](const char* name, const auto& f) {
    return benchmark::RegisterBenchmark(name, [f](benchmark::State& state) { solve(state, f); });
  };
  bench("reconstruct/gptq", [](const layer& l) { return rq::gptq{}(l.q, l.w, l.h); })->Apply(layers);
  bench("reconstruct/descend", [](const layer& l) {
    return rq::descend(l.solved.weights, l.w, l.h);
  })->Apply(layers);
  bench("reconstruct/descend_two_threads", [](const layer& l) {
    return rq::descend(l.solved.weights, l.w, l.h, {}, rq::threads{2});
  })->Apply(layers);
  bench("reconstruct/descend_with_scales", [](const layer& l) {
    return rq::descend_with_scales(l.solved.weights, l.w, l.h, 4);
  })->Apply(layers);
  bench("reconstruct/reconstruct_with_ranges", [](const layer& l) {
    return rq::reconstruct_with_ranges(l.codec, rq::per_row{}, l.w, l.h, rq::gptq{});
  })->Apply(small_layers);
  bench("reconstruct/adaround_100_steps", [](const layer& l) {
    return rq::adaround<rq::gptq>{{}, {.steps = 100, .rate = 0.1}}(l.q, l.w, l.h);
  })->Apply(small_layers);
  benchmark::RegisterBenchmark("reconstruct/cross_gram", cross_gram)->Apply(layers);
  benchmark::RegisterBenchmark("reconstruct/pre_correct", pre_correct)->Apply(layers);
  return workload::run(argc, argv);
}
