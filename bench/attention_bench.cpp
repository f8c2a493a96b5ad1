// SPDX-License-Identifier: MIT
/// attend: 12 heads of 197 x 197 x 64 on 8-bit codes with 4-bit probabilities, in registers and by the scalar
/// definition, beside a copy of the operands. `operations` counts Q K^T and P V once, whatever the codec.
#include <repquant/infer/attention.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

constexpr rq::index heads = 12;
constexpr rq::index tokens = 197;
constexpr rq::index width = 64;
constexpr auto size = static_cast<std::size_t>(heads * tokens * width);

void copy(benchmark::State& state) { workload::copy_bytes(state, 3 * size, 3 * size); }

template<class Arch>
void attention(benchmark::State& state, rq::probability_kind kind) {
  const std::vector<std::uint8_t> q = workload::codes(size, 256);
  const std::vector<std::uint8_t> k = workload::codes(size, 251);
  const std::vector<std::uint8_t> v = workload::codes(size, 241);
  std::vector<float> out(size);
  rq::attention_head head;
  head.queries = head.keys = tokens;
  head.head_dim = width;
  const std::vector<std::int32_t> zero(width, 128);
  const std::vector<float> scale(width, 0.02F);
  head.q_zero = head.v_zero = zero;
  head.k_zero = 128;
  head.score_multiplier = 4e-5F;
  head.value_scale = scale;
  head.probability.kind = kind;
  head.probability.bits = 4;
  if (kind == rq::probability_kind::as_uniform) head.probability.scale = 1.0F / 15;
  std::vector<std::byte> scratch(rq::attention_scratch_size(tokens, tokens, width));
  constexpr rq::index stride = heads * width;
  for (auto _ : state) {
    for (rq::index h = 0; h < heads; ++h) {
      const rq::index at = h * width;
      rq::attend<Arch>(
          head,
          {q.data() + at, stride, k.data() + at, stride, v.data() + at, stride, out.data() + at, stride},
          scratch);
    }
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.counters["operations"] =
      benchmark::Counter(4.0 * heads * tokens * tokens * width * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

template<class Arch>
void all(const std::string& arch) {
  const auto add = [&arch](const char* name, rq::probability_kind kind) {
    benchmark::RegisterBenchmark((std::string("attention/") + name + arch).c_str(), attention<Arch>, kind)
        ->Unit(benchmark::kMicrosecond);
  };
  add("uniform", rq::probability_kind::as_uniform);
  add("log2", rq::probability_kind::as_log2);
  add("log_sqrt2", rq::probability_kind::as_log_sqrt2);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("attention/copy", copy)->Unit(benchmark::kMicrosecond);
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
