// SPDX-License-Identifier: MIT
/// The linear step of quantize_block: weights reconstructed on the codes they will read, then the mean error
/// of the output moved into the bias.
#pragma once

#include <repquant/block/quantization.hpp>
#include <repquant/calibrate/fit.hpp>
#include <repquant/reconstruct/code_gram_accumulator.hpp>

namespace repquant::detail {

/// The Gram matrix of the codes that linear layers read from value v, over all samples; made once.
template<class Recipe, Executor E>
result<const gram*> gram_of_codes(quantization<Recipe, E>& q, int v) {
  gram& h = q.grams[static_cast<std::size_t>(v)];
  if (h.tokens > 0) return static_cast<const gram*>(&h);
  const coded_value& in = q.input(v);
  code_gram_accumulator sum(q.cols(v));
  for (index i = 0; i < q.stream.samples(); ++i) {
    if (failure f = sum.add(q.stream.codes(i, in.codes))) return f;
  }
  result<gram> total = sum.total(in.params);
  if (!total) return total.error();
  h = *std::move(total);
  return static_cast<const gram*>(&h);
}

/// Mean over all tokens of the float stream minus the quantized stream, per column; double, in sample order.
template<Executor E>
column<double> mean_error(const calibration_stream<E>& stream, int v, index cols) {
  column<double> sum = column<double>::Zero(cols);
  double tokens = 0;
  for (index i = 0; i < stream.samples(); ++i) {
    sum += (stream.target(i, v).template cast<double>() - stream.reals(i, v).template cast<double>())
               .colwise()
               .sum()
               .transpose();
    tokens += static_cast<double>(stream.reals(i, v).rows());
  }
  return sum / tokens;
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

/// Quantizes a linear step whose input is encoded.
template<class Recipe, Executor E>
failure quantize_linear(quantization<Recipe, E>& q, const step& s) {
  const linear& layer = q.folded.linears[static_cast<std::size_t>(s.layer)];
  const auto inputs = gram_of_codes(q, s.a);
  if (!inputs) return inputs.error().within(s.path);
  const auto ranges = fit(q.recipe.weight, per_row{}, q.recipe.weight_range, layer.weight);
  if (!ranges) return ranges.error().within(s.path);
  const auto weights = q.recipe.solver(*ranges, layer.weight, **inputs);
  if (!weights) return weights.error().within(s.path);
  q.report.weights.push_back({s.path, q.recipe.weight.bits, weights->report});

  column<double> bias = column<double>::Zero(layer.out());
  if (layer.bias.size() != 0) bias = layer.bias.template cast<double>();
  if (q.recipe.correct_bias) {
    if (failure f = q.stream.preview(linear_instruction(q, s, weights->weights, bias)))
      return f.within(s.path);
    bias += mean_error(q.stream, s.out, layer.out());
  }
  if (failure f = q.stream.run(linear_instruction(q, s, weights->weights, bias))) return f.within(s.path);
  return {};
}

}  // namespace repquant::detail
