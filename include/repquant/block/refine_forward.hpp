// SPDX-License-Identifier: MIT
/// refine_forward: instructions of a model in float on a tape, with fake quantization.
#pragma once

#include <repquant/block/refine_leaves.hpp>
#include <repquant/train/activations.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/fake_logarithmic.hpp>
#include <repquant/train/fake_quantize.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>
#include <repquant/train/rows.hpp>
#include <repquant/train/splitmix64.hpp>

#include <deque>
#include <vector>

namespace repquant::detail {

/// Runs instructions of one sample on its tape.
struct refine_forward {
  const model_view& model;
  const refine_flow& flow;
  const refine_parameters& parameters;
  const std::vector<refine_leaf_set>& leaves;
  std::vector<bool> trained;  ///< of each instruction: its leaves are variables
  float drop = 0;             ///< share of codes left in float

  /// What a pass of one sample holds. `masks` must outlive the tape's use of them.
  struct pass {
    tape t;
    std::vector<node> values;             ///< of each value of the flow
    std::vector<std::vector<node>> leaf;  ///< of each instruction
    std::deque<matrix<>> masks;
    splitmix64 random;

    void start(std::size_t count) {
      t.clear();
      masks.clear();
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
        return d::add(
            x.t,
            d::multiply_transposed(
                x.t, less_zero(x, s.a, matrix<>::Constant(1, s.inner, static_cast<float>(s.zero_a))),
                leaf[0]),
            leaf[1]);
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
    }
    return a;
  }

  /// Where chance says so, x itself instead of what it was quantized to.
  node drop_some(pass& x, node real, node quantized) const {
    if (drop <= 0) return quantized;
    matrix<>& mask = x.masks.emplace_back(x.t.value(real).rows(), x.t.value(real).cols());
    for (index k = 0; k < mask.size(); ++k) mask.data()[k] = x.random.unit() < drop ? 1.0F : 0.0F;
    return differentiable::choose(x.t, mask, real, quantized);
  }

  node encode(pass& x, int i, node a) const {
    namespace d = differentiable;
    const auto at = static_cast<std::size_t>(i);
    const std::vector<node>& leaf = x.leaf[at];
    const index cols = x.t.value(a).cols();
    node y = drop_some(x, a, d::fake_quantize(x.t, a, leaf[0], leaf[1], {.levels = 1 << flow.code[at].bits}));
    if (!parameters.units[at].whole_codes) {
      if (x.t.value(leaf[2]).cols() == 1) return d::scale(x.t, y, x.t.value(leaf[2])(0, 0));
      return d::multiply(x.t, y, x.t.constant(x.t.value(leaf[2])));
    }
    y = d::multiply(x.t, y, widened(x, leaf[2], cols));
    return d::add(x.t, y, widened(x, leaf[3], cols));
  }
  /// One number as a row of them.
  static node widened(pass& x, node a, index cols) {
    if (x.t.value(a).cols() == cols) return a;
    const node out = x.t.result(1, cols, {a});
    x.t.value_of(out).setConstant(x.t.value(a)(0, 0));
    x.t.on_backward(out, [a, out](tape& u) { u.gradient_of(a)(0, 0) += u.gradient(out).sum(); });
    return out;
  }
  /// Codes as a reader that subtracts `zero` sees them.
  node less_zero(pass& x, int v, const matrix<>& zero) const {
    const node codes = value(x, v);
    if (!parameters.units[static_cast<std::size_t>(v - 1)].whole_codes) return codes;
    return differentiable::add(x.t, codes, x.t.constant(matrix<>(-zero)));
  }

  node attention(pass& x, int i, const instruction& s) const {
    namespace d = differentiable;
    const auto at = static_cast<std::size_t>(i);
    const std::vector<node>& leaf = x.leaf[at];
    const index kv_cols = static_cast<index>(s.kv_heads) * s.inner;
    const d::attention_heads heads{.heads = s.heads, .kv_heads = s.kv_heads, .causal = s.flag != 0};
    const node q = less_zero(x, s.a, read_matrix<std::int32_t>(model, s.data[1], 1, s.cols));
    const node v = less_zero(x, s.c, read_matrix<std::int32_t>(model, s.data[2], 1, kv_cols));
    const node scores = d::scale_heads(x.t, d::attention_scores(x.t, q, value(x, s.b), heads), leaf[0]);
    const node p = d::softmax_rows(x.t, scores, heads);
    node coded = drop_some(x, p, probabilities(x, s, p, leaf[1]));
    if (heads.causal) coded = d::mask_hidden(x.t, coded, heads);
    const node scaled = d::multiply(x.t, v, x.t.constant(parameters.units[at].value_scale));
    return d::attention_values(x.t, coded, scaled, heads);
  }
  static node probabilities(pass& x, const instruction& s, node p, node scale) {
    namespace d = differentiable;
    const auto zero = static_cast<zero_rule>(s.probability_zero_rule);
    if (s.probability == probability_kind::as_log2) {
      return d::fake_quantize(x.t, p, scale,
                              log2{.bits = s.probability_bits, .zero = zero, .depth = s.probability_depth});
    }
    if (s.probability == probability_kind::as_log_sqrt2) {
      return d::fake_quantize(
          x.t, p, scale, log_sqrt2{.bits = s.probability_bits, .zero = zero, .depth = s.probability_depth});
    }
    const auto z = static_cast<float>(s.probability_zero);
    return d::fake_quantize(x.t, p, scale, x.t.constant(matrix<>::Constant(1, 1, z)),
                            {.levels = 1 << s.probability_bits});
  }
};

}  // namespace repquant::detail
