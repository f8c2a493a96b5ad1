// SPDX-License-Identifier: MIT
/// A whole linear layer on codes, in operations per second (two for a multiply-add): in registers and by the
/// scalar definition, beside a copy of the operands.
#include <repquant/infer/linear.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

struct extent {
  rq::index m, n, k;
  [[nodiscard]] std::string name() const {
    return std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
  }
};
void operations(benchmark::State& state, extent e) {
  const double each = 2.0 * static_cast<double>(e.m * e.n * e.k);
  state.counters["operations"] =
      benchmark::Counter(each * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
void copy(benchmark::State& state, extent e) {
  const auto bytes = static_cast<std::size_t>((e.m + e.n) * e.k);
  workload::copy_bytes(state, bytes, bytes);
}
template<class Arch>
void linear(benchmark::State& state, extent e) {
  const std::vector<std::uint8_t> x = workload::codes(static_cast<std::size_t>(e.m * e.k), 256);
  const std::vector<std::uint8_t> w = workload::codes(static_cast<std::size_t>(e.n * e.k), 256);
  const std::vector<std::int32_t> zero(static_cast<std::size_t>(e.n), 128);
  const std::vector<float> m(zero.size(), 1e-4F);
  rq::linear_codes layer;
  layer.in = e.k;
  layer.out = e.n;
  layer.w = w;
  layer.w_zero = zero;
  layer.multiplier = m;
  layer.offset = m;
  layer.x_zero = 117;
  std::vector<std::byte> packed(rq::linear_packed_bytes<Arch>(layer));
  rq::pack_linear<Arch>(layer, packed);
  layer.packed = packed;
  std::vector<std::byte> workspace(rq::linear_workspace_size(layer));
  std::vector<float> y(static_cast<std::size_t>(e.m * e.n));
  for (auto _ : state) {
    rq::linear_rows<Arch>(layer, x.data(), e.m, e.k, workspace, y.data(), e.n);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  operations(state, e);
}
template<class Arch>
void all(const std::string& arch) {
  using benchmark::RegisterBenchmark;
  for (extent e : {extent{197, 768, 768}, extent{197, 3072, 768}, extent{50, 128, 64}}) {
    RegisterBenchmark(("linear/" + e.name() + arch).c_str(), linear<Arch>, e);
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("linear/copy/197x768x768", copy, extent{197, 768, 768});
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
