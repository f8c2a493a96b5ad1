// SPDX-License-Identifier: MIT
/// The attention step of quantize_block: q, k and v encoded, then the codec of the probabilities chosen.
#pragma once

#include <repquant/block/probabilities.hpp>
#include <repquant/block/quantization.hpp>

#include <algorithm>
#include <vector>

namespace repquant::detail {

/// The attention instruction of a step, all but the codec of its probabilities: one parameter set for each of
/// q, k and v, written out for every head and column.
template<class Recipe, Executor E>
instruction attention_instruction(quantization<Recipe, E>& state, const step& s, const coded_value& q,
                                  const coded_value& k, const coded_value& v, int probability_bits) {
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
  const auto m =
      static_cast<float>(static_cast<double>(q.params.scale) * static_cast<double>(k.params.scale) *
                         static_cast<double>(s.attention.scale));
  const index kv_cols = static_cast<index>(x.kv_heads) * x.inner;
  const auto repeat = [&state](auto number, index n) {
    const std::vector<decltype(number)> all(static_cast<std::size_t>(n), number);
    return state.constants(all.data(), n);
  };
  x.data[0] = repeat(m, x.heads);
  x.data[1] = repeat(q.params.zero_point, x.cols);
  x.data[2] = repeat(v.params.zero_point, kv_cols);
  x.data[3] = repeat(v.params.scale, kv_cols);
  x.probability_bits = static_cast<std::uint8_t>(probability_bits);
  return x;
}

/// Quantizes an attention step. Its four sites are path.query, .key, .value, .probabilities.
template<class Recipe, Executor E>
failure quantize_attention(quantization<Recipe, E>& state, const step& s) {
  const int bits = state.recipe.activation.bits;
  coded_value q;
  coded_value k;
  coded_value v;
  if (failure f = state.encode_layer_wise(s.a, s.path + ".query", site_role::query, bits, q)) return f;
  if (failure f = state.encode_layer_wise(s.b, s.path + ".key", site_role::key, bits, k)) return f;
  if (failure f = state.encode_layer_wise(s.c, s.path + ".value", site_role::value, bits, v)) return f;

  const std::string path = s.path + ".probabilities";
  const int probability_bits = state.bits_of(path, bits);
  const instruction scores = attention_instruction(state, s, q, k, v, probability_bits);
  const auto chosen =
      choose_probabilities(scores, state.stream.writer().constants(), path, state.recipe.probability,
                           state.recipe.probability_depth, state.recipe.probability_range, state.stream);
  if (!chosen) return chosen.error();
  instruction x = *chosen;
  x.site = state.stream.writer().site(path, probability_bits, site_role::probabilities);
  state.report.sites.push_back({path, site_role::probabilities, probability_bits, name(x.probability)});
  if (failure f = state.stream.run(x)) return f.within(s.path);
  for (const coded_value* operand : {&q, &k, &v}) state.stream.free_codes(operand->codes);
  return {};
}

}  // namespace repquant::detail
