// SPDX-License-Identifier: MIT
/// softmax_row, and probability_codes (score sums to codes), over 12 heads of 197 x 197: in registers,
/// the scalar definition, and a copy of the same bytes.
#include <repquant/infer/attention_head.hpp>
#include <repquant/infer/softmax.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

constexpr std::size_t keys = 197;
constexpr std::size_t queries = 12 * 197;

void copy(benchmark::State& state) {
  workload::copy_bytes(state, queries * keys * sizeof(float), queries * keys);
}
template<class Arch>
void softmax(benchmark::State& state) {
  const std::vector<float> x = workload::normal(queries * keys);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    for (std::size_t i = 0; i < x.size(); i += keys) {
      rq::softmax_row<Arch>({x.data() + i, keys}, {y.data() + i, keys});
    }
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, x.size(), 8 * x.size());
}
template<class Arch>
void to_codes(benchmark::State& state, rq::probability_kind kind) {
  // rows as attend has them: padded, and as many at a time
  constexpr rq::index block = rq::detail::attention_block<rq::instruction_set_of<Arch>>;
  constexpr auto all_keys = static_cast<rq::index>(keys);
  constexpr auto rows = static_cast<rq::index>(queries);
  constexpr rq::index stride = rq::padded_scores(all_keys);
  const std::vector<float> x = workload::normal(static_cast<std::size_t>(rows * stride));
  std::vector<std::int32_t> sums(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) sums[i] = static_cast<std::int32_t>(x[i] * 20000.0F);
  std::vector<std::uint8_t> codes(x.size());
  std::vector<float> e(static_cast<std::size_t>(block * stride));
  rq::probability_code code{.kind = kind, .bits = 4};
  if (kind == rq::probability_kind::as_uniform) code.scale = 1.0F / 15;
  for (auto _ : state) {
    code.visit([&](const auto& codec, const auto& p) {
      for (rq::index i = 0; i < rows; i += block) {
        rq::probability_codes<Arch>(
            codec, p, sums.data() + i * stride, std::min(block, rows - i), all_keys,
            [=](rq::index) { return all_keys; }, 1e-4F, code.masked(), e.data(), codes.data() + i * stride);
      }
    });
    benchmark::DoNotOptimize(codes.data());
    benchmark::ClobberMemory();
  }
  workload::count(state, queries * keys, 5 * queries * keys);
}

template<class Arch>
void all(const std::string& arch) {
  using benchmark::RegisterBenchmark;
  RegisterBenchmark(("softmax/float" + arch).c_str(), softmax<Arch>)->Unit(benchmark::kMicrosecond);
  const auto codes = [&arch](const char* name, rq::probability_kind kind) {
    RegisterBenchmark((std::string("softmax/to_codes/") + name + arch).c_str(), to_codes<Arch>, kind)
        ->Unit(benchmark::kMicrosecond);
  };
  codes("uniform", rq::probability_kind::as_uniform);
  codes("log2", rq::probability_kind::as_log2);
  codes("log_sqrt2", rq::probability_kind::as_log_sqrt2);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("softmax/copy", copy)->Unit(benchmark::kMicrosecond);
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
