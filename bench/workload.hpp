// SPDX-License-Identifier: MIT
/// What the kernel benches share: sizes, data, and what is counted.
///
/// Sizes: L2 is 43 x 768 (33,024 values), ViT is 197 x 768 (one image's tokens), DRAM is 16384 x 768 (50 MB
/// of floats). Every kernel stands beside its scalar definition and beside `copy`, a memcpy that moves as
/// many bytes (half read, half written): the ceiling.
#pragma once

#include <repquant/core/shape.hpp>

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace workload {

inline constexpr repquant::index cols = 768;

inline void sizes(benchmark::internal::Benchmark* b) {
  b->ArgName("rows")->Arg(43)->Arg(197)->Arg(16384)->Unit(benchmark::kMicrosecond);
}

/// Values of a normal distribution: what activations look like.
inline std::vector<float> normal(std::size_t n) {
  std::minstd_rand bits(1);
  std::normal_distribution<float> distribution(0.0F, 1.0F);
  std::vector<float> few(65536);
  for (float& v : few) v = distribution(bits);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = few[(i * 7) % few.size()];
  return x;
}
/// Values in (0, 1], most of them small: what a softmax gives.
inline std::vector<float> probabilities(std::size_t n) {
  std::vector<float> x = normal(n);
  for (float& v : x) {
    std::uint32_t u = 0;
    std::memcpy(&u, &v, sizeof u);
    v = static_cast<float>(1 + u % 4096) * static_cast<float>(1 + (u >> 12) % 4096) * 0x1p-24F;
  }
  return x;
}
/// Bytes below `levels`.
inline std::vector<std::uint8_t> codes(std::size_t n, unsigned levels) {
  std::minstd_rand bits(2);
  std::vector<std::uint8_t> q(n);
  for (std::uint8_t& v : q) v = static_cast<std::uint8_t>((bits() >> 8) % levels);
  return q;
}

/// Counts `values` values and `bytes` bytes read and written, in every round.
inline void count(benchmark::State& state, std::size_t values, std::size_t bytes) {
  const auto rounds = static_cast<std::int64_t>(state.iterations());
  state.SetItemsProcessed(rounds * static_cast<std::int64_t>(values));
  state.SetBytesProcessed(rounds * static_cast<std::int64_t>(bytes));
}

/// A memcpy that reads `bytes` bytes and writes as many, counted as that of `values` values.
inline void copy_bytes(benchmark::State& state, std::size_t bytes, std::size_t values) {
  const std::vector<std::uint8_t> from(bytes, 1);
  std::vector<std::uint8_t> to(bytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  count(state, values, 2 * bytes);
}
/// A memcpy that reads half of `bytes_per_value` and writes the other half, for every value.
inline void copy(benchmark::State& state, double bytes_per_value) {
  const auto n = static_cast<std::size_t>(state.range(0) * cols);
  copy_bytes(state, static_cast<std::size_t>(static_cast<double>(n) * bytes_per_value / 2), n);
}

/// Runs what was registered, as the arguments say: what main() returns.
inline int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace workload
