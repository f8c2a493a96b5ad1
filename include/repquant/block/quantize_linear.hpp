// SPDX-License-Identifier: MIT
/// The linear step of quantize_block: weights reconstructed on the codes they will read, against what the
/// float network gives; the mean error of the output moved into the bias.
#pragma once

#include <repquant/block/quantization.hpp>
#include <repquant/calibrate/fit.hpp>
#include <repquant/reconstruct/row_ranges.hpp>

namespace repquant::detail {

/// What the calibration samples say about a linear step whose input is encoded. The error is the float
/// target minus the step's float weights on the quantized input; where recipe.residual_target is set and the
/// result is added to a residual, the target takes in what the residual lost.
template<class Recipe, Executor E>
layer_evidence evidence_of(const quantization<Recipe, E>& q, const step& s, const linear& layer) {
  const coded_value& in = q.inputs[static_cast<std::size_t>(s.a)];
  const bool alone = q.shared.group_of(s) < 0;
  const int residual = q.recipe.residual_target && alone ? residual_of(q.original, s.out) : -1;
  const matrix<double> w = layer.weight.template cast<double>();
  column<double> bias = column<double>::Zero(layer.out());
  if (layer.bias.size() != 0) bias = layer.bias.template cast<double>();
  const auto sample = [&](index i, matrix<double>& x, matrix<double>& e) {
    x = (q.stream.codes(i, in.codes).template cast<double>().array() - in.params.zero_point) *
        static_cast<double>(in.params.scale);
    e = q.stream.target(i, s.out).template cast<double>() - x * w.transpose();
    e.rowwise() -= bias.transpose();
    if (residual >= 0 && q.stream.reals(i, residual).rows() == e.rows()) {
      e += q.stream.target(i, residual).template cast<double>() -
           q.stream.reals(i, residual).template cast<double>();
    }
  };
  return collect_evidence(q.stream.samples(), layer.out(), layer.in(), q.stream.executor(), sample,
                          [&](index, index token, index tokens) { return q.weight_of(s.a, token, tokens); });
}

/// The Gram matrix of all samples, about the mean where a bias will take that.
inline gram inputs_of(const layer_evidence& e, bool centred) {
  const column<double> mean =
      centred ? e.input_mean() : column<double>::Zero(e.halves[0].input_sum.size()).eval();
  gram h = centred_inputs(e.halves[0], mean);
  const gram second = centred_inputs(e.halves[1], mean);
  h.sum += second.sum;
  h.tokens += second.tokens;
  return h;
}

/// The instruction of a linear step: m[o] = s_x s_w[o] and c the bias, each rounded once from double.
template<class Recipe, Executor E>
instruction linear_instruction(quantization<Recipe, E>& q, const step& s,
                               const quantized<uniform, per_row>& w, const column<double>& bias) {
  const coded_value& in = q.input(s.a);
  instruction x;
  x.kind = opcode::linear;
  x.out = q.stream.real(s.out);
  x.a = in.codes;
  x.cols = static_cast<std::int32_t>(w.codes().rows());
  x.inner = static_cast<std::int32_t>(w.codes().cols());
  x.bits = w.quantizer().codec().bits;
  x.bits_a = in.bits;
  x.zero_a = in.params.zero_point;
  std::vector<std::int32_t> zero;
  std::vector<float> multiplier;
  std::vector<float> offset;
  for (index o = 0; o < w.codes().rows(); ++o) {
    const affine& p = w.quantizer().params()[static_cast<std::size_t>(o)];
    zero.push_back(p.zero_point);
    multiplier.push_back(
        static_cast<float>(static_cast<double>(in.params.scale) * static_cast<double>(p.scale)));
    offset.push_back(static_cast<float>(bias(o)));
  }
  x.data[0] = q.constants(w.codes().data(), w.codes().size());
  x.data[1] = q.constants(zero.data(), x.cols);
  x.data[2] = q.constants(multiplier.data(), x.cols);
  x.data[3] = q.constants(offset.data(), x.cols);
  return x;
}

/// The codes of `wanted` and their quantizer, by the recipe's solver and ranges; in passes before the last
/// one, by the solver alone.
template<class Recipe, Executor E>
result<reconstruction<uniform, per_row>> reconstruct_weights(const Recipe& recipe, const uniform& codec,
                                                             const std::string& path, const matrix<>& wanted,
                                                             const gram& h, bool final_pass, const E& exec) {
  result<reconstruction<uniform, per_row>> r = [&]() -> result<reconstruction<uniform, per_row>> {
    if (recipe.weight_range_by_output && final_pass) {
      return reconstruct_with_ranges(codec, per_row{}, wanted, h, recipe.solver, {}, exec);
    }
    const auto ranges = fit(codec, per_row{}, recipe.weight_range, wanted, "weight", exec);
    if (!ranges) return ranges.error();
    return run_solver(recipe.solver, *ranges, wanted, h, exec);
  }();
  if (r && final_pass && recipe.scale_rounds > 0) {
    const reconstruction_report first = r->report;
    r = descend_with_scales(r->weights, wanted, h, recipe.scale_rounds, {}, exec);
    if (r) r->report.start_from(first);
  }
  if (!r) return r.error().within(path);
  return r;
}

/// Quantizes a linear step whose input is encoded.
template<class Recipe, Executor E>
failure quantize_linear(quantization<Recipe, E>& q, const step& s) {
  const linear& layer = q.folded.linears[static_cast<std::size_t>(s.layer)];
  const int weight_bits = q.bits_of(s.path, q.recipe.weight.bits);
  const layer_evidence own = evidence_of(q, s, layer);
  const int group = q.shared.group_of(s);
  if (group >= 0) q.seen.add_layer(group, q.recipe.correct_bias ? about_means(own) : own);
  const layer_evidence* common = group >= 0 ? q.shared.evidence(group) : nullptr;
  const layer_evidence& e = common != nullptr ? *common : own;

  const gram h = inputs_of(e, q.recipe.correct_bias);
  // calls of one layer ask for different changes, and each change moves what the calls behind it see
  const double most = group < 0 ? q.recipe.target_correction : 0;
  const target_correction correction = correct_target(e, q.recipe.target_damping, most);
  const matrix<> wanted = (layer.weight.template cast<double>() + correction.change).template cast<float>();

  // where calls of one layer have settled their evidence, the first one's codes are everyone's
  std::optional<reconstruction<uniform, per_row>> own_codes;
  const auto first_call = common != nullptr ? q.settled.find(group) : q.settled.end();
  if (first_call == q.settled.end()) {
    const bool final_pass = group < 0 || common != nullptr;
    uniform codec = q.recipe.weight;
    codec.bits = weight_bits;
    auto solved = reconstruct_weights(q.recipe, codec, s.path, wanted, h, final_pass, q.stream.executor());
    if (!solved) return solved.error();
    own_codes = *std::move(solved);
    if (common != nullptr) q.settled.emplace(group, *own_codes);
  }
  const reconstruction<uniform, per_row>& codes = own_codes ? *own_codes : first_call->second;
  std::optional<quantized<uniform, per_row>> own_scales;
  if (common != nullptr && q.recipe.scale_rounds > 0) {
    // the scales, which only enter the call's multipliers, are each call's own
    auto scaled = refit_scales(codes.weights, wanted, inputs_of(own, q.recipe.correct_bias),
                               descent_options{}.damping, q.stream.executor());
    if (!scaled) return scaled.error().within(s.path);
    own_scales = *std::move(scaled);
  }
  const quantized<uniform, per_row>& weights = own_scales ? *own_scales : codes.weights;
  q.report.weights.push_back({s.path, weight_bits, codes.report, correction.alpha, {}});

  column<double> bias = column<double>::Zero(layer.out());
  if (layer.bias.size() != 0) bias = layer.bias.template cast<double>();
  if (q.recipe.correct_bias) {
    // the mean of target - (Q x^ + b) over the call's own tokens
    const column<double> input = own.input_mean();
    bias += own.error_mean() + rounding_error(weights, layer.weight) * input;
  }
  if (failure f = q.stream.run(linear_instruction(q, s, weights, bias))) return f.within(s.path);
  q.report.weights.back().noise = q.output_noise(s.out);
  return {};
}

}  // namespace repquant::detail
