// SPDX-License-Identifier: MIT
/// Reconstruction, each part beside the matrix product it is made of: Gram matrices from floats and from
/// codes, the factor, gptq and rounding.
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/code_gram_accumulator.hpp>
#include <repquant/reconstruct/gptq.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>

#include "workload.hpp"
#include <cstdlib>
#include <random>

namespace {

namespace rq = repquant;

rq::matrix<> noise(rq::index rows, rq::index cols) {
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  rq::matrix<> m(rows, cols);
  for (rq::index i = 0; i < rows * cols; ++i) m.data()[i] = uniform(engine);
  return m;
}

/// One row per output channel, 4 bits, ranges by min and max.
rq::quantizer<rq::uniform, rq::per_row> fitted(const rq::matrix<>& w) {
  const rq::uniform codec{4};
  std::vector<rq::affine> params;
  for (rq::index i = 0; i < w.rows(); ++i) {
    params.push_back(codec.fit({w.row(i).minCoeff(), w.row(i).maxCoeff()}));
  }
  auto q = rq::quantizer<rq::uniform, rq::per_row>::make(codec, {}, {w.rows(), w.cols()}, params);
  if (!q) std::abort();
  return *std::move(q);
}

constexpr rq::index tokens = 1024;

/// Multiply-adds counted as two operations.
void rate(benchmark::State& state, double multiply_adds) {
  state.counters["GFLOPS"] =
      benchmark::Counter(2 * multiply_adds * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void product(benchmark::State& state) {
  const rq::index n = state.range(0);
  const rq::matrix<double> a = noise(n, n).cast<double>();
  rq::matrix<double> c(n, n);
  for (auto _ : state) {
    c.noalias() = a * a;
    benchmark::DoNotOptimize(c.data());
  }
  rate(state, static_cast<double>(n * n * n));
}

void gram_of_floats(benchmark::State& state) {
  const rq::index in = state.range(0);
  const rq::matrix<> x = noise(tokens, in);
  rq::gram_accumulator sum(in);
  for (auto _ : state) {
    if (sum.add(x)) std::abort();
  }
  rate(state, static_cast<double>(tokens * in * in) / 2);
}

void gram_of_codes(benchmark::State& state) {
  const rq::index in = state.range(0);
  const rq::matrix<std::uint8_t> codes =
      (noise(tokens, in).array() * 127 + 128).matrix().cast<std::uint8_t>();
  rq::code_gram_accumulator sum(in);
  for (auto _ : state) {
    if (sum.add(codes)) std::abort();
  }
  rate(state, static_cast<double>(tokens * in * in) / 2);
}

void factor(benchmark::State& state) {
  const rq::index in = state.range(0);
  const rq::gram h = rq::gram_of(noise(2 * in, in)).value();
  for (auto _ : state) {
    const rq::gram_factor f = rq::factor(h, 0.01, rq::column_order::activation);
    benchmark::DoNotOptimize(f.lower.data());
  }
  rate(state, static_cast<double>(in * in * in) / 6);
}

template<class E>
void gptq(benchmark::State& state, E exec) {
  const rq::index out = state.range(1);
  const rq::index in = state.range(0);
  const rq::matrix<> w = noise(out, in);
  const auto q = fitted(w);
  const rq::gram h = rq::gram_of(noise(2 * in, in)).value();
  const rq::gram_factor f = rq::factor(h, 0.01, rq::column_order::activation);
  for (auto _ : state) {
    const auto r = rq::gptq{}(q, w, h, f, exec);
    if (!r) std::abort();
    benchmark::DoNotOptimize(r->weights.codes().data());
  }
  rate(state, static_cast<double>(out * in * in) / 2);
}

void nearest(benchmark::State& state) {
  const rq::index out = state.range(1);
  const rq::index in = state.range(0);
  const rq::matrix<> w = noise(out, in);
  const auto q = fitted(w);
  const rq::gram h = rq::gram_of(noise(2 * in, in)).value();
  for (auto _ : state) {
    const auto r = rq::round_to_nearest{}(q, w, h);
    if (!r) std::abort();
    benchmark::DoNotOptimize(r->weights.codes().data());
  }
}

void widths(benchmark::internal::Benchmark* b) {
  b->Arg(64)->Arg(256)->Arg(768)->Unit(benchmark::kMillisecond)->UseRealTime();
}
void layers(benchmark::internal::Benchmark* b) {
  b->Args({64, 256})->Args({256, 256})->Args({768, 768})->Args({768, 3072});
  b->Unit(benchmark::kMillisecond)->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  using benchmark::RegisterBenchmark;
  RegisterBenchmark("gptq/product", product)->Apply(widths);
  RegisterBenchmark("gptq/gram_of_floats", gram_of_floats)->Apply(widths);
  RegisterBenchmark("gptq/gram_of_codes", gram_of_codes)->Apply(widths);
  RegisterBenchmark("gptq/factor", factor)->Apply(widths);
  RegisterBenchmark("gptq/gptq", gptq<rq::inline_executor>, rq::inline_executor{})->Apply(layers);
  RegisterBenchmark("gptq/gptq_two_threads", gptq<rq::threads>, rq::threads{2})->Apply(layers);
  RegisterBenchmark("gptq/round_to_nearest", nearest)->Apply(layers);
  return workload::run(argc, argv);
}
