// SPDX-License-Identifier: MIT
/// Calibration: observing values per tensor and per column, beside a copy of the same bytes; choosing the
/// ranges of 64 channels; fitting a weight per group.
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/calibrate/fit.hpp>
#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/calibrate/percentile.hpp>
#include <repquant/calibrate/percentile_search.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

/// Observing only reads: a copy that moves as many bytes.
void observe_ceiling(benchmark::State& state, double bytes_per_value) {
  workload::copy(state, bytes_per_value);
}

/// One observer that goes on watching.
template<class O>
void observe(benchmark::State& state, O observer) {
  const auto n = static_cast<std::size_t>(state.range(0) * workload::cols);
  const std::vector<float> x = workload::normal(n);
  for (auto _ : state) {
    observer.observe(x);
    benchmark::DoNotOptimize(observer);
  }
  workload::count(state, n, n * sizeof(float));
}

/// A calibrator from nothing: one batch of `rows` tokens, each channel its own observer.
template<class O>
void observe_columns(benchmark::State& state, O observer) {
  const rq::shape size{state.range(0), workload::cols};
  const auto n = static_cast<std::size_t>(size.rows * size.cols);
  const std::vector<float> x = workload::normal(n);
  for (auto _ : state) {
    rq::calibrator<O, rq::per_col> c(observer, rq::per_col{}, size.cols, "bench");
    if (c.observe({x.data(), size.rows, size.cols})) state.SkipWithError("refused");
    benchmark::DoNotOptimize(c);
  }
  workload::count(state, n, n * sizeof(float));
}

/// The ranges of 64 channels that have seen 8,192 values each.
template<class O, class C>
void choose(benchmark::State& state, O observer, C codec) {
  const auto n = static_cast<std::size_t>(64 * 8192);
  constexpr bool affine = std::same_as<C, rq::uniform>;
  const std::vector<float> x = affine ? workload::normal(n) : workload::probabilities(n);
  rq::calibrator<O, rq::per_col> c(observer, rq::per_col{}, 64, "bench");
  if (c.observe({x.data(), 8192, 64})) state.SkipWithError("refused");
  for (auto _ : state) {
    const auto q = c.make(codec);
    if (!q) state.SkipWithError("refused");
    benchmark::DoNotOptimize(q);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * 64);
}

/// 768 x 768 weights.
template<class O, class G>
void fit(benchmark::State& state, O observer, G granularity) {
  const auto n = static_cast<std::size_t>(workload::cols * workload::cols);
  const std::vector<float> w = workload::normal(n);
  for (auto _ : state) {
    const auto q = rq::fit(rq::uniform{.bits = 4}, granularity, observer,
                           rq::matrix_view(w.data(), workload::cols, workload::cols));
    if (!q) state.SkipWithError("refused");
    benchmark::DoNotOptimize(q);
  }
  workload::count(state, n, n * sizeof(float));
}

const rq::uniform four{.bits = 4};

BENCHMARK_CAPTURE(observe_ceiling, copy, 4.0)->Apply(workload::sizes);
BENCHMARK_CAPTURE(observe, min_max, rq::min_max{})->Apply(workload::sizes);
BENCHMARK_CAPTURE(observe, histogram, rq::least_error{})->Apply(workload::sizes);
BENCHMARK_CAPTURE(observe_columns, min_max, rq::min_max{})->Apply(workload::sizes);
BENCHMARK_CAPTURE(observe_columns, histogram, rq::least_error{})->Apply(workload::sizes);
BENCHMARK_CAPTURE(choose, percentile, rq::percentile{}, four)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(choose, percentile_search_4, rq::percentile_search{}, four)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(choose, least_error_4, rq::least_error{}, four)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(choose, least_error_8, rq::least_error{}, rq::uniform{.bits = 8})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(choose, least_error_log_sqrt2, rq::least_error{}, rq::log_sqrt2{.bits = 4})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, rows_least_error, rq::least_error{}, rq::per_row{})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, groups_of_32_least_error, rq::least_error{}, rq::per_group{.size = 32})
    ->Unit(benchmark::kMillisecond);

}  // namespace
