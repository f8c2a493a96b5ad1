// SPDX-License-Identifier: MIT
/// exp, erf, tanh and the activations: in registers, the scalar definition, and a copy of the same bytes.
#include <repquant/kernel/elementary.hpp>
#include <repquant/kernel/map.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

template<class Arch, class F>
void map(benchmark::State& state, F formula) {
  const auto n = static_cast<std::size_t>(state.range(0) * workload::cols);
  const std::vector<float> x = workload::normal(n);
  std::vector<float> y(n);
  for (auto _ : state) {
    rq::map_row<Arch>(std::span<float>(y), formula, x.data());
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, n, 8 * n);
}

template<class F>
void both(const char* name, F formula) {
  using benchmark::RegisterBenchmark;
  const std::string kernel = std::string("elementary/") + name;
  RegisterBenchmark((kernel + "/scalar").c_str(), map<rq::scalar_arch, F>, formula)->Apply(workload::sizes);
  RegisterBenchmark((kernel + "/lanes").c_str(), map<rq::default_arch, F>, formula)->Apply(workload::sizes);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("elementary/copy", workload::copy, 8.0)->Apply(workload::sizes);
  both("exp", [](const auto& v) { return rq::elementary::exp(v); });
  both("erf", [](const auto& v) { return rq::elementary::erf(v); });
  both("tanh", [](const auto& v) { return rq::elementary::tanh(v); });
  both("relu", [](const auto& v) { return rq::elementary::relu(v); });
  both("gelu_erf", [](const auto& v) { return rq::elementary::gelu_erf(v); });
  both("gelu_tanh", [](const auto& v) { return rq::elementary::gelu_tanh(v); });
  both("silu", [](const auto& v) { return rq::elementary::silu(v); });
  return workload::run(argc, argv);
}
