// SPDX-License-Identifier: MIT
/// The integer-only layers over 197 tokens of 768 channels, and 12 heads of 197 x 197 scores: in registers,
/// the scalar definition, the float layer of the running model in registers, and a copy of the same bytes.
#include <repquant/infer/integer_only/activation.hpp>
#include <repquant/infer/integer_only/norm.hpp>
#include <repquant/infer/integer_only/softmax.hpp>
#include <repquant/infer/norm.hpp>

#include "workload.hpp"

namespace {

namespace rq = repquant;
namespace io = repquant::integer_only;

constexpr std::size_t rows = 197;
constexpr std::size_t cols = 768;
constexpr std::size_t keys = 197;
constexpr std::size_t queries = 12 * 197;

std::vector<std::int32_t> integers(std::size_t n, float unit) {
  std::vector<std::int32_t> q(n);
  const std::vector<float> x = workload::normal(n);
  for (std::size_t i = 0; i < n; ++i) q[i] = static_cast<std::int32_t>(x[i] / unit);
  return q;
}

/// Runs `work` and counts `values` values of `bytes` bytes.
template<class F>
void loop(benchmark::State& state, std::size_t values, std::size_t bytes, F work) {
  for (auto _ : state) {
    work();
    benchmark::ClobberMemory();
  }
  workload::count(state, values, bytes * values);
}

void copy(benchmark::State& state) {
  const std::vector<std::int32_t> x(rows * cols, 1);
  std::vector<std::int32_t> y(x.size());
  loop(state, x.size(), 8, [&] { std::memcpy(y.data(), x.data(), x.size() * sizeof x[0]); });
}
template<class Arch>
void activation(benchmark::State& state, rq::activation f) {
  const std::vector<std::int32_t> x = integers(rows * cols, 0x1p-10F);
  std::vector<std::int32_t> y(x.size());
  loop(state, x.size(), 8, [&] { io::activate_row<Arch>(f, 10, x, y); });
}
void float_activation(benchmark::State& state, rq::activation f) {
  const std::vector<float> x = workload::normal(rows * cols);
  std::vector<float> y(x.size());
  loop(state, x.size(), 8, [&] { rq::activate(f, x, y); });
}
template<class Arch>
void norm(benchmark::State& state) {
  const std::vector<std::int32_t> x = integers(rows * cols, 1e-3F);
  std::vector<std::int32_t> d(cols);
  std::vector<std::int32_t> y(x.size());
  const std::vector<float> gamma(cols, 1.0F);
  const std::vector<float> scale(cols, 0.1F);
  const std::vector<std::int32_t> zero(cols, 8);
  std::vector<std::int32_t> gain(cols);
  std::vector<std::int32_t> offset(cols);
  io::norm_plan plan;
  if (io::prepare(gamma, gamma, scale, zero, gain, offset, plan)) return state.SkipWithError("prepare");
  loop(state, x.size(), 8, [&] {
    for (std::size_t i = 0; i < x.size(); i += cols)
      io::norm_row<Arch>(plan, {x.data() + i, cols}, d, {y.data() + i, cols});
  });
}
void float_norm(benchmark::State& state) {
  const std::vector<float> x = workload::normal(rows * cols);
  const std::vector<float> gamma(cols, 1.0F);
  std::vector<float> y(x.size());
  loop(state, x.size(), 8,
       [&] { rq::layer_norm_rows(x.data(), static_cast<rq::index>(rows), gamma, gamma, 1e-5F, y.data()); });
}
template<class Arch>
void softmax(benchmark::State& state, rq::probability_kind kind) {
  const std::vector<std::int32_t> x = integers(queries * keys, 1e-4F);
  std::vector<std::int32_t> octaves(keys);
  std::vector<std::uint8_t> codes(x.size());
  rq::probability_code code{.kind = kind, .bits = 4};
  if (kind == rq::probability_kind::as_uniform) code.scale = 1.0F / 15;
  io::softmax_plan plan;
  if (io::prepare(code, 1e-4F, plan)) return state.SkipWithError("prepare");
  loop(state, x.size(), 5, [&] {
    for (std::size_t i = 0; i < x.size(); i += keys) {
      io::softmax_codes_row<Arch>(plan, {x.data() + i, keys}, octaves, {codes.data() + i, keys});
    }
  });
}

template<class Arch>
void all(const std::string& arch) {
  const auto add = [&arch](const char* name, auto f, auto... arguments) {
    benchmark::RegisterBenchmark((std::string("integer_only/") + name + arch).c_str(), f, arguments...)
        ->Unit(benchmark::kMicrosecond);
  };
  add("gelu_erf", activation<Arch>, rq::activation::gelu_erf);
  add("gelu_tanh", activation<Arch>, rq::activation::gelu_tanh);
  add("silu", activation<Arch>, rq::activation::silu);
  add("layer_norm", norm<Arch>);
  add("softmax/uniform", softmax<Arch>, rq::probability_kind::as_uniform);
  add("softmax/log2", softmax<Arch>, rq::probability_kind::as_log2);
  add("softmax/log_sqrt2", softmax<Arch>, rq::probability_kind::as_log_sqrt2);
}

}  // namespace

int main(int argc, char** argv) {
  using benchmark::RegisterBenchmark;
  RegisterBenchmark("integer_only/copy", copy)->Unit(benchmark::kMicrosecond);
  RegisterBenchmark("float/gelu_erf/lanes", float_activation, rq::activation::gelu_erf)
      ->Unit(benchmark::kMicrosecond);
  RegisterBenchmark("float/silu/lanes", float_activation, rq::activation::silu)
      ->Unit(benchmark::kMicrosecond);
  RegisterBenchmark("float/layer_norm/lanes", float_norm)->Unit(benchmark::kMicrosecond);
  all<rq::scalar_arch>("/scalar");
  all<rq::default_arch>("/lanes");
  return workload::run(argc, argv);
}
