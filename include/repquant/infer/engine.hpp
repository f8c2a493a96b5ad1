// SPDX-License-Identifier: MIT
/// engine: runs a saved model. Two phases: prepare (checks, plans, packs the weights into the caller's
/// memory), then run (noexcept, no heap, cannot fail, memory and threads from the caller).
///
/// Length: the sizes that running needs are counted beside the run that needs them.
#pragma once

#include <repquant/infer/integer_products.hpp>
#include <repquant/infer/run_plan.hpp>

namespace repquant {

/// Runs a model for one sequence of tokens, or several of one length. Holds no memory of its own; one engine
/// serves any number of threads, each with its own workspace.
///
///   rq::model_view model;
///   if (rq::failure f = rq::model_view::open(bytes, model)) ...
///   rq::engine engine;
///   if (rq::failure f = engine.prepare(model, storage)) ...      // engine::storage_bytes(model) of them
///   engine.run(x, rows, out, workspace);                         // engine.workspace_bytes(rows) of them
class engine {
 public:
  /// Bytes of storage that prepare needs; packing_goal::memory needs no more than packing_goal::speed.
  ///
  /// Cost    a few passes over the weights: counts over them choose the kernels
  template<class Arch = default_arch>
  [[nodiscard]] static std::size_t storage_bytes(const model_view& m,
                                                 packing_goal goal = packing_goal::speed) noexcept {
    std::size_t n = weights_offset(m);
    for (const instruction& s : m.instructions()) {
      n += detail::round_up(packed_bytes<Arch>(s, m.constants(), goal), workspace_alignment);
    }
    return n;
  }

  /// Plans the run and packs the weights for Arch; another Arch can run them too, by the plain definition.
  /// `storage` must live as long as the engine and start on a multiple of 8, better of 64. The goal is
  /// packing_goal::memory where few rows run at a time.
  ///
  /// Errors  shape_mismatch (storage too small), bad_format (alignment), too_large (a sum that 32 bits could
  ///         not hold and no wider kernel serves)
  template<class Arch = default_arch>
  failure prepare(const model_view& m, std::span<std::byte> storage,
                  packing_goal goal = packing_goal::speed) noexcept {
    const std::size_t need = storage_bytes<Arch>(m, goal);
    if (storage.size() < need) {
      return {errc::shape_mismatch, "engine: storage bytes", static_cast<std::int64_t>(storage.size()),
              static_cast<std::int64_t>(need)};
    }
    if (reinterpret_cast<std::uintptr_t>(storage.data()) % 8 != 0)
      return {errc::bad_format, "engine: alignment", 1, 8};
    auto* offsets = reinterpret_cast<std::uint64_t*>(storage.data());
    std::size_t used = weights_offset(m);
    index keys = std::numeric_limits<index>::max();
    for (std::size_t i = 0; i < m.instructions().size(); ++i) {
      const instruction& s = m.instructions()[i];
      if (failure f = check_products(s, m.constants())) return f;
      keys = std::min(keys, repquant::most_keys(s, m.constants()));
      offsets[i] = used;
      const std::size_t bytes = packed_bytes<Arch>(s, m.constants(), goal);
      pack_products<Arch>(s, m.constants(), storage.subspan(used, bytes), goal);
      used += detail::round_up(bytes, workspace_alignment);
    }
    offsets[m.instructions().size()] = used;
    const std::size_t table = offsets_bytes(m);
    set_ = instruction_set_of<Arch>;
    plan_ = make_plan(m, storage.subspan(table, weights_offset(m) - table),
                      [&](const instruction& s) { return kept_bytes(s, m.constants(), set_); });
    model_ = m;
    storage_ = storage;
    most_keys_ = keys;
    return {};
  }

  [[nodiscard]] const model_view& model() const noexcept { return model_; }
  [[nodiscard]] const plan& planned() const noexcept { return plan_; }

  /// Nothing, or why a sequence of `rows` tokens cannot run: no token, fewer than the row that the model
  /// picks, more than it has positions, more than the sums of an attention hold (too_large; only zero points
  /// far beyond the codes make that a limit).
  [[nodiscard]] failure check_rows(index rows) const noexcept {
    const index most = model_.header().max_rows;
    const index least = model_.header().min_rows;
    if (rows < 1) return {errc::empty, "engine: rows", rows, 1};
    if (rows < least) return {errc::shape_mismatch, "engine: rows", rows, least};
    if (most > 0 && rows > most) return {errc::shape_mismatch, "engine: rows", rows, most};
    const index longest = most_keys_ - model_.header().extra_rows;
    if (rows > longest) return {errc::too_large, "engine: rows", rows, longest};
    return {};
  }
  /// Rows of the result for an input of `rows` tokens.
  [[nodiscard]] index output_rows(index rows) const noexcept {
    const index n = model_.header().output_rows;
    return n < 0 ? -n : rows + n;
  }
  /// Bytes of workspace for a sequence of `rows` tokens, with products of the given kind.
  template<class Products = integer_products>
  [[nodiscard]] std::size_t workspace_bytes(index rows) const noexcept {
    return workspace_bytes<Products>(batch{.rows = rows});
  }
  /// Bytes of workspace for a batch.
  template<class Products = integer_products>
  [[nodiscard]] std::size_t workspace_bytes(const batch& b) const noexcept {
    const detail::batch_layout l(plan_, model_.header().extra_rows, b);
    return workspace_alignment + static_cast<std::size_t>(l.shared_copies()) * shared_bytes(l.shared_rows()) +
           static_cast<std::size_t>(l.block_copies()) * block_bytes<Products>(l.block, b.rows);
  }

  /// Runs the model on one sequence.
  ///
  /// Shapes    x [rows x input_cols] contiguous, out [output_rows(rows) x output_cols]
  /// Requires  prepare and check_rows said nothing; the workspace is large enough, of any alignment; x, out
  ///           and the workspace do not overlap
  /// Errors    none. NaN in x gives the codes that the codecs state for it, never undefined behaviour
  /// Cost      the model's; no heap
  template<class Arch = default_arch, class Products = integer_products, class Sink = no_sink>
  void run(const float* x, index rows, std::span<float> out, std::span<std::byte> workspace,
           Sink&& sink = Sink{}) const noexcept {
    run<Arch, Products>(x, batch{.rows = rows}, out, workspace, inline_executor{}, sink);
  }

  /// Runs the model on several sequences of one length, on the caller's threads: the same bits as one by one
  /// on one thread.
  ///
  /// Shapes    x [samples x rows x input_cols], out [samples x output_rows(rows) x output_cols], contiguous
  /// Requires  as above, samples >= 1, parts >= 1, a workspace of workspace_bytes(batch); exec does not
  ///           throw. With more than one part the sink is called by several threads at once
  /// Cost      exec is called once where there are samples for all parts, once per phase otherwise
  template<class Arch = default_arch, class Products = integer_products, Executor Exec, class Sink = no_sink>
  void run(const float* x, const batch& b, std::span<float> out, std::span<std::byte> workspace,
           const Exec& exec, Sink&& sink = Sink{}) const noexcept {
    REPQUANT_ASSERT(b.samples >= 1 && b.parts >= 1 && workspace.size() >= workspace_bytes<Products>(b));
    const detail::batch_layout l(plan_, model_.header().extra_rows, b);
    const std::size_t shared = shared_bytes(l.shared_rows());
    const std::size_t block = block_bytes<Products>(l.block, b.rows);
    workspace_parts parts(workspace);
    std::byte* const all_shared =
        parts.take<std::byte>(static_cast<index>(shared) * l.shared_copies()).data();
    std::byte* const all_blocks = parts.take<std::byte>(static_cast<index>(block) * l.block_copies()).data();
    const index in = b.rows * model_.header().input_cols;
    const index result = output_rows(b.rows) * model_.header().output_cols;
    REPQUANT_ASSERT(static_cast<index>(out.size()) >= b.samples * result);
    const auto run_one = [&](index group, index part, index block_parts, const auto& executor) {
      const index first = group * l.group;
      const detail::plan_memory memory{.input = reinterpret_cast<const std::byte*>(x + first * in),
                                       .output = reinterpret_cast<std::byte*>(out.data() + first * result),
                                       .shared = all_shared + static_cast<std::size_t>(part) * shared,
                                       .shared_rows = l.shared_rows(),
                                       .blocks = all_blocks + static_cast<std::size_t>(part) * block,
                                       .block_bytes = block,
                                       .block_rows = l.block};
      run_group<Arch, Products>(memory, std::min(l.group, b.samples - first), b.rows, block_parts, executor,
                                sink);
    };
    if (l.by_groups) {
      exec(l.shared_copies(), [&](index part) {
        for (index g = part * l.groups / l.shared_copies(); g < (part + 1) * l.groups / l.shared_copies();
             ++g)
          run_one(g, part, index{1}, inline_executor{});
      });
    } else {
      run_one(0, 0, b.parts, exec);
    }
  }

 private:
  friend class decoder;

  /// Bytes of the table that says where the packed weights of each instruction begin, and the last ends.
  [[nodiscard]] static std::size_t offsets_bytes(const model_view& m) noexcept {
    return detail::round_up((m.instructions().size() + 1) * sizeof(std::uint64_t), workspace_alignment);
  }
  [[nodiscard]] static std::size_t weights_offset(const model_view& m) noexcept {
    return offsets_bytes(m) + detail::round_up(plan_bytes(m.instructions().size()), workspace_alignment);
  }
  [[nodiscard]] std::size_t shared_bytes(index rows) const noexcept {
    return detail::bytes_of(rows, plan_.shared_row_bytes);
  }
  /// Values of a block of at most `block` rows, and the scratch of its products. A sequence has at most
  /// `keys` rows of input.
  template<class Products>
  [[nodiscard]] std::size_t block_bytes(index block, index keys) const noexcept {
    std::size_t most = 0;
    for (const instruction& s : model_.instructions()) {
      most = std::max(most, Products::scratch_bytes(s, block, keys + model_.header().extra_rows));
    }
    return detail::bytes_of(block, plan_.block_row_bytes) + detail::round_up(most, workspace_alignment);
  }

  /// Takes a group of samples through the plan.
  template<class Arch, class Products, class Exec, class Sink>
  void run_group(const detail::plan_memory& memory, index samples, index rows, index parts, const Exec& exec,
                 Sink& sink) const noexcept {
    const auto* offsets = reinterpret_cast<const std::uint64_t*>(storage_.data());
    const std::size_t scratch =
        memory.block_bytes - detail::bytes_of(memory.block_rows, plan_.block_row_bytes);
    const auto products = [&](std::int32_t number, std::byte* part_scratch, const kept_keys_values& kept) {
      const std::uint64_t* at = offsets + number;
      return Products{storage_.subspan(at[0], at[1] - at[0]), {part_scratch, scratch}, kept};
    };
    const auto keep = [&](std::int32_t number, const auto&... what) {
      keep_rows(model_.instructions()[static_cast<std::size_t>(number)], model_.constants(), what...);
    };
    detail::run_plan<Arch>(plan_, model_, memory, samples, rows, parts, exec, products, keep, sink);
    if (plan_.result_is_input) {
      std::memcpy(memory.output, memory.input,
                  detail::bytes_of(samples * rows, index{4} * model_.header().input_cols));
    }
  }

  model_view model_;
  std::span<std::byte> storage_;
  plan plan_;
  instruction_set set_ = instruction_set::scalar;  ///< that prepare packed for
  index most_keys_ = std::numeric_limits<index>::max();
};

}  // namespace repquant
