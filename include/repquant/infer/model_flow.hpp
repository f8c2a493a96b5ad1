// SPDX-License-Identifier: MIT
/// follow: walks a model once without running it and says what each instruction finds in its registers. What
/// it proves, running relies on: operands were written, have the kind, the columns and the rows that the
/// instruction wants, and no result is larger than its register.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/core/shape.hpp>
#include <repquant/infer/model_format.hpp>

#include <algorithm>
#include <array>
#include <limits>

namespace repquant {

/// How many rows an input may have, and how many rows follow from it.
struct model_rows {
  std::int32_t extra = 0;   ///< most rows that any register holds beyond those of the input
  std::int32_t least = 1;   ///< least input rows
  std::int32_t most = 0;    ///< most input rows, 0 for any number
  std::int32_t output = 0;  ///< rows of the result: n >= 0 is n more than the input has, n < 0 exactly -n
  friend constexpr bool operator==(const model_rows&, const model_rows&) = default;
};

/// More registers than this are refused, so that the walk needs no memory. Values that do not live at the
/// same time share a register, so a transformer needs about ten.
inline constexpr std::uint32_t most_registers = 256;

/// Operands that an instruction reads: a, or a and b, or a, b and c.
constexpr int operand_count(opcode kind) noexcept {
  return kind == opcode::attention ? 3 : kind == opcode::add || kind == opcode::multiply ? 2 : 1;
}

/// Rows of a result whose first operand has `rows`, both counted as model_rows::output is.
constexpr std::int32_t rows_after(opcode kind, std::int32_t rows) noexcept {
  if (kind == opcode::select_row || kind == opcode::mean_rows) return -1;
  if (kind == opcode::prepend_row) return rows < 0 ? rows - 1 : rows + 1;
  return rows;
}
/// The number that such a count stands for where the input has `input` rows.
constexpr index count_rows(std::int32_t rows, index input) noexcept {
  return rows < 0 ? -index{rows} : input + rows;
}

namespace detail {

/// What a register holds at a point of the walk. Rows are counted as model_rows::output is.
struct register_state {
  enum class content : std::uint8_t { nothing, reals, codes };
  content holds = content::nothing;
  std::int32_t bits = 0;
  std::int32_t cols = 0;
  std::int32_t rows = 0;
};

/// What an instruction wants of operand k: reals or codes of at most so many bits, and how many columns.
constexpr register_state wanted(const instruction& s, int k) noexcept {
  if (s.kind == opcode::linear) return {register_state::content::codes, s.bits_a, s.inner, 0};
  if (s.kind != opcode::attention) return {register_state::content::reals, 0, s.cols, 0};
  return {register_state::content::codes, s.bits_a, s.inner * (k == 0 ? s.heads : s.kv_heads), 0};
}

/// Adjusts the limits of `rows` to an instruction that picks a row or reads a table; false where no input
/// suits it.
constexpr bool limit(const instruction& s, std::int32_t operand, model_rows& rows) noexcept {
  if (s.kind == opcode::select_row) {
    const std::int64_t need = s.row < 0 ? -std::int64_t{s.row} : std::int64_t{s.row} + 1;
    if (operand < 0) return need <= -operand;
    rows.least = static_cast<std::int32_t>(std::max<std::int64_t>(rows.least, need - operand));
    return need - operand <= std::numeric_limits<std::int32_t>::max();
  }
  if (s.kind == opcode::add_rows || s.kind == opcode::rotate) {
    if (operand < 0) return -operand <= s.inner;
    const std::int32_t most = s.inner - operand;
    rows.most = rows.most == 0 ? most : std::min(rows.most, most);
    return most > 0;
  }
  return true;
}

}  // namespace detail

/// Walks a model. Register 0 holds the input at the start.
///
/// Requires  register numbers below `registers`, and sizes that are not negative
/// Errors    too_large (registers); bad_format, got = the instruction: an operand that was not written, of
///           the wrong kind, with codes of more bits than the instruction allows, or that is the result,
///           too; shape_mismatch, got = the instruction: columns, or rows of two operands, that do not fit,
///           or limits that no input meets
/// Cost      one pass over the instructions; 4 KB of stack
inline failure follow(std::span<const instruction> code, std::uint32_t registers, std::int32_t input_cols,
                      std::int32_t output, std::int32_t output_cols, model_rows& rows) noexcept {
  using content = detail::register_state::content;
  if (registers > most_registers) return {errc::too_large, "model: registers", registers, most_registers};
  std::array<detail::register_state, most_registers> file{};
  file[0] = {content::reals, 0, input_cols, 0};
  model_rows found;
  for (std::size_t i = 0; i < code.size(); ++i) {
    const instruction& s = code[i];
    const auto at = static_cast<std::int64_t>(i);
    const std::int32_t numbers[] = {s.a, s.b, s.c};
    const auto operand = [&](int k) { return file[static_cast<std::size_t>(numbers[k])]; };
    for (int k = 0; k < operand_count(s.kind); ++k) {
      const detail::register_state want = detail::wanted(s, k);
      const detail::register_state got = operand(k);
      if (got.holds != want.holds || got.bits > want.bits || numbers[k] == s.out)
        return {errc::bad_format, "model: contents of an operand of instruction", at, numbers[k]};
      if (got.cols != want.cols)
        return {errc::shape_mismatch, "model: columns of an operand of instruction", at, want.cols};
    }
    const bool two = s.kind == opcode::add || s.kind == opcode::multiply;
    if ((two && operand(0).rows != operand(1).rows) ||
        (s.kind == opcode::attention && operand(1).rows != operand(2).rows)) {
      return {errc::shape_mismatch, "model: rows of two operands of instruction", at, numbers[1]};
    }
    detail::register_state result = operand(0);
    result.holds = s.kind == opcode::encode ? content::codes : content::reals;
    result.bits = s.kind == opcode::encode ? s.bits : 0;
    result.cols = s.cols;
    if (!detail::limit(s, result.rows, found))
      return {errc::shape_mismatch, "model: rows of instruction", at, s.row};
    result.rows = rows_after(s.kind, result.rows);
    // exactly n rows are at most n - 1 beyond the input, which has one or more
    found.extra = std::max(found.extra, result.rows < 0 ? -result.rows - 1 : result.rows);
    file[static_cast<std::size_t>(s.out)] = result;
  }
  const detail::register_state last = file[static_cast<std::size_t>(output)];
  if (last.holds != content::reals || last.cols != output_cols)
    return {errc::bad_format, "model: result", last.cols, output_cols};
  if (found.most != 0 && found.least > found.most)
    return {errc::shape_mismatch, "model: least rows", found.least, found.most};
  found.output = last.rows;
  rows = found;
  return {};
}

}  // namespace repquant
