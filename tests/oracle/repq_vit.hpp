// SPDX-License-Identifier: MIT
/// RepQ-ViT (arXiv 2212.08254) as its published code does it, simulated on any traced program: the baseline
/// that this library's recipes are measured against. Zero points become fractions in the fold, so that 4-bit
/// codes take 17 levels, as the logarithmic ones do; no integer engine can run it.
///
///   inputs of linear layers   uniform, one parameter set; one per channel behind a norm. 8 bits for the
///                             model's input
///   weights                   uniform, one parameter set per output channel
///   q, k, v                   uniform, one parameter set each
///   probabilities             log-sqrt2
///
/// Phase 1: one forward of the calibration samples, in which every quantizer is searched on what the ones
/// before it left. Phase 2: the norms are folded, and the weights behind them searched again. Nothing else
/// changes. Norms, softmax, activation functions and residuals stay in float.
///
/// The published code knows vision transformers. For other programs this reading of it holds: a norm whose
/// output is read by anything but linear layers, or that has no beta, cannot be folded and keeps the
/// channel-wise quantizer; the layer that gives the model's output is the head, whose input has one parameter
/// set; what a causal mask hides is part of the probability tensor, as zeros.
///
/// Length: the procedure on one page, as the phases share all they know.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include "oracle/repq_vit_quantizers.hpp"
#include <span>
#include <utility>

namespace oracle {

/// The quantizers of one attention.
struct repq_attention {
  repq_uniform q;
  repq_uniform k;
  repq_uniform v;
  repq_log_sqrt2 probability;
};

/// softmax(q k^T scale) of all heads, one below the other: [heads tokens x keys].
inline repquant::matrix<> attention_probabilities(const repquant::attention_options& o,
                                                  const repquant::matrix<>& q, const repquant::matrix<>& k) {
  const index d = q.cols() / o.heads;
  const index keys = k.rows();
  repquant::matrix<> p(o.heads * q.rows(), keys);
  for (index h = 0; h < o.heads; ++h) {
    const index g = h / (o.heads / o.kv_heads);
    auto head = p.middleRows(h * q.rows(), q.rows());
    head.noalias() = q.middleCols(h * d, d) * k.middleCols(g * d, d).transpose();
    for (index i = 0; i < q.rows(); ++i) {
      const index seen = o.causal ? std::clamp(i + 1 + keys - q.rows(), index{0}, keys) : keys;
      auto row = head.row(i);
      row.tail(keys - seen).setZero();
      if (seen == 0) continue;
      auto visible = row.head(seen);
      visible = ((visible.array() - visible.maxCoeff()) * o.scale).exp();
      visible /= visible.sum();
    }
  }
  return p;
}

/// p v of all heads, beside each other: [tokens x heads d].
inline repquant::matrix<> attention_output(const repquant::attention_options& o, const repquant::matrix<>& p,
                                           const repquant::matrix<>& v) {
  const index d = v.cols() / o.kv_heads;
  const index tokens = p.rows() / o.heads;
  repquant::matrix<> y(tokens, o.heads * d);
  for (index h = 0; h < o.heads; ++h) {
    const index g = h / (o.heads / o.kv_heads);
    y.middleCols(h * d, d).noalias() = p.middleRows(h * tokens, tokens) * v.middleCols(g * d, d);
  }
  return y;
}

/// A quantized program. May be run by several threads at once.
struct repq_vit_model {
  repquant::program network;               ///< norms folded; weights as what their codes mean
  std::vector<repq_uniform> inputs;        ///< per value, for the linear layers that read it
  std::vector<repq_attention> attentions;  ///< per step

  /// The result of step i, from the values it reads.
  [[nodiscard]] repquant::matrix<> step_result(std::size_t i, const repquant::activations& x) const {
    const repquant::step& s = network.steps[i];
    const auto at = [&](int v) -> const repquant::matrix<>& { return x[static_cast<std::size_t>(v)]; };
    if (s.kind == repquant::step_kind::linear) {
      return repquant::apply(network.linears[static_cast<std::size_t>(s.layer)],
                             inputs[static_cast<std::size_t>(s.a)].columns(at(s.a)));
    }
    if (s.kind == repquant::step_kind::attention) {
      const repq_attention& quantizers = attentions[i];
      repquant::matrix<> p =
          attention_probabilities(s.attention, quantizers.q.columns(at(s.a)), quantizers.k.columns(at(s.b)));
      for (index e = 0; e < p.size(); ++e) p.data()[e] = quantizers.probability.value(p.data()[e]);
      return attention_output(s.attention, p, quantizers.v.columns(at(s.c)));
    }
    return repquant::evaluate(network, s, x);
  }

  /// Shapes    input [tokens x input_cols], result [tokens' x output_cols]
  /// Requires  repquant::check_input finds nothing
  [[nodiscard]] repquant::matrix<> run(const repquant::matrix<>& input) const {
    repquant::activations x(network.value_cols.size());
    x[0] = input;
    for (std::size_t i = 0; i < network.steps.size(); ++i) {
      x[static_cast<std::size_t>(network.steps[i].out)] = step_result(i, x);
      repquant::free_unused(network, i, x);
    }
    return std::move(x[static_cast<std::size_t>(network.output)]);
  }
};

/// Where the quantizers of a value stand.
enum class repq_site : std::uint8_t {
  one_set,      ///< layer-wise
  per_channel,  ///< channel-wise in the model, too
  folded,       ///< channel-wise in phase 1, layer-wise after the fold
};

/// What becomes of the value that step i gives, as input of linear layers.
inline repq_site repq_site_of(const repquant::program& p, std::size_t i) {
  const repquant::step& s = p.steps[i];
  if (s.kind != repquant::step_kind::norm) return repq_site::one_set;
  bool linears_only = s.out != p.output;
  for (const int r : p.readers(s.out)) {
    const repquant::step& reader = p.steps[static_cast<std::size_t>(r)];
    const bool is_linear = reader.kind == repquant::step_kind::linear;
    if (is_linear && reader.out == p.output) return repq_site::one_set;
    linears_only = linears_only && is_linear;
  }
  const bool has_beta =
      std::holds_alternative<repquant::layer_norm>(p.norms[static_cast<std::size_t>(s.layer)]);
  return linears_only && has_beta ? repq_site::folded : repq_site::per_channel;
}

/// Makes the channel-wise parameters s, z behind norm step i layer-wise: s~ = mean(s), z~ = mean(z), r1 = s /
/// s~, r2 = z - z~; gamma / r1, (beta + s r2) / r1, W r1, b - W (s r2). The weights are those of `original`,
/// and their quantizers are searched again.
inline void repq_fold(repq_vit_model& m, const repquant::program& original, std::size_t i, int weight_bits) {
  const repquant::step& s = m.network.steps[i];
  repq_uniform& q = m.inputs[static_cast<std::size_t>(s.out)];
  const auto n = static_cast<index>(q.delta.size());
  const Eigen::VectorXd scale = Eigen::Map<const Eigen::VectorXf>(q.delta.data(), n).cast<double>();
  const Eigen::VectorXd zero = Eigen::Map<const Eigen::VectorXf>(q.zero.data(), n).cast<double>();
  const Eigen::VectorXd r1 = scale / scale.mean();
  const Eigen::VectorXd shift = scale.array() * (zero.array() - zero.mean());
  auto& norm = std::get<repquant::layer_norm>(m.network.norms[static_cast<std::size_t>(s.layer)]);
  norm.gamma = (norm.gamma.cast<double>().array() / r1.array()).matrix().cast<float>();
  norm.beta = ((norm.beta.cast<double>() + shift).array() / r1.array()).matrix().cast<float>();
  for (const int r : m.network.readers(s.out)) {
    const auto layer = static_cast<std::size_t>(m.network.steps[static_cast<std::size_t>(r)].layer);
    const Eigen::MatrixXd w = original.linears[layer].weight.cast<double>();
    repquant::linear& l = m.network.linears[layer];
    Eigen::VectorXd bias = Eigen::VectorXd::Zero(w.rows());
    if (l.bias.size() != 0) bias = l.bias.cast<double>();
    l.bias = (bias - w * shift).cast<float>();
    l.weight = (w * r1.asDiagonal()).cast<float>();
    l.weight = search_rows(l.weight, weight_bits).rows(l.weight);
  }
  q.delta = {static_cast<float>(scale.mean())};
  q.zero = {static_cast<float>(zero.mean())};
}

/// Quantizes a program as the published code does.
///
/// Requires  samples, on which check_input finds nothing; bits from 2 to 8
/// Cost      two runs and the searches; holds the activations and probabilities of all samples. `exec` runs
///           samples side by side, and changes no bit
template<repquant::Executor E = repquant::inline_executor>
repq_vit_model quantize_repq_vit(const repquant::program& p, std::span<const repquant::matrix<>> calibration,
                                 int weight_bits, int activation_bits, const E& exec = {}) {
  constexpr int input_bits = 8;
  repq_vit_model m{p, {}, {}};
  m.inputs.resize(p.value_cols.size());
  m.attentions.resize(p.steps.size());
  std::vector<repq_site> sites(p.value_cols.size(), repq_site::one_set);
  const auto count = static_cast<index>(calibration.size());
  std::vector<repquant::activations> x(calibration.size());
  for (std::size_t n = 0; n < x.size(); ++n) {
    x[n].resize(p.value_cols.size());
    x[n][0] = calibration[n];
  }
  const auto tensor = [&](int v) {
    std::vector<const repquant::matrix<>*> all;
    for (const auto& sample : x) all.push_back(&sample[static_cast<std::size_t>(v)]);
    return all;
  };
  const auto each = [&](const auto& f) { exec(count, [&](index n) { f(static_cast<std::size_t>(n)); }); };

  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    const repquant::step& s = p.steps[i];
    const auto out = static_cast<std::size_t>(s.out);
    sites[out] = repq_site_of(p, i);
    if (s.kind == repquant::step_kind::linear) {
      repq_uniform& q = m.inputs[static_cast<std::size_t>(s.a)];
      const bool one = sites[static_cast<std::size_t>(s.a)] == repq_site::one_set;
      const int bits = s.a == 0 ? input_bits : activation_bits;
      if (!q.fitted()) q = one ? search_tensor(tensor(s.a), bits) : search_columns(tensor(s.a), bits);
      repquant::matrix<>& w = m.network.linears[static_cast<std::size_t>(s.layer)].weight;
      w = search_rows(w, weight_bits).rows(w);
    }
    if (s.kind == repquant::step_kind::attention) {
      repq_attention& a = m.attentions[i];
      a.q = search_tensor(tensor(s.a), activation_bits);
      a.k = search_tensor(tensor(s.b), activation_bits);
      a.v = search_tensor(tensor(s.c), activation_bits);
      std::vector<repquant::matrix<>> probabilities(x.size());
      each([&](std::size_t n) {
        probabilities[n] =
            attention_probabilities(s.attention, a.q.columns(x[n][static_cast<std::size_t>(s.a)]),
                                    a.k.columns(x[n][static_cast<std::size_t>(s.b)]));
      });
      double least = std::numeric_limits<double>::infinity();
      for (const repq_log_sqrt2& candidate : log_candidates(probabilities, activation_bits)) {
        std::vector<double> errors(x.size());
        each([&](std::size_t n) { errors[n] = candidate.squared_error(probabilities[n]); });
        double error = 0;
        for (const double e : errors) error += e;
        if (error < least) {
          least = error;
          a.probability = candidate;
        }
      }
    }
    each([&](std::size_t n) {
      x[n][out] = m.step_result(i, x[n]);
      repquant::free_unused(p, i, x[n]);
    });
  }
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    const auto out = static_cast<std::size_t>(p.steps[i].out);
    if (sites[out] == repq_site::folded && m.inputs[out].fitted()) repq_fold(m, p, i, weight_bits);
  }
  return m;
}

}  // namespace oracle
