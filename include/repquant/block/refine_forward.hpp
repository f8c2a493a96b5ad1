// SPDX-License-Identifier: MIT
/// refine_forward: instructions of a model in float on a tape, with fake quantization.
#pragma once

#include <repquant/block/refine_leaves.hpp>
#include <repquant/kernel/encode_with_feedback.hpp>
#include <repquant/train/activations.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/fake_quantize.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>
#include <repquant/train/rows.hpp>
#include <repquant/train/splitmix64.hpp>

#include <vector>

namespace repquant::detail {

/// A sample of an endless source.
struct refine_drawn {
  index number = -1;
  refinement_sample sample;
  std::vector<matrix<>> targets;  ///< what the float program gives at the end of each range
};

/// Runs instructions of one sample on its tape.
struct refine_forward {
  const model_view& model;
  const refine_flow& flow;
  const refine_parameters& parameters;
  const std::vector<refine_leaf_set>& leaves;
  std::vector<bool> trained;  ///< of each instruction: its leaves are variables
  float drop = 0;             ///< share of codes left in float

  /// What a pass of one sample holds.
  struct pass {
    tape t;
    std::vector<node> values;             ///< of each value of the flow
    std::vector<std::vector<node>> leaf;  ///< of each instruction
    splitmix64 random;
    const refine_drawn* drawn = nullptr;  ///< its sample, where a phase draws them

    void start(std::size_t count) {
      t.clear();
      values.assign(count, {});
      leaf.assign(count, {});
    }
  };

  /// Records the instruction.
  ///
  /// Requires  its operands are on the tape
  void run(pass& x, int i) const {
    const auto at = static_cast<std::size_t>(i);
    const instruction& s = flow.code[at];
    for (const matrix<>& m : leaves[at].value) {
      x.leaf[at].push_back(m.size() == 0 ? node{} : trained[at] ? x.t.variable(m) : x.t.constant(m));
    }
    x.values[static_cast<std::size_t>(s.out)] = compute(x, i, s);
  }

 private:
  [[nodiscard]] node value(const pass& x, int v) const { return x.values[static_cast<std::size_t>(v)]; }

  node compute(pass& x, int i, const instruction& s) const {
    namespace d = differentiable;
    const std::vector<node>& leaf = x.leaf[static_cast<std::size_t>(i)];
    const node a = value(x, s.a);
    switch (s.kind) {
      case opcode::encode:
        return encode(x, i, a);
      case opcode::linear:
        return d::linear(x.t, a, leaf[0], leaf[1]);
      case opcode::norm:
        return s.flag == 0 ? d::layer_norm(x.t, a, leaf[0], leaf[1], s.eps)
                           : d::rms_norm(x.t, a, leaf[0], s.eps);
      case opcode::attention:
        return attention(x, i, s);
      case opcode::add:
        return d::add(x.t, a, value(x, s.b));
      case opcode::multiply:
        return d::multiply(x.t, a, value(x, s.b));
      case opcode::activate:
        return d::activate(x.t, static_cast<activation>(s.function), a);
      case opcode::prepend_row:
        return d::prepend_row(x.t, x.t.constant(read_matrix<float>(model, s.data[0], 1, s.cols)), a);
      case opcode::add_rows:
        return d::add_rows(x.t, a, x.t.constant(read_matrix<float>(model, s.data[0], s.inner, s.cols)));
      case opcode::select_row:
        return d::select_row(x.t, a, s.row);
      case opcode::mean_rows:
        return d::mean_rows(x.t, a);
      case opcode::rotate: {
        const index half = s.cols / 2 / s.heads;
        const auto table = [&](std::uint64_t offset) {
          return matrix_view(model.numbers<float>(offset, static_cast<std::size_t>(s.inner * half)).data(),
                             s.inner, half);
        };
        return d::rotate(x.t, a, table(s.data[0]), table(s.data[1]));
      }
      case opcode::mix_heads:
        return d::mix_heads(x.t, a,
                            matrix_view(model
                                            .numbers<float>(s.data[0], static_cast<std::size_t>(s.cols) *
                                                                           static_cast<std::size_t>(s.inner))
                                            .data(),
                                        s.cols, s.inner));
      case opcode::hadamard:
        return d::hadamard(x.t, a, model.numbers<float>(s.data[0], static_cast<std::size_t>(s.cols)));
    }
    return a;
  }

  /// What a code is made of where the errors of others are fed back: that moves the value by a constant, up
  /// to one rounding. Rows that are left in float have no errors that others could make good.
  node fed_back(pass& x, const instruction& s, node a, const std::vector<node>& leaf,
                std::uint64_t seed) const {
    if (s.inner == 0) return a;
    const matrix<>& scale = x.t.value(leaf[0]);
    const matrix<> zero = rounded(x.t.value(leaf[1]));
    std::vector<affine> params;
    for (index j = 0; j < scale.cols(); ++j)
      params.push_back({scale(0, j), static_cast<std::int32_t>(zero(0, zero.cols() > 1 ? j : 0))});
    const matrix<>& value = x.t.value(a);
    matrix<> moved(value.rows(), value.cols());
    move_by_feedback(uniform{.bits = s.bits}, params, feedback_of(s, model.constants()), value.data(),
                     value.rows(), value.cols(), moved.data());
    for (index t = 0; t < value.rows(); ++t) {
      if (differentiable::drops_row(drop, seed, t)) moved.row(t) = value.row(t);
    }
    return differentiable::add(x.t, a, x.t.constant(matrix<>(moved - value)));
  }
  node encode(pass& x, int i, node a) const {
    const auto at = static_cast<std::size_t>(i);
    const std::vector<node>& leaf = x.leaf[at];
    const bool counted = parameters.units[at].counted;
    const std::uint64_t seed = drop > 0 ? x.random() : 0;
    a = fed_back(x, flow.code[at], a, leaf, seed);
    return differentiable::fake_quantize(
        x.t, a, leaf[0], leaf[1],
        {.levels = 1 << flow.code[at].bits,
         .unit = counted ? differentiable::fake_unit::count : differentiable::fake_unit::growth,
         .drop = drop,
         .seed = seed,
         .drop_rows = flow.code[at].inner > 0},
        counted ? node{} : x.t.constant(parameters.units[at].base));
  }
  /// Codes less their zero points, as an attention that subtracts other ones sees them.
  node seen(pass& x, int v, std::uint64_t zeros, index cols) const {
    const matrix<>& own = parameters.units[static_cast<std::size_t>(v - 1)].pinned;
    if (own.size() == 0) return value(x, v);
    const matrix<> read = read_matrix<std::int32_t>(model, zeros, 1, cols);
    return differentiable::add(x.t, value(x, v), x.t.constant(matrix<>(own - read)));
  }

  node attention(pass& x, int i, const instruction& s) const {
    namespace d = differentiable;
    const auto at = static_cast<std::size_t>(i);
    const std::vector<node>& leaf = x.leaf[at];
    const index kv_cols = static_cast<index>(s.kv_heads) * s.inner;
    const node v =
        d::multiply(x.t, seen(x, s.c, s.data[2], kv_cols), x.t.constant(parameters.units[at].value_scale));
    const auto kind = static_cast<probability_kind>(s.probability);
    return d::attention(x.t, seen(x, s.a, s.data[1], s.cols), value(x, s.b), v, leaf[0], leaf[1],
                        {.heads = s.heads, .kv_heads = s.kv_heads, .causal = s.flag != 0},
                        {.coded = true,
                         .code = {.kind = kind,
                                  .bits = s.probability_bits,
                                  .zero = static_cast<zero_rule>(s.probability_zero_rule),
                                  .depth = s.probability_depth,
                                  .zero_point = s.probability_zero,
                                  .relative = s.probability_relative != 0},
                         .drop = drop,
                         .seed = drop > 0 ? x.random() : 0});
  }
};

}  // namespace repquant::detail
