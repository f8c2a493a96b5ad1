// SPDX-License-Identifier: MIT
/// plan: in which order an engine runs the instructions of a model, and where values lie meanwhile
/// (docs/decisions/0016).
///
/// A row of most results needs the same row of the operands and no other. So the instructions fall into
/// phases: within one, a few rows can be taken through all steps while they are in the cache, by any thread,
/// in any order. A new phase begins only where a step reads an operand whole: attention its keys and values,
/// and what picks, shifts or averages rows. A transformer has one phase more than attentions.
///
/// Values that do not leave their phase need memory for a block of rows only, those of other phases for all
/// rows; values that do not live at the same time share it.
///
/// Length: one pass after the other over the same tables.
#pragma once

#include <repquant/infer/execute.hpp>
#include <repquant/infer/workspace.hpp>

#include <utility>

namespace repquant {

/// Where a value lies.
struct place {
  enum class memory : std::uint8_t {
    none,    ///< no operand
    input,   ///< the caller's input
    output,  ///< the caller's result
    shared,  ///< for all rows
    block,   ///< for the rows of a block
  };
  memory kind = memory::none;
  std::int32_t row_bytes = 0;  ///< from row to row
  std::int32_t rows = 0;       ///< of a sample, as model_rows::output counts
  index offset = 0;            ///< bytes in front of it, times the rows that its memory is made for
};

/// One instruction, with the places of its operands and its result.
struct plan_step {
  std::int32_t instruction = 0;
  place a, b, c, out;
  index cache_offset = 0;  ///< of an attention: bytes in front of what a decoder keeps, for each token
};

/// Steps that a block of rows takes together, all with results of as many rows.
struct plan_phase {
  std::int32_t first = 0;  ///< in plan::steps
  std::int32_t count = 0;
  std::int32_t rows = 0;  ///< as model_rows::output counts
};

/// The whole of it. Points to memory of plan_bytes.
struct plan {
  std::span<const plan_step> steps;
  std::span<const plan_phase> phases;
  index shared_row_bytes = 0;  ///< bytes of shared memory, for each row of each sample
  index block_row_bytes = 0;   ///< bytes of block memory, for each row of a block
  index cache_row_bytes = 0;   ///< bytes of a decoder's cache, for each token
  /// False where a causal attention may have fewer keys than queries: then a sample stays in one block.
  bool splits = true;
  bool result_is_input = false;  ///< the result of the model is its input
};

namespace detail {

/// What a plan has to know of a value. Value 0 is the input, value i + 1 the result of instruction i.
struct planned_value {
  std::array<std::int32_t, 3> operands{-1, -1, -1};  ///< the values that its instruction reads
  std::int32_t stage = 0;                            ///< operands that are read whole stand in an earlier one
  std::int32_t phase = -1;                           ///< of its instruction; -1 for the input
  std::int32_t step = -1;                            ///< likewise
  std::int32_t last_phase = -1;                      ///< of the last step that reads it
  std::int32_t last_step = -1;
  std::int32_t part = -1;  ///< which piece of its memory it lies in
  place where;
};

/// A piece of memory that values use one after the other.
struct memory_part {
  index row_bytes = 0;
  std::int32_t busy_until = -1;  ///< the last step or phase that needs what is there
};

/// Finds who reads what, and stages. Returns the value that is the result of the model.
inline std::size_t find_values(const model_view& m, std::span<planned_value> values, bool& splits) noexcept {
  std::array<std::int32_t, most_registers> file{};
  values[0].where.kind = place::memory::input;
  values[0].where.row_bytes = 4 * m.header().input_cols;
  for (std::size_t i = 0; i < m.instructions().size(); ++i) {
    const instruction& s = m.instructions()[i];
    const std::array<std::int32_t, 3> registers{s.a, s.b, s.c};
    planned_value& v = values[i + 1];
    std::array<std::int32_t, 3> rows{};
    for (std::size_t k = 0; k < static_cast<std::size_t>(operand_count(s.kind)); ++k) {
      v.operands[k] = file[static_cast<std::size_t>(registers[k])];
      const planned_value& operand = values[static_cast<std::size_t>(v.operands[k])];
      rows[k] = operand.where.rows;
      v.stage = std::max(v.stage, operand.stage + (reads_whole(s.kind, static_cast<int>(k)) ? 1 : 0));
    }
    v.where.row_bytes = s.cols * (s.kind == opcode::encode ? 1 : 4);
    v.where.rows = rows_after(s.kind, rows[0]);
    if (s.kind == opcode::attention && s.flag != 0) {
      const auto [queries, keys, unused] = rows;
      const bool enough = queries < 0 && keys >= 0 ? keys + 1 >= -queries  // one row of input or more
                          : queries < 0            ? keys <= queries
                                                   : keys >= queries;
      splits = splits && enough;
    }
    file[static_cast<std::size_t>(s.out)] = static_cast<std::int32_t>(i) + 1;
  }
  return static_cast<std::size_t>(file[static_cast<std::size_t>(m.header().output)]);
}

/// Orders the instructions by stage, and by rows where those of a stage differ; otherwise as they stand.
/// Returns how many phases there are.
inline std::size_t find_phases(std::span<planned_value> values, std::span<plan_phase> phases) noexcept {
  using key = std::pair<std::int32_t, std::int32_t>;  // stage, rows
  const auto results = values.subspan(1);
  const auto key_of = [](const planned_value& v) { return key{v.stage, v.where.rows}; };
  std::size_t count = 0;
  std::int32_t step = 0;
  for (key done{-1, 0}; step < static_cast<std::int32_t>(results.size()); ++count) {
    key next{std::numeric_limits<std::int32_t>::max(), 0};
    for (const planned_value& v : results) {
      if (key_of(v) > done) next = std::min(next, key_of(v));
    }
    phases[count] = {step, 0, next.second};
    for (planned_value& v : results) {
      if (key_of(v) != next) continue;
      v.phase = static_cast<std::int32_t>(count);
      v.step = step++;
    }
    phases[count].count = step - phases[count].first;
    done = next;
  }
  return count;
}

/// Bytes of a row, rounded up to lines of the cache: whatever lies behind begins on one.
constexpr index whole_lines(std::int32_t row_bytes) noexcept { return (index{row_bytes} + 63) / 64 * 64; }

/// Takes the first piece that is free at `begin` and keeps it until `end`.
inline std::int32_t take_part(std::span<memory_part> parts, std::int32_t row_bytes, std::int32_t begin,
                              std::int32_t end) noexcept {
  std::size_t p = 0;
  while (parts[p].busy_until >= begin) ++p;
  parts[p].row_bytes = std::max(parts[p].row_bytes, whole_lines(row_bytes));
  parts[p].busy_until = std::max(begin, end);
  return static_cast<std::int32_t>(p);
}

/// Turns the sizes of the pieces into what lies in front of each, and returns the sum.
inline index add_up(std::span<memory_part> parts) noexcept {
  index sum = 0;
  for (memory_part& p : parts) sum += std::exchange(p.row_bytes, sum);
  return sum;
}

}  // namespace detail

/// Bytes that make_plan needs for a model of so many instructions, some of them scratch.
constexpr std::size_t plan_bytes(std::size_t instructions) noexcept {
  const auto n = static_cast<index>(instructions);
  return workspace_alignment + workspace_bytes_of<plan_step>(n) + workspace_bytes_of<plan_phase>(n) +
         workspace_bytes_of<detail::planned_value>(n + 1) +
         2 * workspace_bytes_of<detail::memory_part>(n + 1);
}

/// Makes the plan of a model. kept_bytes(instruction) says how many bytes a decoder keeps of each token for
/// an instruction.
///
/// Requires  memory of plan_bytes, which the plan goes on pointing to
/// Cost      instructions times phases; no heap
template<class KeptBytes>
plan make_plan(const model_view& m, std::span<std::byte> memory, const KeptBytes& kept_bytes) noexcept {
  const auto n = static_cast<index>(m.instructions().size());
  workspace_parts all(memory);
  const auto steps = all.take<plan_step>(n);
  const auto phases = all.take<plan_phase>(n);
  const auto values = all.take<detail::planned_value>(n + 1);
  const auto shared = all.take<detail::memory_part>(n + 1);
  const auto blocks = all.take<detail::memory_part>(n + 1);
  std::fill(values.begin(), values.end(), detail::planned_value{});
  std::fill(shared.begin(), shared.end(), detail::memory_part{});
  std::fill(blocks.begin(), blocks.end(), detail::memory_part{});

  plan p;
  const std::size_t result = detail::find_values(m, values, p.splits);
  p.result_is_input = result == 0;
  p.phases = phases.first(detail::find_phases(values, phases));
  // who reads each value last, and which ones have to outlive a block
  for (std::size_t i = 1; i < values.size(); ++i) {
    const detail::planned_value& reader = values[i];
    for (std::size_t k = 0; k < reader.operands.size() && reader.operands[k] >= 0; ++k) {
      detail::planned_value& v = values[static_cast<std::size_t>(reader.operands[k])];
      v.last_phase = std::max(v.last_phase, reader.phase);
      v.last_step = std::max(v.last_step, reader.step);
      if (v.where.kind != place::memory::input && v.phase != reader.phase)
        v.where.kind = place::memory::shared;
    }
  }
  // places, in the order of the steps: steps[k] names the instruction of step k for now
  for (std::size_t i = 1; i < values.size(); ++i) {
    plan_step step;
    step.instruction = static_cast<std::int32_t>(i) - 1;
    steps[static_cast<std::size_t>(values[i].step)] = step;
  }
  for (const plan_step& s : steps) {
    detail::planned_value& v = values[static_cast<std::size_t>(s.instruction) + 1];
    if (static_cast<std::size_t>(s.instruction) + 1 == result) {
      v.where.kind = place::memory::output;
    } else if (v.where.kind == place::memory::shared) {
      v.part = detail::take_part(shared, v.where.row_bytes, v.phase, v.last_phase);
    } else {
      v.where.kind = place::memory::block;
      v.part = detail::take_part(blocks, v.where.row_bytes, v.step, v.last_step);
    }
  }
  p.shared_row_bytes = detail::add_up(shared);
  p.block_row_bytes = detail::add_up(blocks);
  for (std::size_t i = 1; i < values.size(); ++i) {
    detail::planned_value& v = values[i];
    if (v.part < 0) continue;
    const auto& parts = v.where.kind == place::memory::shared ? shared : blocks;
    v.where.offset = parts[static_cast<std::size_t>(v.part)].row_bytes;
  }
  for (plan_step& s : steps) {
    const detail::planned_value& v = values[static_cast<std::size_t>(s.instruction) + 1];
    const auto place_of = [&](std::size_t k) {
      return v.operands[k] < 0 ? place{} : values[static_cast<std::size_t>(v.operands[k])].where;
    };
    s = {s.instruction, place_of(0), place_of(1), place_of(2), v.where, p.cache_row_bytes};
    p.cache_row_bytes += kept_bytes(m.instructions()[static_cast<std::size_t>(s.instruction)]);
  }
  p.steps = steps;
  return p;
}

}  // namespace repquant
