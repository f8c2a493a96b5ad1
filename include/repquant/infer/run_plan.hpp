// SPDX-License-Identifier: MIT
/// run_plan: takes samples through a plan, block of rows by block of rows.
#pragma once

#include <repquant/infer/kept_keys_values.hpp>
#include <repquant/infer/plan.hpp>
#include <repquant/parallel/concept.hpp>
#include <repquant/parallel/inline_executor.hpp>

namespace repquant {

/// Samples of one length that run in one call, and into how many parts the work is cut, each with memory of
/// its own: as many as threads work on it.
struct batch {
  index rows = 0;     ///< of each sample
  index samples = 1;  ///< one behind the other
  index parts = 1;
};

namespace detail {

/// The rows that a block aims at: few enough for the second-level cache, enough that packing the keys of an
/// attention for it, or reading weights, is a small share.
inline constexpr index rows_in_plan_block = 64;

/// How a batch is cut. Many samples: each part takes groups of them through the whole model, and nothing is
/// shared. Few: all parts work on each phase together.
struct batch_layout {
  batch all;
  index extra = 0;   ///< model_header::extra_rows
  index group = 1;   ///< samples that go through the model together
  index groups = 1;  ///< how many times that is
  bool by_groups = true;
  index block = 1;  ///< most rows in a block

  batch_layout(const plan& p, index extra_rows, const batch& b) noexcept : all(b), extra(extra_rows) {
    const index most = b.rows + extra;  // of a sample
    group = std::clamp(rows_in_plan_block / most, index{1}, b.samples);
    groups = (b.samples + group - 1) / group;
    by_groups = groups >= b.parts;
    if (!by_groups) {
      group = b.samples;
      groups = 1;
    }
    // by phases, enough blocks for all parts, but none of very few rows
    const index share =
        by_groups ? rows_in_plan_block : std::max<index>(8, (group * most + b.parts - 1) / b.parts);
    block = std::min(rows_in_plan_block, share);
    if (!p.splits) block = std::max(block, most);
    block = std::min(block, group * most);
  }
  /// Rows of shared memory that a group needs.
  [[nodiscard]] index shared_rows() const noexcept { return group * (all.rows + extra); }
  [[nodiscard]] index shared_copies() const noexcept { return by_groups ? std::min(all.parts, groups) : 1; }
  [[nodiscard]] index block_copies() const noexcept { return by_groups ? shared_copies() : all.parts; }
};

/// Bytes of so many rows.
constexpr std::size_t bytes_of(index rows, index row_bytes) noexcept {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(row_bytes);
}

/// Where everything lies while a group of samples runs, and how far the sequence has come.
struct plan_memory {
  const std::byte* input = nullptr;  ///< of the first sample of the group
  std::byte* output = nullptr;
  std::byte* shared = nullptr;
  index shared_rows = 0;
  std::byte* blocks = nullptr;  ///< of the first part
  std::size_t block_bytes = 0;  ///< from part to part: values, and behind them the scratch of products
  index block_rows = 0;
  kept_keys_values cache = {};  ///< of a decoder, all attentions; its memory null: none
  index position = 0;

  /// What an attention keeps.
  [[nodiscard]] kept_keys_values kept_by(const plan_step& step) const noexcept {
    if (cache.memory == nullptr) return {};
    return {cache.memory + bytes_of(cache.capacity, step.cache_offset), cache.capacity, cache.set};
  }
};

/// Where a value that is written lies for a block of part `part`: its first row in the block or, of a value
/// that is read whole, the first row of sample `sample`.
inline std::byte* find(const place& p, const plan_memory& m, index input_rows, index part, index sample,
                       const row_block& block, bool whole) noexcept {
  const index first = whole ? 0 : block.first;
  if (p.kind == place::memory::block)
    return m.blocks + static_cast<std::size_t>(part) * m.block_bytes + bytes_of(m.block_rows, p.offset);
  std::byte* const base =
      p.kind == place::memory::output ? m.output : m.shared + bytes_of(m.shared_rows, p.offset);
  return base + bytes_of(sample * count_rows(p.rows, input_rows) + first, p.row_bytes);
}
/// The same for a value that is read: the input, too; nullptr where there is none.
inline const std::byte* find_operand(const place& p, const plan_memory& m, index input_rows, index part,
                                     index sample, const row_block& block, bool whole) noexcept {
  if (p.kind == place::memory::none) return nullptr;
  if (p.kind != place::memory::input) return find(p, m, input_rows, part, sample, block, whole);
  return m.input + bytes_of(sample * input_rows + (whole ? 0 : block.first), p.row_bytes);
}

/// Takes `samples` samples through the plan: for each phase, exec(parts, f), f taking every parts-th block.
/// products(number, scratch, kept) makes the products of an instruction, keep(number, kept, position, rows,
/// k, v) adds keys and values to what an attention keeps.
///
/// Shapes    inputs and outputs of the samples one behind the other
/// Requires  memory as batch_layout counts it
template<class Arch, class MakeProducts, class Keep, class Exec, class Sink>
void run_plan(const plan& p, const model_view& model, const plan_memory& memory, index samples,
              index input_rows, index parts, const Exec& exec, const MakeProducts& products, const Keep& keep,
              Sink& sink) noexcept {
  for (const plan_phase& phase : p.phases) {
    const index rows = count_rows(phase.rows, input_rows);  // of each sample
    // whole samples, or pieces of one
    const index together = std::clamp(memory.block_rows / rows, index{1}, samples);
    const index pieces = (rows + memory.block_rows - 1) / memory.block_rows;
    const index count = (samples + together - 1) / together * pieces;
    const auto steps =
        p.steps.subspan(static_cast<std::size_t>(phase.first), static_cast<std::size_t>(phase.count));
    for (const plan_step& step : steps) {
      const kept_keys_values kept = memory.kept_by(step);
      if (kept.memory == nullptr) break;
      const auto codes = [&](const place& from) {
        return reinterpret_cast<const std::uint8_t*>(
            find_operand(from, memory, input_rows, 0, 0, row_block{}, true));
      };
      if (model.instructions()[static_cast<std::size_t>(step.instruction)].kind == opcode::attention)
        keep(step.instruction, kept, memory.position, input_rows, codes(step.b), codes(step.c));
    }
    const auto run_part = [&](index part) {
      std::byte* const scratch = memory.blocks + static_cast<std::size_t>(part) * memory.block_bytes +
                                 bytes_of(memory.block_rows, p.block_row_bytes);
      for (index i = part; i < count; i += parts) {
        const index sample = i / pieces * together;
        row_block block;
        block.samples = std::min(together, samples - sample);
        block.first = i % pieces * rows / pieces;
        block.rows = (i % pieces + 1) * rows / pieces - block.first;
        block.all = rows;
        block.position = phase.rows < 0 ? 0 : memory.position;  // a row that was picked is a sequence of one
        for (const plan_step& step : steps) {
          const instruction& s = model.instructions()[static_cast<std::size_t>(step.instruction)];
          const auto operand = [&](const place& from, int k) {
            return find_operand(from, memory, input_rows, part, sample, block, reads_whole(s.kind, k));
          };
          // what is read whole: the keys and values of an attention, otherwise the first operand
          const place& whole = s.kind == opcode::attention ? step.b : step.a;
          const bool earlier = s.kind == opcode::attention && memory.cache.memory != nullptr;
          block.whole = count_rows(whole.rows, input_rows) + (earlier ? memory.position : 0);
          auto made =
              products(step.instruction, scratch, earlier ? memory.kept_by(step) : kept_keys_values{});
          execute_rows<Arch>(s, model.constants(),
                             {operand(step.a, 0), operand(step.b, 1), operand(step.c, 2),
                              find(step.out, memory, input_rows, part, sample, block, false)},
                             block, made, sink);
        }
      }
    };
    exec(std::min(parts, count), run_part);
  }
}

}  // namespace detail
}  // namespace repquant
