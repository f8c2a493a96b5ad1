// SPDX-License-Identifier: MIT
/// The norms, row by row and several rows at a time (.../together), and the reductions over the rows of a
/// matrix: in registers, the scalar definition, and a copy of the same bytes.
#include <repquant/infer/norm.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

/// Calls each(rows, result) for every row, or for all at once.
template<class F>
void rows(benchmark::State& state, F each, bool together) {
  const auto n = static_cast<std::size_t>(state.range(0) * workload::cols);
  const auto c = together ? n : static_cast<std::size_t>(workload::cols);
  const std::vector<float> x = workload::normal(n);
  std::vector<float> y(n);
  for (auto _ : state) {
    for (std::size_t i = 0; i < n; i += c)
      each(std::span<const float>(x.data() + i, c), std::span<float>(y.data() + i, c));
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, n, 8 * n);
}

template<class Arch>
void all(const std::string& arch) {
  static const std::vector<float> gamma(static_cast<std::size_t>(workload::cols), 1.1F);
  const auto add = [&arch](const char* name, auto each, bool together = false) {
    benchmark::RegisterBenchmark((std::string("norm/") + name + arch).c_str(), rows<decltype(each)>, each,
                                 together)
        ->Apply(workload::sizes);
  };
  const auto count = [](const auto& x) { return static_cast<rq::index>(x.size()) / workload::cols; };
  add("layer_norm", [](auto x, auto y) { rq::layer_norm_row<Arch>(x, gamma, gamma, 1e-5F, y); });
  add("rms_norm", [](auto x, auto y) { rq::rms_norm_row<Arch>(x, gamma, 1e-5F, y); });
  add(
      "layer_norm/together",
      [count](auto x, auto y) {
        rq::layer_norm_rows<Arch>(x.data(), count(x), gamma, gamma, 1e-5F, y.data());
      },
      true);
  add(
      "rms_norm/together",
      [count](auto x, auto y) { rq::rms_norm_rows<Arch>(x.data(), count(x), gamma, 1e-5F, y.data()); }, true);
  add("sum", [](auto x, auto y) { y[0] = rq::reduce::sum<Arch>(x); });
  add("largest", [](auto x, auto y) { y[0] = rq::reduce::largest<Arch>(x); });
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("norm/copy", workload::copy, 8.0)->Apply(workload::sizes);
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
