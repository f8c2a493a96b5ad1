// SPDX-License-Identifier: MIT
/// pack and unpack, scalar and in registers, beside a copy of the same bytes.
#include <repquant/kernel/pack.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

template<int Bits, class Arch>
void pack(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(state.range(0) * workload::cols);
  const std::vector<std::uint8_t> codes = workload::codes(n, 1U << Bits);
  std::vector<std::uint8_t> bytes(rq::packed_size<Bits>(n));
  for (auto _ : state) {
    rq::pack<Bits, Arch>(codes, bytes);
    benchmark::DoNotOptimize(bytes.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, n, n + bytes.size());
}
template<int Bits, class Arch>
void unpack(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(state.range(0) * workload::cols);
  std::vector<std::uint8_t> codes(n);
  const std::vector<std::uint8_t> bytes = workload::codes(rq::packed_size<Bits>(n), 256);
  for (auto _ : state) {
    rq::unpack<Bits, Arch>(bytes, codes);
    benchmark::DoNotOptimize(codes.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, n, n + bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  using benchmark::RegisterBenchmark;
  RegisterBenchmark("pack/copy/4", workload::copy, 1.5)->Apply(workload::sizes);
  RegisterBenchmark("pack/4/scalar", pack<4, rq::scalar_arch>)->Apply(workload::sizes);
  RegisterBenchmark("pack/4/lanes", pack<4, rq::default_arch>)->Apply(workload::sizes);
  RegisterBenchmark("unpack/4/scalar", unpack<4, rq::scalar_arch>)->Apply(workload::sizes);
  RegisterBenchmark("unpack/4/lanes", unpack<4, rq::default_arch>)->Apply(workload::sizes);
  RegisterBenchmark("pack/copy/2", workload::copy, 1.25)->Apply(workload::sizes);
  RegisterBenchmark("pack/2/scalar", pack<2, rq::scalar_arch>)->Apply(workload::sizes);
  RegisterBenchmark("pack/2/lanes", pack<2, rq::default_arch>)->Apply(workload::sizes);
  RegisterBenchmark("unpack/2/scalar", unpack<2, rq::scalar_arch>)->Apply(workload::sizes);
  RegisterBenchmark("unpack/2/lanes", unpack<2, rq::default_arch>)->Apply(workload::sizes);
  return workload::run(argc, argv);
}
