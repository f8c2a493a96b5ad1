// SPDX-License-Identifier: MIT
/// Exact int16 products, log-code products and a whole linear layer on codes, in operations per second (two
/// for a multiply-add): in registers and by the scalar definition, beside a copy of the operands.
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/infer/linear.hpp>
#include <repquant/kernel/log_product.hpp>

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
std::vector<std::int16_t> words(rq::index n) {
  const std::vector<std::uint8_t> q = workload::codes(static_cast<std::size_t>(n), 256);
  std::vector<std::int16_t> w(q.size());
  rq::center(q, 128, w);
  return w;
}

void copy(benchmark::State& state, extent e) {
  const std::vector<std::int16_t> from = words((e.m + e.n) * e.k);
  std::vector<std::int16_t> to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size() * sizeof(std::int16_t));
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, from.size(), 4 * from.size());
}
template<class Arch>
void product(benchmark::State& state, extent e) {
  const std::vector<std::int16_t> a = words(e.m * e.k);
  const std::vector<std::int16_t> b = words(e.n * e.k);
  std::vector<std::int32_t> c(static_cast<std::size_t>(e.m * e.n));
  for (auto _ : state) {
    rq::product<Arch>(a.data(), e.m, e.k, b.data(), e.n, e.k, e.k, c.data(), e.n);
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  operations(state, e);
}
template<class Arch>
void product_wide(benchmark::State& state, extent e) {
  const std::vector<std::int16_t> a = words(e.m * e.k);
  const std::vector<std::int16_t> b = words(e.n * e.k);
  std::vector<std::int64_t> c(static_cast<std::size_t>(e.m * e.n));
  for (auto _ : state) {
    rq::product_wide<Arch>(a.data(), e.m, e.k, b.data(), e.n, e.k, e.k, 1 << 14, 255, c.data(), e.n);
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  operations(state, e);
}
template<class Arch, class C>
void log_product(benchmark::State& state, extent e, C codec) {
  const std::vector<std::uint8_t> codes = workload::codes(static_cast<std::size_t>(e.m * e.k), 16);
  const rq::index stride = rq::padded_row(e.k);
  const std::vector<std::int16_t> v = words(e.n * stride);
  std::vector<std::int32_t> even(static_cast<std::size_t>(e.m * e.n));
  std::vector<std::int32_t> odd(even.size());
  std::vector<std::int16_t> scratch(static_cast<std::size_t>(e.m * stride));
  for (auto _ : state) {
    rq::log_product<Arch>(codec, codes.data(), e.m, e.k, v.data(), e.n, stride, e.k, 128, even.data(),
                          odd.data(), e.n, scratch);
    benchmark::DoNotOptimize(even.data());
    benchmark::ClobberMemory();
  }
  operations(state, e);
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
void center(benchmark::State& state) {
  const std::vector<std::uint8_t> codes = workload::codes(65536, 256);
  std::vector<std::int16_t> out(codes.size());
  for (auto _ : state) {
    rq::center<Arch>(codes, 117, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, codes.size(), 3 * codes.size());
}

template<class Arch>
void all(const std::string& arch) {
  using benchmark::RegisterBenchmark;
  for (extent e : {extent{197, 768, 768}, extent{197, 3072, 768}, extent{197, 768, 3072},
                   extent{197, 197, 64}, extent{197, 64, 197}, extent{50, 64, 64}, extent{1, 768, 768}}) {
    RegisterBenchmark(("product/" + e.name() + arch).c_str(), product<Arch>, e);
  }
  for (extent e : {extent{197, 768, 768}, extent{197, 3072, 768}, extent{50, 128, 64}}) {
    RegisterBenchmark(("linear/" + e.name() + arch).c_str(), linear<Arch>, e);
  }
  RegisterBenchmark(("product_wide/197x64x1024" + arch).c_str(), product_wide<Arch>, extent{197, 64, 1024});
  const extent head{197, 64, 197};
  RegisterBenchmark(("log_product/log2/197x64x197" + arch).c_str(), log_product<Arch, rq::log2>, head,
                    rq::log2{.bits = 4});
  RegisterBenchmark(("log_product/log_sqrt2/197x64x197" + arch).c_str(), log_product<Arch, rq::log_sqrt2>,
                    head, rq::log_sqrt2{.bits = 4});
  RegisterBenchmark(("center/65536" + arch).c_str(), center<Arch>);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("product/copy/197x768x768", copy, extent{197, 768, 768});
  benchmark::RegisterBenchmark("product/copy/197x64x197", copy, extent{197, 64, 197});
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
