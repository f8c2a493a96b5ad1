// SPDX-License-Identifier: MIT
/// The product of 4-bit probability codes with values, 12 heads of 197 x 197 x 64: packing of the values
/// included, for rows that a softmax of normal scores gives and for rows of any codes, whose sums fit no
/// int16; beside the scalar definition and a copy of the operands. `operations` counts P V once, whatever the
/// codec.
#include <repquant/infer/attention_head.hpp>
#include <repquant/kernel/pack_panels.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

constexpr rq::index heads = 12;
constexpr rq::index tokens = 197;
constexpr rq::index width = 64;
constexpr rq::index stride = rq::padded_scores(tokens);
/// Queries that run together, as in attend.
template<class Arch>
constexpr rq::index block = rq::detail::attention_block<rq::instruction_set_of<Arch>>;

/// Codes of heads x tokens rows.
template<class C>
std::vector<std::uint8_t> codes_of(const C& codec, bool softmax) {
  const auto size = static_cast<std::size_t>(heads * tokens * stride);
  if (!softmax) return workload::codes(size, static_cast<unsigned>(codec.smallest() + 1));
  std::vector<std::uint8_t> codes(size);
  const std::vector<float> x = workload::normal(codes.size());
  std::vector<std::int32_t> sums(codes.size());
  for (std::size_t i = 0; i < x.size(); ++i) sums[i] = static_cast<std::int32_t>(x[i] * 20000.0F);
  constexpr rq::index together = block<rq::default_arch>;
  std::vector<float> e(static_cast<std::size_t>(together * stride));
  for (rq::index i = 0; i < heads * tokens; i += together) {
    const rq::index rows = std::min(together, heads * tokens - i);
    rq::probability_codes(
        codec, rq::log_scale{0.25F}, sums.data() + i * stride, rows, tokens, [](rq::index) { return tokens; },
        1e-4F, static_cast<std::uint8_t>(codec.last()), e.data(), codes.data() + i * stride);
  }
  return codes;
}

void copy(benchmark::State& state) {
  constexpr auto bytes = static_cast<std::size_t>(heads * tokens * (tokens + width));
  workload::copy_bytes(state, bytes, bytes);
}

template<class Arch, class C>
void values(benchmark::State& state, C codec, bool softmax) {
  constexpr rq::instruction_set set = rq::instruction_set_of<Arch>;
  const std::vector<std::uint8_t> codes = codes_of(codec, softmax);
  const std::vector<std::uint8_t> v = workload::codes(static_cast<std::size_t>(heads * tokens * width), 256);
  const rq::panel_layout layout = rq::value_layout(set, codec, tokens, width, 8);
  std::vector<std::byte> panels(static_cast<std::size_t>(layout.bytes()));
  const std::vector<std::int32_t> slope(static_cast<std::size_t>(layout.padded_n()), 3);
  std::vector<std::byte> scratch(rq::log_product_scratch(block<Arch>, tokens));
  std::vector<std::int32_t> even(static_cast<std::size_t>(heads * tokens * width));
  std::vector<std::int32_t> odd(even.size());
  for (auto _ : state) {
    for (rq::index h = 0; h < heads; ++h) {
      rq::pack_panels(layout, {v.data() + h * tokens * width, 1, width}, panels.data());
      rq::gemm_weights w{layout, panels.data()};
      w.slope = slope.data();
      for (rq::index i = 0; i < tokens; i += block<Arch>) {
        const rq::index row = h * tokens + i;
        rq::log_product<set, Arch>(
            codec, codes.data() + row * stride, std::min(block<Arch>, tokens - i), stride,
            [](rq::index) { return tokens; }, w, 8, even.data() + row * width, odd.data() + row * width,
            width, scratch);
      }
    }
    benchmark::DoNotOptimize(even.data());
    benchmark::DoNotOptimize(odd.data());
    benchmark::ClobberMemory();
  }
  state.counters["operations"] =
      benchmark::Counter(2.0 * heads * tokens * tokens * width * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

template<class Arch>
void all(const std::string& arch) {
  const auto add = [&arch]<class C>(const char* name, C codec) {
    for (bool softmax : {true, false}) {
      benchmark::RegisterBenchmark(
          (std::string("log_product/") + name + (softmax ? "/softmax" : "/any") + arch).c_str(),
          values<Arch, C>, codec, softmax)
          ->Unit(benchmark::kMicrosecond);
    }
  };
  add("log2", rq::log2{.bits = 4});
  add("log_sqrt2", rq::log_sqrt2{.bits = 4});
  add("log_sqrt2_8_bits", rq::log_sqrt2{.bits = 8, .depth = 14});
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::RegisterBenchmark("log_product/copy", copy)->Unit(benchmark::kMicrosecond);
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
