// SPDX-License-Identifier: MIT
/// quantization: the state that the steps of quantize_block share, and what more than one of them does.
/// Length: one state, and each of its members is read by several steps.
#pragma once

#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/layer_evidence.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/block/recipe.hpp>
#include <repquant/block/select_early.hpp>
#include <repquant/block/shared_weights.hpp>
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/calibrate/find_feedback.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace repquant::detail {

/// A value as products see it: codes in a register. What a linear layer reads is always layer-wise
/// (`params`), because its weights took the difference.
struct coded_value {
  std::int32_t codes = -1;
  affine params{};
  int bits = 0;
};

/// Where a quantization stands. `folded` is the program whose norms and consumers were changed so far.
template<class Recipe, Executor E>
struct quantization {
  quantization(const program& p, const Recipe& r, const E& exec, const shared_weights& known)
      : original(p),
        folded(p),
        recipe(r),
        stream(p, exec),
        override_used(r.overrides.size(), false),
        shared(known),
        selected(selected_rows(p)) {
    inputs.resize(p.value_cols.size());
  }

  const program& original;
  program folded;
  const Recipe& recipe;
  calibration_stream<E> stream;
  std::vector<coded_value> inputs;  ///< of each value that linear layers read
  std::vector<bool> override_used;
  const shared_weights& shared;
  shared_evidence seen;                        ///< of the shared weights, for the next pass
  std::vector<std::optional<index>> selected;  ///< of each value, the row that the output selects
  std::map<int, reconstruction<uniform, per_row>> settled;  ///< of layers called several times, by group
  quantization_report report;

  [[nodiscard]] index cols(int value) const { return original.value_cols[static_cast<std::size_t>(value)]; }
  coded_value& input(int value) { return inputs[static_cast<std::size_t>(value)]; }

  /// The width of the site at `path`: `otherwise`, unless the recipe names another.
  int bits_of(std::string_view path, int otherwise) {
    for (std::size_t i = 0; i < recipe.overrides.size(); ++i) {
      if (recipe.overrides[i].path != path) continue;
      override_used[i] = true;
      return recipe.overrides[i].bits;
    }
    return otherwise;
  }
  [[nodiscard]] uniform activation_codec(int bits) const {
    uniform c = recipe.activation;
    c.bits = bits;
    return c;
  }
  template<class T>
  std::uint64_t constants(const T* data, index n) {
    return stream.writer().constants(std::span<const T>(data, static_cast<std::size_t>(n)));
  }

  /// The linear steps that read a value; empty where none does.
  [[nodiscard]] std::vector<const step*> linear_readers(int value) const {
    std::vector<const step*> readers;
    for (int i : original.readers(value)) {
      const step& s = original.steps[static_cast<std::size_t>(i)];
      if (s.kind == step_kind::linear) readers.push_back(&s);
    }
    return readers;
  }
  /// The changed layers that read a value.
  [[nodiscard]] std::vector<linear*> consumers(int value) {
    std::vector<linear*> layers;
    for (const step* r : linear_readers(value)) {
      layers.push_back(&folded.linears[static_cast<std::size_t>(r->layer)]);
    }
    return layers;
  }
  /// How much a token counts: 1, and recipe.selected_weight more for the row that the output selects.
  [[nodiscard]] double weight_of(int v, index token, index tokens) const {
    const auto row = selected[static_cast<std::size_t>(v)];
    if (!row) return 1;
    return token == (*row < 0 ? tokens + *row : *row) ? static_cast<double>(1 + recipe.selected_weight) : 1;
  }

  /// What an observer sees of value v: its quantized stream over all samples, the row that the output selects
  /// as often as it counts.
  template<class Observer, Granularity G>
  result<calibrator<Observer, G>> observe(int v, const std::string& path, G granularity,
                                          const Observer& observer) const {
    calibrator<Observer, G> watch(observer, granularity, cols(v), path);
    const auto row = selected[static_cast<std::size_t>(v)];
    for (index i = 0; i < stream.samples(); ++i) {
      const matrix<>& x = stream.reals(i, v);
      if (failure f = watch.observe(x)) return f;
      if (!row || recipe.selected_weight == 0) continue;
      const matrix<> again = x.row(*row < 0 ? x.rows() + *row : *row).replicate(recipe.selected_weight, 1);
      if (failure f = watch.observe(again)) return f;
    }
    return watch;
  }
  /// One parameter set for value v.
  template<class Observer>
  result<affine> calibrate(int v, const std::string& path, const uniform& codec,
                           const Observer& observer) const {
    const auto watch = observe(v, path, per_tensor{}, observer);
    if (!watch) return watch.error();
    const auto made = watch->make(codec, stream.executor());
    if (!made) return made.error();
    return made->params().front();
  }

  /// The sum over the linear layers that read a value of W^T W: what an error of it costs them.
  [[nodiscard]] matrix<double> readers_gram(int v) const {
    matrix<double> sum = matrix<double>::Zero(cols(v), cols(v));
    for (const step* r : linear_readers(v)) {
      const matrix<double> w =
          folded.linears[static_cast<std::size_t>(r->layer)].weight.template cast<double>();
      sum.noalias() += w.transpose() * w;
    }
    return sum;
  }

  /// Emits and runs the instruction that encodes value v; one parameter set, or one per column. With
  /// `feedback`, the errors of codes are fed back.
  failure encode(int v, const std::string& path, site_role role, coded_value& to,
                 std::span<const affine> params, const found_feedback& feedback = {}) {
    instruction x;
    x.kind = opcode::encode;
    x.a = stream.real(v);
    x.out = to.codes = stream.new_codes();
    x.cols = static_cast<std::int32_t>(cols(v));
    x.bits = to.bits;
    x.per_column = params.size() > 1 ? 1 : 0;
    x.data[0] = constants(params.data(), static_cast<index>(params.size()));
    if (feedback.block > 1) {
      x.inner = static_cast<std::int32_t>(feedback.block);
      x.data[1] = constants(feedback.unit.data(), x.cols);
      x.data[2] = constants(feedback.order.data(), x.cols);
      x.data[3] = constants(feedback.reach.data(), static_cast<index>(feedback.reach.size()));
    }
    x.site = stream.writer().site(path, to.bits, role);
    report.sites.push_back({path, role, to.bits, params.size() > 1 ? "uniform per channel" : "uniform", {}});
    if (failure f = stream.run(x)) return f;
    report.sites.back().noise = signal_to_noise(v, to.codes, params);
    return {};
  }

  /// Signal and noise power of codes against the values that they encode, summed over the samples.
  [[nodiscard]] noise_power signal_to_noise(int v, std::int32_t codes, std::span<const affine> params) const {
    return stream.measure([&](index i, noise_power& to) {
      const matrix<>& x = stream.reals(i, v);
      const matrix<std::uint8_t>& q = stream.codes(i, codes);
      for (index t = 0; t < x.rows(); ++t) {
        for (index d = 0; d < x.cols(); ++d) {
          const affine& p = params[params.size() == 1 ? 0 : static_cast<std::size_t>(d)];
          const double value = static_cast<double>(q(t, d) - p.zero_point) * static_cast<double>(p.scale);
          to.add(static_cast<double>(x(t, d)), value);
        }
      }
    });
  }

  /// Signal and noise of the quantized stream at value v, against the float stream.
  [[nodiscard]] noise_power output_noise(int v) const {
    return stream.measure([&](index i, noise_power& to) {
      const matrix<>& x = stream.target(i, v);
      const matrix<>& y = stream.reals(i, v);
      for (index n = 0; n < x.size(); ++n)
        to.add(static_cast<double>(x.data()[n]), static_cast<double>(y.data()[n]));
    });
  }
};

}  // namespace repquant::detail
