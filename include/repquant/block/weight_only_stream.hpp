// SPDX-License-Identifier: MIT
/// weight_only_stream: the samples of quantize_weights on their way through a program, in float and with the
/// weights quantized so far.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/block/reconstruct_weight.hpp>
#include <repquant/parallel/concept.hpp>
#include <repquant/reconstruct/cross_gram.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>
#include <repquant/reconstruct/pre_correct.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace repquant {

/// What became of the weights of one linear layer.
struct weight_only_report {
  std::string path;
  int bits = 0;
  index group = 0;        ///< inputs that share parameters: the recipe's, or all
  double error = 0;       ///< tr((W' - Q) H (W' - Q)^T) / tr(W' H W'^T), W' the pre-corrected weights
  double correction = 0;  ///< |W' - W| / |W|, Frobenius norms
  reconstruction_report reconstruction;
};

/// A program whose linear layers hold the values of their codes, and how they came about.
struct weight_only_program {
  program network;
  std::vector<weight_only_report> layers;  ///< in the order of the program
};

namespace detail {

/// The two streams of all samples, step by step.
template<class Recipe, Executor E>
class weight_only_stream {
 public:
  weight_only_stream(const program& p, const Recipe& recipe, const E& exec)
      : original_(p), recipe_(recipe), exec_(exec), grams_(p.value_cols.size()) {
    result_.network = p;
  }

  failure start(std::span<const matrix<>> samples) {
    if (failure f = check_samples(original_, samples)) return f;
    for (const matrix<>& x : samples) {
      target_.emplace_back(original_.value_cols.size());
      actual_.emplace_back(original_.value_cols.size());
      target_.back()[0] = actual_.back()[0] = x;
    }
    return {};
  }
  failure advance(std::size_t at) {
    const step& s = original_.steps[at];
    exec_(samples(), [&](index i) { set(target_, i, s.out, evaluate(original_, s, of(target_, i))); });
    if (s.kind == step_kind::linear && !kept(s.path)) {
      if (failure f = quantize(at)) return f.within(s.path);
    }
    exec_(samples(), [&](index i) { set(actual_, i, s.out, evaluate(result_.network, s, of(actual_, i))); });
    if (s.kind == step_kind::linear && recipe_.correct_bias && !kept(s.path)) correct_bias(s);
    for (activations& x : target_) free_unused(original_, at, x);
    for (activations& x : actual_) free_unused(original_, at, x);
    for (int v : {s.a, s.b, s.c}) {
      if (v >= 0 && value_of(actual_, 0, v).size() == 0) grams_[static_cast<std::size_t>(v)] = {};
    }
    return {};
  }
  weight_only_program finish() { return std::move(result_); }

 private:
  [[nodiscard]] index samples() const noexcept { return static_cast<index>(target_.size()); }
  static const activations& of(const std::vector<activations>& all, index i) {
    return all[static_cast<std::size_t>(i)];
  }
  static const matrix<>& value_of(const std::vector<activations>& all, index i, int v) {
    return of(all, i)[static_cast<std::size_t>(v)];
  }
  static void set(std::vector<activations>& all, index i, int v, matrix<> x) {
    all[static_cast<std::size_t>(i)][static_cast<std::size_t>(v)] = std::move(x);
  }
  [[nodiscard]] bool kept(const std::string& path) const {
    return std::find(recipe_.keep_float.begin(), recipe_.keep_float.end(), path) != recipe_.keep_float.end();
  }

  result<const gram*> gram_of_inputs(int v) {
    gram& h = grams_[static_cast<std::size_t>(v)];
    if (h.tokens > 0) return static_cast<const gram*>(&h);
    gram_accumulator sum(original_.value_cols[static_cast<std::size_t>(v)]);
    for (index i = 0; i < samples(); ++i) {
      if (failure f = sum.add(value_of(actual_, i, v), exec_)) return f;
    }
    h = sum.total();
    return static_cast<const gram*>(&h);
  }
  /// The error of value v beside the inputs x, over all samples.
  result<cross_gram> cross(int v, int x) const {
    cross_gram_accumulator sum(original_.value_cols[static_cast<std::size_t>(v)],
                               original_.value_cols[static_cast<std::size_t>(x)]);
    for (index i = 0; i < samples(); ++i) {
      if (failure f =
              sum.add(value_of(target_, i, v), value_of(actual_, i, v), value_of(actual_, i, x), exec_))
        return f;
    }
    return sum.total();
  }
  /// The value that the output of step s is added to, where both streams have it already; -1 for none.
  [[nodiscard]] int known_residual(const step& s) const {
    const int other = residual_of(original_, s.out);
    if (other < 0) return -1;
    return value_of(target_, 0, other).rows() == value_of(target_, 0, s.a).rows() ? other : -1;
  }
  result<matrix<>> corrected(const step& s, const matrix<>& weight, const gram& h) const {
    matrix<> w = weight;
    if (recipe_.alpha > 0) {
      const auto c = cross(s.a, s.a);
      if (!c) return c.error();
      auto changed = pre_correct(w, *c, h, recipe_.correction_damping, recipe_.alpha);
      if (!changed) return changed.error();
      w = *std::move(changed);
    }
    const int residual = recipe_.alpha_residual > 0 ? known_residual(s) : -1;
    if (residual >= 0) {
      const auto e = cross(residual, s.a);
      if (!e) return e.error();
      return pre_correct_residual(w, *e, h, recipe_.correction_damping, recipe_.alpha_residual);
    }
    return w;
  }
  failure quantize(std::size_t number) {
    const step& s = original_.steps[number];
    const matrix<>& weight = original_.linears[static_cast<std::size_t>(s.layer)].weight;
    const auto h = gram_of_inputs(s.a);
    if (!h) return h.error();
    const auto w = corrected(s, weight, **h);
    if (!w) return w.error();
    const index group = recipe_.group > 0 ? std::min(recipe_.group, weight.cols()) : weight.cols();
    const float size = weight.norm();
    weight_only_report report{
        s.path, recipe_.weight.bits, group, 0, size > 0 ? (*w - weight).norm() / size : 0, {}};
    const bool whole = group == weight.cols();
    const matrix<> padded = whole ? *w : pad_columns(*w, group);
    const gram padded_gram = whole ? **h : pad_columns(**h, group);
    const auto values =
        whole ? reconstruct_weight(recipe_, per_row{}, padded, padded_gram, exec_, report.reconstruction)
              : reconstruct_weight(recipe_, per_group{group}, padded, padded_gram, exec_,
                                   report.reconstruction);
    if (!values) return values.error();
    const double signal = output_error(matrix<double>(w->template cast<double>()), **h);
    report.error = signal > 0 ? report.reconstruction.loss / signal : 0;
    report.reconstruction.dead_columns -= padded.cols() - weight.cols();
    result_.network.linears[static_cast<std::size_t>(s.layer)].weight = values->leftCols(weight.cols());
    result_.layers.push_back(std::move(report));
    return {};
  }
  /// Moves the mean error of the output, summed in sample order, into the bias of a layer that has one.
  void correct_bias(const step& s) {
    column<>& bias = result_.network.linears[static_cast<std::size_t>(s.layer)].bias;
    if (bias.size() == 0) return;
    column<double> sum = column<double>::Zero(bias.size());
    double tokens = 0;
    for (index i = 0; i < samples(); ++i) {
      sum += (value_of(target_, i, s.out).template cast<double>() -
              value_of(actual_, i, s.out).template cast<double>())
                 .colwise()
                 .sum()
                 .transpose();
      tokens += static_cast<double>(value_of(actual_, i, s.out).rows());
    }
    const column<> shift = (sum / tokens).template cast<float>();
    bias += shift;
    for (activations& x : actual_) x[static_cast<std::size_t>(s.out)].rowwise() += shift.transpose();
  }

  const program& original_;
  const Recipe& recipe_;
  const E& exec_;
  weight_only_program result_;
  std::vector<activations> target_;
  std::vector<activations> actual_;
  std::vector<gram> grams_;
};

}  // namespace detail

}  // namespace repquant
