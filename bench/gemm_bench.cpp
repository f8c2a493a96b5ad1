// SPDX-License-Identifier: MIT
/// Products of codes with packed weights, in operations per second (two for a multiply-add), by the widest
/// instruction set of the build and by the scalar definition, beside a copy of the weights.
///
///   gemm/x<bits>w<bits>/<rows>x<places>x<outputs>   weights uniform over all their codes: int32 sums
///   gemm/x8w4g32/...                                4-bit weights in groups of 32: float sums
///   .../memory                                      packed for few bytes rather than for many rows
///   .../cold                                        weights that come from memory: 8 matrices in turn
#include <repquant/infer/epilogue.hpp>
#include <repquant/kernel/packed_weights.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;

struct problem {
  rq::index m, k, n;
  int x_bits, w_bits;
  rq::index group;
  rq::packing_goal goal;
  int copies;

  [[nodiscard]] std::string name() const {
    std::string s = "x" + std::to_string(x_bits) + "w" + std::to_string(w_bits);
    if (group > 0) s += "g" + std::to_string(group);
    s += "/" + std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n);
    if (goal == rq::packing_goal::memory) s += "/memory";
    return copies > 1 ? s + "/cold" : s;
  }
};

/// Weights packed for a build, with what they are packed from.
template<rq::instruction_set Set>
struct operands {
  std::vector<std::uint8_t> x;
  std::vector<std::vector<std::uint64_t>> packed;
  std::vector<rq::gemm_weights> weights;
  std::vector<std::uint64_t> scratch;

  explicit operands(const problem& p)
      : x(workload::codes(static_cast<std::size_t>(p.m * p.k), 1U << p.x_bits)) {
    const std::vector<std::uint8_t> codes =
        workload::codes(static_cast<std::size_t>(p.n * p.k), 1U << p.w_bits);
    rq::weight_codes w{{codes.data(), p.k, 1}, p.k, p.n, p.x_bits, p.w_bits, 128, {}, p.group};
    const std::vector<std::int32_t> zero(static_cast<std::size_t>(p.n * w.groups()), 1 << (p.w_bits - 1));
    const std::vector<float> scale(zero.size(), 0.01F);
    w.w_zero = zero;
    w.scale = scale;
    const rq::packing_plan plan = rq::plan_packing(Set, w, p.goal);
    for (int c = 0; c < p.copies; ++c) {
      packed.emplace_back(plan.bytes() / 8 + 9);
      auto bytes = std::as_writable_bytes(std::span(packed.back()));
      bytes = bytes.subspan((64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64);
      rq::pack_weights(plan, w, bytes);
      weights.push_back(rq::view_weights(bytes));
    }
    scratch.resize(rq::gemm_scratch_bytes(plan.layout) / 8 + 1);
  }
};

template<rq::instruction_set Set>
void gemm(benchmark::State& state, problem p) {
  operands<Set> o(p);
  std::vector<std::int32_t> sums(static_cast<std::size_t>(p.m * p.n));
  std::vector<float> reals(sums.size());
  const auto scratch = std::as_writable_bytes(std::span(o.scratch));
  for (auto _ : state) {
    for (const rq::gemm_weights& w : o.weights) {
      if (p.group > 0) {
        rq::gemm_groups<Set>(w, o.x.data(), p.m, p.k, 0, w.layout.panels(), scratch,
                             [&](rq::index i, rq::index j, const float* s, rq::index count) {
                               std::copy(s, s + count, reals.data() + i * p.n + j);
                             });
      } else {
        rq::gemm<Set>(w, o.x.data(), p.m, p.k, 0, w.layout.panels(), scratch, rq::sum_rows{sums.data(), p.n});
      }
    }
    benchmark::DoNotOptimize(sums.data());
    benchmark::DoNotOptimize(reals.data());
    benchmark::ClobberMemory();
  }
  const double rounds = static_cast<double>(state.iterations()) * p.copies;
  const auto bytes = static_cast<double>(o.weights.front().layout.bytes());
  state.counters["operations"] =
      benchmark::Counter(2.0 * static_cast<double>(p.m * p.n * p.k) * rounds, benchmark::Counter::kIsRate);
  state.counters["weight_bytes"] = benchmark::Counter(bytes * rounds, benchmark::Counter::kIsRate);
  state.counters["products"] = static_cast<double>(o.weights.front().layout.products);
}

/// As many bytes as the weights have at one a code.
void copy(benchmark::State& state, problem p) {
  const auto bytes = static_cast<std::size_t>(p.k * p.n);
  const std::vector<std::uint8_t> from(bytes * static_cast<std::size_t>(p.copies), 1);
  std::vector<std::uint8_t> to(bytes);
  for (auto _ : state) {
    for (int c = 0; c < p.copies; ++c) {
      std::memcpy(to.data(), from.data() + bytes * static_cast<std::size_t>(c), bytes);
      benchmark::DoNotOptimize(to.data());
      benchmark::ClobberMemory();
    }
  }
  workload::count(state, from.size(), 2 * from.size());
}

void all() {
  using enum rq::packing_goal;
  constexpr rq::instruction_set widest = rq::instruction_set_of<rq::default_arch>;
  const auto add = [](const problem& p) {
    using benchmark::RegisterBenchmark;
    RegisterBenchmark(("gemm/" + p.name() + "/scalar").c_str(), gemm<rq::instruction_set::scalar>, p);
    RegisterBenchmark(("gemm/" + p.name() + "/" + rq::name_of(widest)).c_str(), gemm<widest>, p);
  };
  const auto bits = [&](rq::index m, rq::index k, rq::index n) {
    for (const auto& [x, w] : {std::pair{8, 8}, {8, 7}, {8, 6}, {8, 4}, {4, 4}, {8, 2}}) {
      add({m, k, n, x, w, 0, speed, 1});
    }
    add({m, k, n, 8, 4, 0, memory, 1});
    for (rq::index group : {32, 64, 128}) add({m, k, n, 8, 4, group, memory, 1});
    benchmark::RegisterBenchmark(("gemm/copy/" + std::to_string(k) + "x" + std::to_string(n)).c_str(), copy,
                                 problem{m, k, n, 8, 8, 0, speed, 1});
  };
  bits(128, 384, 1536);
  bits(197, 768, 768);
  bits(197, 768, 3072);
  bits(197, 3072, 768);
  bits(512, 1024, 1024);
  for (rq::index m : {1, 2, 4, 8}) {
    for (int w : {8, 7, 4}) add({m, 384, 384, 8, w, 0, memory, 1});
  }
  for (rq::index m : {1, 4}) {
    for (int w : {8, 7, 4}) add({m, 4096, 4096, 8, w, 0, memory, 8});
  }
  add({1, 4096, 4096, 8, 4, 32, memory, 8});
  benchmark::RegisterBenchmark("gemm/copy/4096x4096/cold", copy, problem{1, 4096, 4096, 8, 8, 0, memory, 8});
}

}  // namespace

int main(int argc, char** argv) {
  all();
  return workload::run(argc, argv);
}
