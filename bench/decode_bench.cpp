// SPDX-License-Identifier: MIT
/// decode: each codec and granularity, scalar and in registers, beside a copy of the same bytes.
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/kernel/decode.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

template<class Arch, class C, class G>
void decode(benchmark::State& state, C codec, G granularity) {
  const rq::shape size{state.range(0), workload::cols};
  const auto n = static_cast<std::size_t>(size.rows * size.cols);
  const std::vector<std::uint8_t> codes = workload::codes(n, static_cast<unsigned>(codec.levels()));
  std::vector<float> x(n);
  std::vector<typename C::params> params;
  for (rq::index g = 0; g < granularity.groups(size); ++g) {
    params.push_back(codec.fit({-3, 4 + 0.001F * static_cast<float>(g % 1000)}));
  }
  for (auto _ : state) {
    rq::decode<Arch>(codec, granularity, size, params, codes.data(), size.cols, x.data(), size.cols);
    benchmark::DoNotOptimize(x.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, n, 5 * n);
}

template<class C, class G>
void both(const char* name, C codec, G granularity) {
  using benchmark::RegisterBenchmark;
  const std::string kernel = std::string("decode/") + name;
  RegisterBenchmark((kernel + "/scalar").c_str(), decode<rq::scalar_arch, C, G>, codec, granularity)
      ->Apply(workload::sizes);
  RegisterBenchmark((kernel + "/lanes").c_str(), decode<rq::default_arch, C, G>, codec, granularity)
      ->Apply(workload::sizes);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("decode/copy", workload::copy, 5.0)->Apply(workload::sizes);
  both("uniform8/per_tensor", rq::uniform{.bits = 8}, rq::per_tensor{});
  both("uniform8/per_row", rq::uniform{.bits = 8}, rq::per_row{});
  both("uniform8/per_col", rq::uniform{.bits = 8}, rq::per_col{});
  both("uniform4/per_group_32", rq::uniform{.bits = 4}, rq::per_group{.size = 32});
  both("log2_4/per_tensor", rq::log2{.bits = 4}, rq::per_tensor{});
  both("log_sqrt2_4/per_tensor", rq::log_sqrt2{.bits = 4}, rq::per_tensor{});
  return workload::run(argc, argv);
}
