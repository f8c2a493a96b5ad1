// SPDX-License-Identifier: MIT
/// Tokens of a sequence one by one and in chunks of 64, with all that came before them in the cache: layers
/// of attention in 8 bits whose heads share keys in pairs, beside the scalar definition. Three layers of four
/// heads of 64 columns, and five of eight heads of 8 columns, narrower than a panel. Items are tokens.
#include <repquant/infer/decoder.hpp>

#include <benchmark/benchmark.h>

#include "../tests/unit/infer/written_model.hpp"

namespace {

namespace rq = repquant;

/// The sizes of a model.
struct extent {
  int layers;
  std::int32_t heads;
  std::int32_t head_dim;
};
constexpr extent extent_of(std::int64_t head_dim) {
  return head_dim == 64 ? extent{3, 4, 64} : extent{5, 8, 8};
}

std::vector<std::byte> attention_layers(const extent& e, std::int32_t most) {
  const std::int32_t cols = e.heads * e.head_dim;
  const std::int32_t kv_heads = e.heads / 2;
  const std::int32_t kv_cols = cols / 2;
  written::builder b(3);
  std::int32_t x = 0;
  for (int i = 0; i < e.layers; ++i) {
    const std::int32_t n = b.encode(b.norm(x, cols, true), cols);
    const std::int32_t q = b.encode(b.rotate(b.linear(n, cols, cols), cols, e.heads, most), cols);
    const std::int32_t k =
        b.encode(b.rotate(b.linear(n, cols, kv_cols), kv_cols, kv_heads, most), kv_cols, 8, true);
    const std::int32_t v = b.encode(b.linear(n, cols, kv_cols), kv_cols);
    const std::int32_t mixed = b.encode(b.attention(q, k, v, e.heads, kv_heads, e.head_dim, true), cols);
    x = b.add_instruction(rq::opcode::add, cols, x, b.linear(mixed, cols, cols));
  }
  return b.finish(cols, x, cols);
}

template<class Arch>
void decode(benchmark::State& state) {
  const rq::index tokens = state.range(0);
  const rq::index chunk = state.range(1);
  const extent e = extent_of(state.range(2));
  const rq::index cols = rq::index{e.heads} * e.head_dim;
  const std::vector<std::byte> saved = attention_layers(e, static_cast<std::int32_t>(tokens));
  std::vector<std::uint64_t> words((saved.size() + 7) / 8);
  std::memcpy(words.data(), saved.data(), saved.size());
  rq::model_view model;
  if (rq::model_view::open(std::as_bytes(std::span(words)).first(saved.size()), model))
    return state.SkipWithError("the model does not open");
  std::vector<std::uint64_t> storage(rq::decoder::storage_bytes<Arch>(model) / 8 + 1);
  rq::decoder decoder;
  if (decoder.prepare<Arch>(model, std::as_writable_bytes(std::span(storage))))
    return state.SkipWithError("the model is refused");
  std::vector<std::byte> memory(decoder.cache_bytes(tokens));
  std::vector<std::byte> workspace(decoder.workspace_bytes(tokens, chunk));
  std::vector<float> x(static_cast<std::size_t>(tokens * cols));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 7919) % 4001) / 1000 - 2;
  std::vector<float> y(static_cast<std::size_t>(chunk * cols));
  for (auto _ : state) {
    rq::token_cache cache{memory, tokens};
    while (cache.tokens < tokens)
      decoder.run<Arch>(x.data() + cache.tokens * cols, chunk, y, cache, workspace);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * tokens);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "chunk", "columns"})
      ->ArgsProduct({{128, 1024}, {1}, {64, 8}})
      ->Args({1024, 64, 64})
      ->Unit(benchmark::kMillisecond);
}
BENCHMARK(decode<rq::default_arch>)->Name("decode")->Apply(sizes);
BENCHMARK(decode<rq::scalar_arch>)->Name("decode/scalar")->Apply(sizes);

}  // namespace
