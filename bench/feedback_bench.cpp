// SPDX-License-Identifier: MIT
/// encode_with_feedback in blocks of 8 to 256 channels: in registers, the scalar definition, codes without
/// feedback, and a copy of the same bytes, at 197 rows; and of one row, as a model that generates has it.
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/encode_with_feedback.hpp>

#include "workload.hpp"
#include <algorithm>
#include <cstring>
#include <span>
#include <string>

namespace {

namespace rq = repquant;

/// Calls each(x, rows, columns, block, params, order, codes) with numbers that the compiler does not see, as
/// in a model.
template<class F>
void run(benchmark::State& state, F each) {
  const auto rows = static_cast<rq::index>(state.range(0));
  const auto cols = static_cast<rq::index>(state.range(1));
  const auto n = static_cast<std::size_t>(rows * cols);
  const std::vector<float> x = workload::normal(n);
  const std::vector<rq::affine> params(static_cast<std::size_t>(cols), rq::uniform{.bits = 4}.fit({-3, 3}));
  std::vector<std::uint8_t> order(static_cast<std::size_t>(cols));
  for (std::size_t i = 0; i < order.size(); ++i)
    order[i] = static_cast<std::uint8_t>(static_cast<std::int64_t>(i) % state.range(2));
  std::vector<std::uint8_t> codes(n);
  for (auto _ : state) {
    each(x, rows, cols, static_cast<rq::index>(state.range(2)), params, order, codes);
    benchmark::DoNotOptimize(codes.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, n, 5 * n);
}

template<class F>
void add(const std::string& name, F each, std::initializer_list<std::int64_t> blocks = {1}) {
  auto* b = benchmark::RegisterBenchmark(("feedback/" + name).c_str(), run<F>, each);
  b->ArgNames({"rows", "cols", "block"})->Unit(benchmark::kMicrosecond);
  for (const std::int64_t rows : {197, 1}) {
    for (const std::int64_t block : blocks) {
      for (const std::int64_t cols : {64, 256, 768, 3072}) {
        if (cols >= block) b->Args({rows, cols, block});
      }
    }
  }
}

template<class Arch>
void all(const std::string& arch) {
  add("plain" + arch, [](const auto& x, rq::index rows, rq::index cols, rq::index, const auto& params,
                         const auto&, auto& codes) {
    rq::encode_columns<Arch>(rq::uniform{.bits = 4}, std::span<const rq::affine>(params), x.data(), rows,
                             cols, cols, codes.data(), cols);
  });
  static const std::vector<float> unit(3072, 1e-3F);
  static const std::vector<std::int8_t> reach = [] {
    std::vector<std::int8_t> r;
    for (const float v : workload::normal(3072 * 128))
      r.push_back(static_cast<std::int8_t>(std::clamp(30 * v, -127.0F, 127.0F)));
    return r;
  }();
  add("fed_back" + arch,
      [](const auto& x, rq::index rows, rq::index cols, rq::index block, const auto& params,
         const auto& order, auto& codes) {
        rq::encode_with_feedback<Arch>(rq::uniform{.bits = 4}, params, {block, order, unit, reach}, x.data(),
                                       rows, cols, cols, codes.data(), cols);
      },
      {8, 16, 32, 64, 256});
}

}  // namespace

int main(int argc, char** argv) {
  add("copy", [](const auto& x, rq::index, rq::index, rq::index, const auto&, const auto&, auto& codes) {
    std::memcpy(codes.data(), x.data(), codes.size());
  });
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
