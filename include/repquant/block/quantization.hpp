// SPDX-License-Identifier: MIT
/// quantization: the state that the steps of quantize_block share, and what more than one of them does.
/// Length: one state; what is left out of it would be passed around.
#pragma once

#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/layer_evidence.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/block/recipe.hpp>
#include <repquant/block/select_early.hpp>
#include <repquant/block/shared_weights.hpp>
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/reparam/fused_norm.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace repquant::detail {

/// Parameters whose scale is `scale`, about the middle of the range that `own` covers.
inline affine widened(const uniform& codec, const affine& own, double scale) {
  const double half = (codec.levels() - 1) / 2.0;
  const double middle = (half - own.zero_point) * static_cast<double>(own.scale);
  const double zero = std::nearbyint(half - middle / scale);
  return {static_cast<float>(scale),
          static_cast<std::int32_t>(std::clamp(zero, -static_cast<double>(uniform::largest_zero_point),
                                               static_cast<double>(uniform::largest_zero_point)))};
}

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
  std::map<int, std::optional<reconstruction<uniform, per_row>>> settled;  ///< codes, by layer
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

  /// A quantizer for value v from its quantized stream over all samples.
  template<class Observer, Granularity G>
  result<quantizer<uniform, G>> calibrate(int v, const std::string& path, const uniform& codec, G granularity,
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
    auto made = watch.make(codec, stream.executor());
    if constexpr (std::same_as<G, per_col>) {
      if (made && recipe.widen_ranges) return with_margin(*made, v);
    }
    return made;
  }
  /// Channel-wise ranges made wider by 1 / sqrt(n) + 8 / n for n tokens seen: what few tokens spanned, others
  /// will leave.
  [[nodiscard]] result<quantizer<uniform, per_col>> with_margin(const quantizer<uniform, per_col>& q,
                                                                int v) const {
    double tokens = 0;
    for (index i = 0; i < stream.samples(); ++i) tokens += static_cast<double>(stream.reals(i, v).rows());
    const double margin = 1 / std::sqrt(tokens) + 8 / tokens;
    std::vector<affine> params;
    for (const affine& p : q.params()) {
      params.push_back(widened(q.codec(), p, static_cast<double>(p.scale) * (1 + margin)));
    }
    return quantizer<uniform, per_col>::make(q.codec(), per_col{}, q.size(), std::move(params));
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

  /// Calibrates and encodes value v under one parameter set.
  failure encode_layer_wise(int v, const std::string& path, site_role role, int bits, coded_value& to) {
    to.bits = bits_of(path, bits);
    const auto q = calibrate(v, path, activation_codec(to.bits), per_tensor{}, recipe.activation_range);
    if (!q) return q.error();
    to.params = q->params().front();
    return encode(v, path, role, to, q->params());
  }

  /// Calibrates and encodes value v channel by channel; the linear layers that read it take the scales.
  template<class Observer>
  failure encode_channel_wise(int v, const std::string& path, site_role role, int bits, coded_value& to,
                              const Observer& observer) {
    to.bits = bits_of(path, bits);
    const uniform codec = activation_codec(to.bits);
    const auto found = calibrate(v, path, codec, per_col{}, observer);
    if (!found) return found.error();
    const channel_parameters channels = common_channels(v, codec, found->params());
    const auto layer = fuse_norm(codec, channels.params, consumers(v), channels.unit);
    if (!layer) return layer.error().within(path);
    to.params = *layer;
    return encode(v, path, role, to, channels.params);
  }

  /// Where linear layers read value v, encodes it for them.
  failure encode_for_readers(int v) {
    const std::vector<const step*> readers = linear_readers(v);
    if (readers.empty()) return {};
    const std::string path = v == 0 ? "input" : readers.front()->path + ".in";
    const int bits = v == 0 ? recipe.input_bits : recipe.activation.bits;
    const site_role role = v == 0 ? site_role::model_input : site_role::linear_input;
    if (!recipe.channel_wise_inputs) return encode_layer_wise(v, path, role, bits, input(v));
    return encode_channel_wise(v, path, role, bits, input(v), recipe.activation_range);
  }

  /// Channel-wise parameters, and the layer-wise scale that they are folded to (0: the fold's own choice).
  struct channel_parameters {
    std::vector<affine> params;
    double unit = 0;
  };

  /// Channel-wise parameters as given, unless the layers that read the value are called several times: then
  /// those whose ratios are the ones that the shared weights hold, times one factor per call.
  [[nodiscard]] channel_parameters common_channels(int v, const uniform& codec,
                                                   std::span<const affine> channels) {
    channel_parameters own{{channels.begin(), channels.end()}, 0};
    const int group = shared.group_of(*linear_readers(v).front());
    if (group < 0) return own;
    seen.add_channels(group, channels);
    const column<double>* ratios = shared.ratios(group);
    if (ratios == nullptr) return own;
    return with_ratios(v, codec, channels, *ratios);
  }

  /// Scales factor * ratio, each channel's range about the middle of its own. Of twelve factors from 0.7
  /// times the geometric mean to the largest that a channel asks for, the one with the least squared error,
  /// channels weighted by what the readers make of them.
  [[nodiscard]] channel_parameters with_ratios(int v, const uniform& codec, std::span<const affine> channels,
                                               const column<double>& ratios) {
    const auto n = static_cast<index>(channels.size());
    column<double> importance = column<double>::Zero(n);
    for (const linear* l : consumers(v)) {
      importance += l->weight.template cast<double>().colwise().squaredNorm().transpose();
    }
    double mean = 0;
    double largest = 0;
    for (index d = 0; d < n; ++d) {
      const double asked = static_cast<double>(channels[static_cast<std::size_t>(d)].scale) / ratios(d);
      mean += std::log(asked) / static_cast<double>(n);
      largest = std::fmax(largest, asked);
    }
    const double least = 0.7 * std::exp(mean);
    constexpr int candidates = 12;
    channel_parameters best;
    double best_error = 0;
    for (int c = 0; c < candidates; ++c) {
      const double factor = least * std::pow(std::fmax(largest / least, 1.0), c / (candidates - 1.0));
      channel_parameters p{{}, factor};
      for (index d = 0; d < n; ++d) {
        p.params.push_back(widened(codec, channels[static_cast<std::size_t>(d)], factor * ratios(d)));
      }
      const double e = encoding_error(v, codec, p.params, importance);
      if (c > 0 && !(e < best_error)) continue;
      best_error = e;
      best = std::move(p);
    }
    return best;
  }

  /// Sum over samples, tokens and channels of importance (x - decode(encode(x)))^2.
  [[nodiscard]] double encoding_error(int v, const uniform& codec, std::span<const affine> params,
                                      const column<double>& importance) const {
    std::vector<double> errors(static_cast<std::size_t>(stream.samples()));
    stream.executor()(stream.samples(), [&](index i) {
      const matrix<>& x = stream.reals(i, v);
      double sum = 0;
      for (index t = 0; t < x.rows(); ++t) {
        const double weight = weight_of(v, t, x.rows());
        for (index d = 0; d < x.cols(); ++d) {
          const affine& p = params[static_cast<std::size_t>(d)];
          const double e = static_cast<double>(codec.decode(codec.encode(x(t, d), p), p) - x(t, d));
          sum += weight * importance(d) * e * e;
        }
      }
      errors[static_cast<std::size_t>(i)] = sum;
    });
    double total = 0;
    for (double e : errors) total += e;
    return total;
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
