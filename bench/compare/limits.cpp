// SPDX-License-Identifier: MIT
/// What this machine can do at most.
#include "limits.hpp"

#include <repquant/kernel/cpu.hpp>

#include "limit_loop.hpp"
#include "memory.hpp"
#include <cstdint>

namespace compare {
namespace {

/// The loops that this CPU can run.
std::vector<limit_loop> loops() {
  std::vector<limit_loop> all;
  const auto take = [&all](const limit_loops& more) {
    all.insert(all.end(), more.first, more.first + more.count);
  };
#if defined(__x86_64__)
  using enum repquant::instruction_set;
  if (repquant::runs_here(avx2) && __builtin_cpu_supports("fma")) take(avx2_loops());
  if (repquant::runs_here(avx_vnni)) take(avx_vnni_loops());
  if (repquant::runs_here(avx512_vnni)) take(avx512_loops());
#endif
  return all;
}

/// Reads `bytes` bytes as `Streams` streams at once.
template<std::size_t Streams>
void read(const std::uint64_t* data, std::size_t bytes) {
#if defined(__AVX512F__)
  typedef std::uint64_t line __attribute__((vector_size(64)));
#elif defined(__AVX__)
  typedef std::uint64_t line __attribute__((vector_size(32)));
#else
  typedef std::uint64_t line __attribute__((vector_size(16)));
#endif
  const std::size_t lines = bytes / sizeof(line) / Streams;
  const auto* p = reinterpret_cast<const line*>(data);
  line sums[Streams] = {};
  for (std::size_t i = 0; i < lines; ++i) {
    for (std::size_t s = 0; s < Streams; ++s) sums[s] |= p[s * lines + i];
  }
  for (std::size_t s = 0; s < Streams; ++s) asm volatile("" : : "m"(sums[s]));
}

}  // namespace

std::vector<machine_limit> measure_limits(const race_rules& rules) {
  std::vector<contender> all;
  std::vector<limit_loop> on_registers = loops();
  for (const limit_loop& l : on_registers) all.push_back({l.name, l.run});
  constexpr std::size_t cached = std::size_t{6} << 20;
  constexpr std::size_t large = std::size_t{256} << 20;
  const buffer<std::uint64_t> data(large / sizeof(std::uint64_t), 1);
  all.push_back({"read 6 MiB", [&data] { read<1>(data.data(), cached); }});
  all.push_back({"read 6 MiB, 4 streams", [&data] { read<4>(data.data(), cached); }});
  all.push_back({"read 256 MiB", [&data] { read<1>(data.data(), large); }});
  all.push_back({"read 256 MiB, 4 streams", [&data] { read<4>(data.data(), large); }});
  const std::vector<timing> times = race(all, rules);
  std::vector<machine_limit> result;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool loop = i < on_registers.size();
    const double work = loop ? 2 * on_registers[i].multiply_adds
                             : static_cast<double>(i < on_registers.size() + 2 ? cached : large);
    result.push_back({all[i].name, loop ? "GOPS" : "GB/s", work * 1e-9 / times[i].least});
  }
  return result;
}

}  // namespace compare
