// SPDX-License-Identifier: MIT
/// What mixes the columns of a row while the model runs, row by row: hadamard_row, and mix_heads_row with
/// heads of 8, 43 and 64 columns. In registers, the scalar definition, and a copy of the same bytes, at 197
/// rows.
#include <repquant/kernel/hadamard.hpp>
#include <repquant/kernel/mix_heads.hpp>

#include "workload.hpp"
#include <span>
#include <string>

namespace {

namespace rq = repquant;

constexpr std::size_t rows = 197;

/// Calls each(row, result, head) for every row of state.range(0) columns, in heads of state.range(1): numbers
/// that the compiler does not see, as in a model.
template<class F>
void run(benchmark::State& state, F each) {
  const auto cols = static_cast<std::size_t>(state.range(0));
  const auto head = static_cast<std::size_t>(state.range(1));
  const std::vector<float> x = workload::normal(rows * cols);
  std::vector<float> y(rows * cols);
  for (auto _ : state) {
    for (std::size_t i = 0; i < x.size(); i += cols)
      each(std::span<const float>(x.data() + i, cols), std::span<float>(y.data() + i, cols), head);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, x.size(), 8 * x.size());
}

/// At all widths; heads that do not divide one are left out.
template<class F>
void add(const std::string& name, F each, std::initializer_list<std::int64_t> heads = {1}) {
  auto* b = benchmark::RegisterBenchmark(("mix/" + name).c_str(), run<F>, each);
  b->ArgNames({"cols", "head"})->Unit(benchmark::kMicrosecond);
  for (const std::int64_t head : heads) {
    for (const std::int64_t cols : {64, 172, 256, 512, 3072}) {
      if (cols % head == 0) b->Args({cols, head});
    }
  }
}

template<class Arch>
void all(const std::string& arch) {
  static const std::vector<float> numbers = workload::normal(3072 * 64);  // factors, or matrices
  const std::span<const float> n(numbers);
  add("hadamard" + arch,
      [n](auto x, auto y, std::size_t) { rq::hadamard_row<Arch>(x, n.first(x.size()), y); });
  add("heads" + arch,
      [n](auto x, auto y, std::size_t d) { rq::mix_heads_row<Arch>(x, n.first(d * x.size()), d, y); },
      {8, 43, 64});
}

}  // namespace

int main(int argc, char** argv) {
  add("copy", [](auto x, auto y, std::size_t) { std::memcpy(y.data(), x.data(), x.size_bytes()); });
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
