// SPDX-License-Identifier: MIT
/// decoder: runs a causal model token by token, or chunk by chunk. Keys and values of earlier tokens stay, in
/// the panels that products read, in a cache that the caller owns.
#pragma once

#include <repquant/infer/engine.hpp>

namespace repquant {

/// How far a sequence has come: the keys and values of its tokens so far. Set `tokens` to 0 to begin another
/// one, or to a smaller number to go back.
///
/// Requires  memory of decoder::cache_bytes(most), aligned to 4, better to 64
struct token_cache {
  std::span<std::byte> memory;
  index most = 0;    ///< tokens that it has room for
  index tokens = 0;  ///< tokens that it holds
};

/// Runs a model on the tokens of one sequence as they come. However they are cut into chunks, the results are
/// those of engine::run on the whole sequence, bit for bit.
///
///   rq::decoder decoder;
///   if (rq::failure f = decoder.prepare(model, storage)) ...     // decoder::storage_bytes(model) of them
///   rq::token_cache cache{memory, most};                         // decoder.cache_bytes(most) of them
///   if (rq::failure f = decoder.check_rows(cache, 1)) ...        // before each run
///   decoder.run(x, 1, logits, cache, workspace);                 // decoder.workspace_bytes(most, 1) of them
class decoder {
 public:
  /// Bytes of storage that prepare needs; engine::storage_bytes(m) are enough, too.
  template<class Arch = default_arch>
  [[nodiscard]] static std::size_t storage_bytes(const model_view& m) noexcept {
    return engine::storage_bytes<Arch>(m, packing_goal::memory);
  }

  /// As engine::prepare; the weights are packed for few rows, and the cache for Arch.
  ///
  /// Errors  those of engine::prepare; bad_option, got = the instruction: an attention that is not causal or
  ///         whose keys are not those of all tokens, and steps that need tokens still to come or long gone: a
  ///         row in front of the tokens, the mean over them, a row that is not the last
  template<class Arch = default_arch>
  failure prepare(const model_view& m, std::span<std::byte> storage) noexcept {
    engine prepared;
    if (failure f = prepared.prepare<Arch>(m, storage, packing_goal::memory)) return f;
    for (const plan_step& step : prepared.planned().steps) {
      const instruction& s = m.instructions()[static_cast<std::size_t>(step.instruction)];
      const auto refuse = [&](const char* why) {
        return failure{errc::bad_option, why, step.instruction, 0};
      };
      if (s.kind == opcode::prepend_row) return refuse("decoder: a row in front of the tokens, instruction");
      if (s.kind == opcode::mean_rows) return refuse("decoder: the mean over the tokens, instruction");
      if (s.kind == opcode::select_row && s.row != -1)
        return refuse("decoder: a row that is not the last, instruction");
      if (s.kind != opcode::attention) continue;
      if (s.flag == 0) return refuse("decoder: an attention that is not causal, instruction");
      if (step.b.rows != 0 || step.c.rows != 0)
        return refuse("decoder: keys that are not those of all tokens, instruction");
    }
    engine_ = prepared;
    return {};
  }

  [[nodiscard]] const engine& prepared() const noexcept { return engine_; }

  /// Bytes of cache for `most` tokens: for 32, 64, ... as many bytes as tokens need, for others as for the
  /// next of those.
  [[nodiscard]] std::size_t cache_bytes(index most) const noexcept {
    return detail::bytes_of(kept_capacity(most), engine_.planned().cache_row_bytes);
  }
  /// Bytes of workspace for chunks of at most `rows` tokens of sequences of at most `most`, on `parts`
  /// threads.
  template<class Products = integer_products>
  [[nodiscard]] std::size_t workspace_bytes(index most, index rows, index parts = 1) const noexcept {
    const detail::batch_layout l(engine_.planned(), 0, {.rows = rows, .parts = parts});
    return workspace_alignment + engine_.shared_bytes(l.shared_rows()) +
           static_cast<std::size_t>(l.block_copies()) * engine_.block_bytes<Products>(l.block, most);
  }

  /// Nothing, or why `rows` more tokens cannot run: what engine::check_rows says of the longer sequence; a
  /// cache without room for it (shape_mismatch), or that is not aligned to 4 (bad_format).
  [[nodiscard]] failure check_rows(const token_cache& cache, index rows) const noexcept {
    if (rows < 1) return {errc::empty, "decoder: rows", rows, 1};
    const auto bytes = static_cast<std::int64_t>(cache.memory.size());
    const auto need = static_cast<std::int64_t>(cache_bytes(cache.most));
    if (bytes < need) return {errc::shape_mismatch, "decoder: cache bytes", bytes, need};
    const auto past = reinterpret_cast<std::uintptr_t>(cache.memory.data()) % 4;
    if (past != 0) return {errc::bad_format, "decoder: cache alignment", static_cast<std::int64_t>(past), 0};
    if (cache.tokens < 0 || cache.tokens + rows > cache.most)
      return {errc::shape_mismatch, "decoder: tokens", cache.tokens + rows, cache.most};
    return engine_.check_rows(cache.tokens + rows);
  }

  /// Runs the next `rows` tokens and adds them to the cache.
  ///
  /// Shapes    x [rows x input_cols], out [engine::output_rows(rows) x output_cols]: what the whole sequence
  ///           would give for these tokens
  /// Requires  prepare and check_rows said nothing; a workspace of workspace_bytes(cache.most, rows, parts);
  ///           x, out, the workspace and the cache do not overlap; the cache holds what this decoder wrote;
  ///           exec does not throw
  /// Cost      the model's on these rows; no heap
  template<class Arch = default_arch, class Products = integer_products, Executor Exec = inline_executor,
           class Sink = no_sink>
  void run(const float* x, index rows, std::span<float> out, token_cache& cache,
           std::span<std::byte> workspace, index parts = 1, const Exec& exec = Exec{},
           Sink&& sink = Sink{}) const noexcept {
    REPQUANT_ASSERT(!check_rows(cache, rows));
    REPQUANT_ASSERT(workspace.size() >= workspace_bytes<Products>(cache.most, rows, parts));
    const detail::batch_layout l(engine_.planned(), 0, {.rows = rows, .parts = parts});
    const std::size_t block = engine_.block_bytes<Products>(l.block, cache.most);
    workspace_parts pieces(workspace);
    std::byte* const shared =
        pieces.take<std::byte>(static_cast<index>(engine_.shared_bytes(l.shared_rows()))).data();
    std::byte* const blocks = pieces.take<std::byte>(static_cast<index>(block) * l.block_copies()).data();
    engine_.run_group<Arch, Products>(
        {.input = reinterpret_cast<const std::byte*>(x),
         .output = reinterpret_cast<std::byte*>(out.data()),
         .shared = shared,
         .shared_rows = l.shared_rows(),
         .blocks = blocks,
         .block_bytes = block,
         .block_rows = l.block,
         .cache = {cache.memory.data(), kept_capacity(cache.most), engine_.set_},
         .position = cache.tokens},
        1, rows, l.block_copies(), exec, sink);
    cache.tokens += rows;
  }

 private:
  engine engine_;
};

}  // namespace repquant
