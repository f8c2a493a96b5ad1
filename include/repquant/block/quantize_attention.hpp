// SPDX-License-Identifier: MIT
/// The attention step of quantize_block: q, k and v encoded, then the codec of the probabilities chosen.
#pragma once

#include <repquant/block/attention_parameters.hpp>
#include <repquant/block/calibrate_channels.hpp>
#include <repquant/block/feedback.hpp>
#include <repquant/block/probabilities.hpp>
#include <repquant/block/quantization.hpp>

#include <algorithm>

namespace repquant::detail {

/// The attention instruction of a step, all but the codec of its probabilities.
template<class Recipe, Executor E>
instruction attention_instruction(quantization<Recipe, E>& state, const step& s, const coded_value& q,
                                  const coded_value& k, const coded_value& v, const attention_parameters& p,
                                  int probability_bits) {
  instruction x;
  x.kind = opcode::attention;
  x.out = state.stream.real(s.out);
  x.a = q.codes;
  x.b = k.codes;
  x.c = v.codes;
  x.cols = static_cast<std::int32_t>(state.cols(s.out));
  x.heads = static_cast<std::int32_t>(s.attention.heads);
  x.kv_heads = static_cast<std::int32_t>(s.attention.kv_heads);
  x.inner = x.cols / x.heads;
  x.flag = s.attention.causal ? 1 : 0;
  x.bits_a = std::max({q.bits, k.bits, v.bits});
  // any integer does: what is subtracted from all keys, the softmax takes out; amid the codes sums are small
  x.zero_b = 1 << (k.bits - 1);
  std::vector<float> multiplier;
  for (double score : p.score) {
    multiplier.push_back(static_cast<float>(score * static_cast<double>(s.attention.scale)));
  }
  std::vector<std::int32_t> query_zero;
  std::vector<std::int32_t> value_zero;
  std::vector<float> value_scale;
  for (const affine& a : p.query) query_zero.push_back(a.zero_point);
  for (const affine& a : p.value) {
    value_zero.push_back(a.zero_point);
    value_scale.push_back(a.scale);
  }
  x.data[0] = state.constants(multiplier.data(), x.heads);
  x.data[1] = state.constants(query_zero.data(), x.cols);
  x.data[2] = state.constants(value_zero.data(), static_cast<index>(value_zero.size()));
  x.data[3] = state.constants(value_scale.data(), static_cast<index>(value_scale.size()));
  x.probability_bits = static_cast<std::uint8_t>(probability_bits);
  return x;
}

/// Calibrates one operand of an attention: a parameter set for every column, equal ones where the recipe
/// wants one set for all.
template<class Recipe, Executor E>
failure operand_parameters(quantization<Recipe, E>& state, int v, const std::string& path, int bits,
                           std::vector<affine>& params) {
  const uniform codec = state.activation_codec(bits);
  if (state.recipe.channel_wise_attention) {
    auto q = calibrate_channels(state, v, path, codec, state.recipe.attention_range);
    if (!q) return q.error();
    params = *std::move(q);
  } else {
    const auto q = state.calibrate(v, path, codec, state.recipe.activation_range);
    if (!q) return q.error();
    params.assign(static_cast<std::size_t>(state.cols(v)), *q);
  }
  return {};
}

/// Quantizes an attention step. Its four sites are path.query, .key, .value, .probabilities.
template<class Recipe, Executor E>
failure quantize_attention(quantization<Recipe, E>& state, const step& s) {
  const int bits = state.recipe.activation.bits;
  struct operand {
    int value;
    const char* name;
    site_role role;
    std::vector<affine>* params;
    matrix<double> operand_importance::*importance;
    coded_value coded;
  };
  attention_parameters p;
  operand operands[] = {{s.a, ".query", site_role::query, &p.query, &operand_importance::query, {}},
                        {s.b, ".key", site_role::key, &p.key, &operand_importance::key, {}},
                        {s.c, ".value", site_role::value, &p.value, &operand_importance::value, {}}};
  for (operand& o : operands) {
    o.coded.bits = state.bits_of(s.path + o.name, bits);
    if (failure f = operand_parameters(state, o.value, s.path + o.name, o.coded.bits, *o.params)) return f;
  }
  auto& [q, k, v] = operands;
  if (state.recipe.channel_wise_attention) {
    equalize_scores(s.attention, state.activation_codec(q.coded.bits), state.activation_codec(k.coded.bits),
                    p);
  } else {
    p.score.assign(static_cast<std::size_t>(s.attention.heads),
                   static_cast<double>(p.query.front().scale) * static_cast<double>(p.key.front().scale));
  }
  operand_importance importance;
  if (state.recipe.feedback_block > 0) importance = importance_of_operands(state, s);
  for (operand& o : operands) {
    const std::size_t sets = state.recipe.channel_wise_attention ? o.params->size() : 1;
    const auto params = std::span<const affine>(*o.params).first(sets);
    const matrix<double>& cost = importance.*o.importance;
    const found_feedback feedback =
        cost.size() == 0 ? found_feedback{} : feedback_for(state.recipe, cost, params, importance.block);
    if (failure f = state.encode(o.value, s.path + o.name, o.role, o.coded, params, feedback)) return f;
  }

  const std::string path = s.path + ".probabilities";
  const int probability_bits = state.bits_of(path, bits);
  const instruction scores = attention_instruction(state, s, q.coded, k.coded, v.coded, p, probability_bits);
  const auto chosen =
      choose_probabilities(scores, state.stream.writer().constants(), path, state.recipe.probability,
                           state.recipe.probability_depth, state.recipe.probability_range, state.stream);
  if (!chosen) return chosen.error();
  instruction x = *chosen;
  x.site = state.stream.writer().site(path, probability_bits, site_role::probabilities);
  state.report.sites.push_back({path,
                                site_role::probabilities,
                                probability_bits,
                                name(x.probability, x.probability_relative != 0),
                                {}});
  if (failure f = state.stream.run(x)) return f.within(s.path);
  state.report.sites.back().noise = state.output_noise(s.out);
  for (const operand& o : operands) state.stream.free_codes(o.coded.codes);
  return {};
}

}  // namespace repquant::detail
