// SPDX-License-Identifier: MIT
/// program: what a block does, as a list of steps on numbered values. Made by tracing a block once
/// (block/trace.hpp); every later pass (float run, calibration, quantization) walks this list and
/// compares no strings.
#pragma once

#include <repquant/infer/activation.hpp>
#include <repquant/infer/model_format.hpp>
#include <repquant/layer/linear.hpp>
#include <repquant/layer/norm.hpp>

#include <string>
#include <variant>
#include <vector>

namespace repquant {

/// An activation matrix [tokens x cols] of a traced block. Only a name for it: it holds no numbers.
struct value {
  int id = -1;
  index cols = 0;
};

/// How an attention is read.
struct attention_options {
  index heads = 1;
  index kv_heads = 0;   ///< key/value heads, each shared by heads / kv_heads query heads; 0 means heads
  float scale = 0;      ///< factor before the softmax; 0 means 1 / sqrt(head size)
  bool causal = false;  ///< token i sees tokens 0 .. i only
};

/// What one step computes. The operands and the result are values.
enum class step_kind : std::uint8_t {
  linear,       ///< out = a W^T + b
  norm,         ///< out = layer_norm(a) or rms_norm(a)
  attention,    ///< out = softmax(a b^T scale) c per head
  add,          ///< out = a + b
  multiply,     ///< out = a * b, entry by entry
  activate,     ///< out = f(a), entry by entry
  prepend_row,  ///< out = [row; a]
  add_rows,     ///< out = a + table, row by row
  select_row,   ///< out = one row of a
  mean_rows,    ///< out = the mean over the rows of a
  rotate,       ///< out = rotary positions on a, per head
  hadamard,     ///< out = a's columns scaled and mixed (hadamard_row); what spread_inputs puts in
  mix_heads,    ///< out = a's heads in other bases (mix_heads_row); what balance_attention puts in
};

/// One step of a program.
struct step {
  step_kind kind = step_kind::add;
  std::string path;  ///< scoped name, e.g. "block.2.fc1"; empty for steps without parameters
  int out = -1;
  int a = -1;
  int b = -1;
  int c = -1;
  int layer = -1;  ///< linear: index in linears; norm: in norms; prepend_row, add_rows: in constants; rotate:
                   ///< cosines in constants, and sines behind them; hadamard, mix_heads: factors or
                   ///< matrices in constants
  activation function = activation::relu;
  attention_options attention;  ///< rotate: its heads
  index row = 0;                ///< select_row: which; negative counts from the last
};

/// A norm of either kind.
using any_norm = std::variant<layer_norm, rms_norm>;

/// What a traced block does. Value 0 is the input; the steps are in an order in which they can run.
struct program {
  std::vector<step> steps;
  std::vector<index> value_cols;    ///< columns of each value
  std::vector<linear> linears;      ///< one per linear step: calls of a shared layer get their own copy
  std::vector<any_norm> norms;      ///< one per norm step
  std::vector<matrix<>> constants;  ///< class tokens, position tables, angles
  int output = -1;

  [[nodiscard]] index input_cols() const noexcept { return value_cols.front(); }
  [[nodiscard]] index output_cols() const noexcept { return value_cols[static_cast<std::size_t>(output)]; }

  /// Indices of the steps that read value v, in order.
  [[nodiscard]] std::vector<int> readers(int v) const {
    std::vector<int> r;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const step& s = steps[i];
      if (s.a == v || s.b == v || s.c == v) r.push_back(static_cast<int>(i));
    }
    return r;
  }
};

namespace detail {
/// The opcode of a step.
constexpr opcode opcode_of(step_kind k) noexcept {
  switch (k) {
    case step_kind::linear:
      return opcode::linear;
    case step_kind::norm:
      return opcode::norm;
    case step_kind::attention:
      return opcode::attention;
    case step_kind::add:
      return opcode::add;
    case step_kind::multiply:
      return opcode::multiply;
    case step_kind::activate:
      return opcode::activate;
    case step_kind::prepend_row:
      return opcode::prepend_row;
    case step_kind::add_rows:
      return opcode::add_rows;
    case step_kind::select_row:
      return opcode::select_row;
    case step_kind::mean_rows:
      return opcode::mean_rows;
    case step_kind::rotate:
      return opcode::rotate;
    case step_kind::hadamard:
      return opcode::hadamard;
    case step_kind::mix_heads:
      return opcode::mix_heads;
  }
  return opcode::add;
}

/// The other operand of the addition that alone reads value v (the residual), or -1.
inline int residual_of(const program& p, int v) {
  const std::vector<int> readers = p.readers(v);
  if (readers.size() != 1) return -1;
  const step& s = p.steps[static_cast<std::size_t>(readers.front())];
  if (s.kind != step_kind::add || s.a == s.b) return -1;
  return s.a == v ? s.b : s.a;
}
}  // namespace detail

}  // namespace repquant
