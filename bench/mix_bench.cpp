// SPDX-License-Identifier: MIT
/// What mixes the columns of a row while the model runs, row by row: hadamard_row, and mix_heads_row with
/// heads of 8 and 64 columns. In registers, the scalar definition, and a copy of the same bytes, at 197 rows.
#include <repquant/kernel/hadamard.hpp>
#include <repquant/kernel/mix_heads.hpp>

#include "workload.hpp"
#include <span>
#include <string>

namespace {

namespace rq = repquant;

constexpr std::size_t rows = 197;

/// Calls each(row, result) for every row of state.range(0) columns.
template<class F>
void run(benchmark::State& state, F each) {
  const auto cols = static_cast<std::size_t>(state.range(0));
  const std::vector<float> x = workload::normal(rows * cols);
  std::vector<float> y(rows * cols);
  for (auto _ : state) {
    for (std::size_t i = 0; i < x.size(); i += cols)
      each(std::span<const float>(x.data() + i, cols), std::span<float>(y.data() + i, cols));
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, x.size(), 8 * x.size());
}

template<class F>
void add(const std::string& name, std::initializer_list<std::int64_t> cols, F each) {
  auto* b = benchmark::RegisterBenchmark(("mix/" + name).c_str(), run<F>, each);
  b->ArgName("cols")->Unit(benchmark::kMicrosecond);
  for (const std::int64_t c : cols) b->Arg(c);
}

template<class Arch>
void all(const std::string& arch) {
  static const std::vector<float> numbers = workload::normal(3072 * 64);  // factors, or matrices
  const std::span<const float> n(numbers);
  add("hadamard" + arch, {64, 172, 256, 512, 3072},
      [n](auto x, auto y) { rq::hadamard_row<Arch>(x, n.first(x.size()), y); });
  add("heads_of_8" + arch, {64, 256, 512, 3072},
      [n](auto x, auto y) { rq::mix_heads_row<Arch>(x, n.first(8 * x.size()), 8, y); });
  add("heads_of_64" + arch, {64, 256, 512, 3072},
      [n](auto x, auto y) { rq::mix_heads_row<Arch>(x, n.first(64 * x.size()), 64, y); });
  add("one_head" + arch, {172},
      [n](auto x, auto y) { rq::mix_heads_row<Arch>(x, n.first(x.size() * x.size()), x.size(), y); });
}

}  // namespace

int main(int argc, char** argv) {
  add("copy", {64, 172, 256, 512, 3072},
      [](auto x, auto y) { std::memcpy(y.data(), x.data(), x.size_bytes()); });
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
