// SPDX-License-Identifier: MIT
/// encode_inputs: what linear layers read, as codes: one parameter set, or one for each channel whose scales
/// the layers take. Calls of shared layers agree on the ratios of their channels.
#pragma once

#include <repquant/block/calibrate_channels.hpp>
#include <repquant/block/feedback.hpp>
#include <repquant/reparam/fused_norm.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace repquant::detail {

/// Channel-wise parameters, and the layer-wise scale that they are folded to (0: the fold's own choice).
struct channel_parameters {
  std::vector<affine> params;
  double unit = 0;
};

/// Sum over tokens of (x - decode(encode(x)))^2 for each channel of value v; of many tokens, about 4,096
/// evenly spread.
template<class Recipe, Executor E>
column<double> encoding_errors(const quantization<Recipe, E>& q, int v, const uniform& codec,
                               std::span<const affine> params) {
  constexpr index most = 4096;
  const index stride = std::max<index>(1, tokens_of(q, v) / most);
  std::vector<column<double>> errors(static_cast<std::size_t>(q.stream.samples()));
  q.stream.executor()(q.stream.samples(), [&](index i) {
    const matrix<>& x = q.stream.reals(i, v);
    column<double>& sum = errors[static_cast<std::size_t>(i)];
    sum = column<double>::Zero(x.cols());
    for (index t = i % stride; t < x.rows(); t += stride) {
      const double weight = q.weight_of(v, t, x.rows());
      for (index d = 0; d < x.cols(); ++d) {
        const affine& p = params[static_cast<std::size_t>(d)];
        const double e = static_cast<double>(codec.decode(codec.encode(x(t, d), p), p) - x(t, d));
        sum(d) += weight * e * e;
      }
    }
  });
  column<double> total = column<double>::Zero(q.cols(v));
  for (const column<double>& e : errors) total += e;
  return total;
}

/// How much an error of each channel of value v counts: the squared norms of its readers' columns.
template<class Recipe, Executor E>
column<double> importance_of(quantization<Recipe, E>& q, int v) {
  column<double> sum = column<double>::Zero(q.cols(v));
  for (const linear* l : q.consumers(v)) {
    sum += l->weight.template cast<double>().colwise().squaredNorm().transpose();
  }
  return sum;
}

/// Scales factor * ratio, each channel's range about the middle of its own. Of twelve factors from 0.7
/// times the geometric mean to the largest that a channel asks for, the one with the least squared error,
/// channels weighted by what the readers make of them.
template<class Recipe, Executor E>
channel_parameters with_ratios(quantization<Recipe, E>& q, int v, const uniform& codec,
                               std::span<const affine> channels, const column<double>& ratios) {
  const auto n = static_cast<index>(channels.size());
  const column<double> importance = importance_of(q, v);
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
    const double e = encoding_errors(q, v, codec, p.params).dot(importance);
    if (c > 0 && !(e < best_error)) continue;
    best_error = e;
    best = std::move(p);
  }
  return best;
}

/// What coding value v under other scales than its channels' own would cost.
template<class Recipe, Executor E>
channel_costs costs_of(quantization<Recipe, E>& q, int v, const uniform& codec,
                       std::span<const affine> channels) {
  const auto n = static_cast<index>(channels.size());
  channel_costs c{column<double>(n), matrix<double>::Zero(n, channel_costs::count)};
  for (index d = 0; d < n; ++d)
    c.scale(d) = std::log2(static_cast<double>(channels[static_cast<std::size_t>(d)].scale));
  if (q.recipe.ratio_rounds == 0) return c;
  const column<double> importance = importance_of(q, v);
  for (index k = 0; k < channel_costs::count; ++k) {
    const double factor = std::exp2(channel_costs::first + static_cast<double>(k) * channel_costs::step);
    std::vector<affine> params;
    for (const affine& p : channels)
      params.push_back(widened(codec, p, static_cast<double>(p.scale) * factor));
    c.error.col(k) = encoding_errors(q, v, codec, params).cwiseProduct(importance);
  }
  return c;
}

/// Channel-wise parameters as given, unless the layers that read the value are called several times: then
/// those whose ratios are the ones that the shared weights hold, times one factor per call.
template<class Recipe, Executor E>
channel_parameters common_channels(quantization<Recipe, E>& q, int v, const uniform& codec,
                                   std::span<const affine> channels) {
  channel_parameters own{{channels.begin(), channels.end()}, 0};
  const int group = q.shared.group_of(*q.linear_readers(v).front());
  if (group < 0) return own;
  const column<double>* ratios = q.shared.ratios(group);
  if (ratios != nullptr) return with_ratios(q, v, codec, channels, *ratios);
  q.seen.channels[group].push_back(costs_of(q, v, codec, channels));
  return own;
}

/// Calibrates and encodes value v under one parameter set.
template<class Recipe, Executor E>
failure encode_layer_wise(quantization<Recipe, E>& q, int v, const std::string& path, site_role role,
                          int bits, coded_value& to) {
  to.bits = q.bits_of(path, bits);
  const auto found = q.calibrate(v, path, q.activation_codec(to.bits), q.recipe.activation_range);
  if (!found) return found.error();
  to.params = *found;
  const std::span<const affine> params(&to.params, 1);
  return q.encode(v, path, role, to, params, feedback_for_readers(q, v, role, params));
}

/// Calibrates and encodes value v channel by channel; the linear layers that read it take the scales.
template<class Recipe, Executor E, class Observer>
failure encode_channel_wise(quantization<Recipe, E>& q, int v, const std::string& path, site_role role,
                            int bits, coded_value& to, const Observer& observer) {
  to.bits = q.bits_of(path, bits);
  const uniform codec = q.activation_codec(to.bits);
  const auto found = calibrate_channels(q, v, path, codec, observer);
  if (!found) return found.error();
  const channel_parameters channels = common_channels(q, v, codec, *found);
  const found_feedback feedback = feedback_for_readers(q, v, role, channels.params);
  const auto layer = fuse_norm(codec, channels.params, q.consumers(v), channels.unit);
  if (!layer) return layer.error().within(path);
  to.params = *layer;
  return q.encode(v, path, role, to, channels.params, feedback);
}

/// The norm that makes value v, or what a hadamard step makes of it; nullptr where there is none.
inline const step* norm_behind(const program& p, int v) {
  for (std::size_t i = p.steps.size(); i-- > 0;) {
    const step& s = p.steps[i];
    if (s.out != v) continue;
    if (s.kind == step_kind::norm) return &s;
    if (s.kind != step_kind::hadamard) return nullptr;
    v = s.a;
  }
  return nullptr;
}

/// Where linear layers read value v, encodes it for them.
template<class Recipe, Executor E>
failure encode_for_readers(quantization<Recipe, E>& q, int v) {
  const std::vector<const step*> readers = q.linear_readers(v);
  if (readers.empty()) return {};
  // a spread norm is the same site as one that is not
  const step* norm = q.recipe.channel_wise_norm ? norm_behind(q.original, v) : nullptr;
  if (norm != nullptr) {
    return encode_channel_wise(q, v, norm->path + ".out", site_role::norm_output, q.recipe.activation.bits,
                               q.input(v), q.recipe.norm_range);
  }
  const std::string path = v == 0 ? "input" : readers.front()->path + ".in";
  const int bits = v == 0 ? q.recipe.input_bits : q.recipe.activation.bits;
  const site_role role = v == 0 ? site_role::model_input : site_role::linear_input;
  if (!q.recipe.channel_wise_inputs) return encode_layer_wise(q, v, path, role, bits, q.input(v));
  return encode_channel_wise(q, v, path, role, bits, q.input(v), q.recipe.activation_range);
}

}  // namespace repquant::detail
