// SPDX-License-Identifier: MIT
/// quantization: the state that the steps of quantize_block share, and what more than one of them does.
#pragma once

#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/block/recipe.hpp>
#include <repquant/calibrate/calibrator.hpp>

#include <string>
#include <utility>
#include <vector>

namespace repquant::detail {

/// A value as products see it: codes in a register, under one layer-wise parameter set.
struct coded_value {
  std::int32_t codes = -1;
  affine params{};
  int bits = 0;
};

/// Where a quantization stands. `folded` is the program whose norms and consumers were changed so far.
template<class Recipe, Executor E>
struct quantization {
  quantization(const program& p, const Recipe& r, const E& exec)
      : original(p), folded(p), recipe(r), stream(p, exec), override_used(r.overrides.size(), false) {
    inputs.resize(p.value_cols.size());
    grams.resize(p.value_cols.size());
  }

  const program& original;
  program folded;
  const Recipe& recipe;
  calibration_stream<E> stream;
  std::vector<coded_value> inputs;  ///< of each value that linear layers read
  std::vector<gram> grams;          ///< of the same, made when first asked for
  std::vector<bool> override_used;
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

  /// A quantizer for value v from its quantized stream over all samples.
  template<class Observer, Granularity G>
  result<quantizer<uniform, G>> calibrate(int v, const std::string& path, const uniform& codec, G granularity,
                                          const Observer& observer) const {
    calibrator<Observer, G> watch(observer, granularity, cols(v), path);
    for (index i = 0; i < stream.samples(); ++i) {
      if (failure f = watch.observe(stream.reals(i, v))) return f;
    }
    return watch.make(codec, stream.executor());
  }

  /// Emits and runs the instruction that encodes value v; one parameter set, or one per column.
  failure encode(int v, const std::string& path, site_role role, coded_value& to,
                 std::span<const affine> params) {
    instruction x;
    x.kind = opcode::encode;
    x.a = stream.real(v);
    x.out = to.codes = stream.new_codes();
    x.cols = static_cast<std::int32_t>(cols(v));
    x.bits = to.bits;
    x.per_column = params.size() > 1 ? 1 : 0;
    x.data[0] = constants(params.data(), static_cast<index>(params.size()));
    x.site = stream.writer().site(path, to.bits, role);
    report.sites.push_back({path, role, to.bits, params.size() > 1 ? "uniform per channel" : "uniform"});
    return stream.run(x);
  }

  /// Calibrates and encodes value v under one parameter set.
  failure encode_layer_wise(int v, const std::string& path, site_role role, int bits, coded_value& to) {
    to.bits = bits_of(path, bits);
    const auto q = calibrate(v, path, activation_codec(to.bits), per_tensor{}, recipe.activation_range);
    if (!q) return q.error();
    to.params = q->params().front();
    return encode(v, path, role, to, q->params());
  }

  /// Where linear layers read value v, encodes it for them.
  failure encode_for_readers(int v) {
    const std::vector<const step*> readers = linear_readers(v);
    if (readers.empty()) return {};
    if (v == 0) return encode_layer_wise(v, "input", site_role::model_input, recipe.input_bits, input(v));
    return encode_layer_wise(v, readers.front()->path + ".in", site_role::linear_input,
                             recipe.activation.bits, input(v));
  }
};

}  // namespace repquant::detail
