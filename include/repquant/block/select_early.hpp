// SPDX-License-Identifier: MIT
/// select_early: a program that reads one token at its end needs the last block's norm, MLP and output for
/// that token alone. Moving the selection forward changes no number, saves their work, and lets calibration
/// see just the rows that count.
#pragma once

#include <repquant/block/program.hpp>

#include <optional>
#include <utility>

namespace repquant {

namespace detail {
/// True where row t of the result depends on row t of the operands alone.
inline bool works_row_by_row(step_kind kind) noexcept {
  return kind == step_kind::linear || kind == step_kind::norm || kind == step_kind::add ||
         kind == step_kind::multiply || kind == step_kind::activate || kind == step_kind::hadamard ||
         kind == step_kind::mix_heads;
}

/// True where row `row` is all that is read of value v, or of what linear layers make of it.
inline bool all_select(const program& p, int v, index row) {
  for (int i : p.readers(v)) {
    const step& s = p.steps[static_cast<std::size_t>(i)];
    if (s.kind == step_kind::select_row && s.row == row) continue;
    if (s.kind != step_kind::linear || s.out == p.output) return false;
    for (int k : p.readers(s.out)) {
      const step& next = p.steps[static_cast<std::size_t>(k)];
      if (next.kind != step_kind::select_row || next.row != row) return false;
    }
  }
  return true;
}

/// Moves one selection in front of the step that makes its operand; false where none can move.
inline bool move_one_selection(program& p) {
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    if (p.steps[i].kind != step_kind::select_row) continue;
    const step select = p.steps[i];
    if (select.a == 0 || select.a == p.output || p.readers(select.a).size() != 1) continue;
    std::size_t maker = 0;
    while (p.steps[maker].out != select.a) ++maker;
    const step made = p.steps[maker];
    const bool attends = made.kind == step_kind::attention && (!made.attention.causal || select.row == -1);
    if (!works_row_by_row(made.kind) && !attends) continue;
    // a linear layer beside others (the query) keeps their common input, so that it is encoded once
    if (made.kind == step_kind::linear && !all_select(p, made.a, select.row)) continue;
    // select(f(a, b)) becomes f(select(a), select(b)); the value that select made is now made by f
    std::vector<step> replacement;
    step moved = made;
    moved.out = select.out;
    p.value_cols[static_cast<std::size_t>(select.out)] = p.value_cols[static_cast<std::size_t>(made.out)];
    const auto select_operand = [&](int operand) {
      step s = select;
      s.a = operand;
      s.out = static_cast<int>(p.value_cols.size());
      p.value_cols.push_back(p.value_cols[static_cast<std::size_t>(operand)]);
      replacement.push_back(s);
      return s.out;
    };
    moved.a = select_operand(made.a);
    if (made.kind == step_kind::add || made.kind == step_kind::multiply) {
      moved.b = made.b == made.a ? moved.a : select_operand(made.b);
    }
    replacement.push_back(moved);
    p.steps.erase(p.steps.begin() + static_cast<std::ptrdiff_t>(i));
    p.steps.erase(p.steps.begin() + static_cast<std::ptrdiff_t>(maker));
    p.steps.insert(p.steps.begin() + static_cast<std::ptrdiff_t>(maker), replacement.begin(),
                   replacement.end());
    return true;
  }
  return false;
}

/// Selections of the same row of the same value become one.
inline void merge_selections(program& p) {
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    if (p.steps[i].kind != step_kind::select_row) continue;
    for (std::size_t k = i + 1; k < p.steps.size();) {
      const step& other = p.steps[k];
      if (other.kind != step_kind::select_row || other.a != p.steps[i].a || other.row != p.steps[i].row) {
        ++k;
        continue;
      }
      const int gone = other.out;
      const int kept = p.steps[i].out;
      p.steps.erase(p.steps.begin() + static_cast<std::ptrdiff_t>(k));
      for (step& s : p.steps) {
        for (int* v : {&s.a, &s.b, &s.c}) *v = *v == gone ? kept : *v;
      }
      if (p.output == gone) p.output = kept;
    }
  }
}
}  // namespace detail

/// The program with each select_row moved in front of the row-by-row steps, and the attention's query, that
/// lead to it. A causal attention lets only the last row (-1) pass.
///
/// Precision  the same floats, bit for bit, wherever the float steps treat rows alike
/// Cost       quadratic in the steps
inline program select_early(program p) {
  do {
    detail::merge_selections(p);
  } while (detail::move_one_selection(p));
  return p;
}

/// For each value, the row that the program's output selects, seen from the values that lead to it row by
/// row; nothing where no one row is special. Negative rows count from the last.
inline std::vector<std::optional<index>> selected_rows(const program& p) {
  std::vector<std::optional<index>> rows(p.value_cols.size());
  for (std::size_t i = p.steps.size(); i-- > 0;) {
    const step& s = p.steps[i];
    const auto out = rows[static_cast<std::size_t>(s.out)];
    const auto mark = [&](int v, index row) { rows[static_cast<std::size_t>(v)] = row; };
    if (s.kind == step_kind::select_row) {
      mark(s.a, s.row);
    } else if (out && s.kind == step_kind::prepend_row) {
      if (*out > 0) mark(s.a, *out - 1);
      if (*out < 0) mark(s.a, *out);
    } else if (out && s.kind != step_kind::mean_rows) {
      mark(s.a, *out);
      if (s.kind == step_kind::add || s.kind == step_kind::multiply) mark(s.b, *out);
    }
  }
  return rows;
}

}  // namespace repquant
