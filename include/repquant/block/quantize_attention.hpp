// SPDX-License-Identifier: MIT
/// The attention step of quantize_block: q, k and v encoded, then the codec of the probabilities chosen.
#pragma once

#include <repquant/block/probabilities.hpp>
#include <repquant/block/quantization.hpp>

#include <algorithm>
#include <cmath>

namespace repquant::detail {

/// Parameters of q, k and v for every column, and what a product of their codes in a head is worth.
struct attention_parameters {
  std::vector<affine> query;
  std::vector<affine> key;
  std::vector<affine> value;
  std::vector<double> score;  ///< s_q s_k, by head
};

/// Widens the scales of q and k until each channel's product is the same in a head. The head's product is the
/// largest that a channel asks for; what others get too much goes to both sides alike, as a factor
/// sqrt(product / (s_q s_k)). Heads that share keys are brought to one size first.
inline void equalize_scores(const attention_options& o, const uniform& q_codec, const uniform& k_codec,
                            attention_parameters& p) {
  const index d = static_cast<index>(p.query.size()) / o.heads;
  const index share = o.heads / o.kv_heads;
  p.score.assign(static_cast<std::size_t>(o.heads), 0);
  for (index g = 0; g < o.kv_heads; ++g) {
    const auto key = [&](index c) -> affine& { return p.key[static_cast<std::size_t>(g * d + c)]; };
    const auto query = [&](index h, index c) -> affine& {
      return p.query[static_cast<std::size_t>(h * d + c)];
    };
    std::vector<double> size(static_cast<std::size_t>(share));
    std::vector<double> most(static_cast<std::size_t>(d));
    for (index n = 0; n < share; ++n) {
      double logs = 0;
      for (index c = 0; c < d; ++c) logs += std::log(static_cast<double>(query(g * share + n, c).scale));
      size[static_cast<std::size_t>(n)] = std::exp(logs / static_cast<double>(d));
      for (index c = 0; c < d; ++c) {
        double& m = most[static_cast<std::size_t>(c)];
        m = std::fmax(m,
                      static_cast<double>(query(g * share + n, c).scale) / size[static_cast<std::size_t>(n)]);
      }
    }
    double product = 0;
    for (index c = 0; c < d; ++c) {
      product = std::fmax(product, most[static_cast<std::size_t>(c)] * static_cast<double>(key(c).scale));
    }
    for (index c = 0; c < d; ++c) {
      const double q = most[static_cast<std::size_t>(c)];
      const double wider = std::sqrt(product / (q * static_cast<double>(key(c).scale)));
      key(c) = widened(k_codec, key(c), static_cast<double>(key(c).scale) * wider);
      for (index n = 0; n < share; ++n) {
        affine& own = query(g * share + n, c);
        own = widened(q_codec, own, q * size[static_cast<std::size_t>(n)] * wider);
      }
    }
    for (index n = 0; n < share; ++n) {
      p.score[static_cast<std::size_t>(g * share + n)] = product * size[static_cast<std::size_t>(n)];
    }
  }
}

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
    const auto q = state.calibrate(v, path, codec, per_col{}, state.recipe.attention_range);
    if (!q) return q.error();
    params.assign(q->params().begin(), q->params().end());
  } else {
    const auto q = state.calibrate(v, path, codec, per_tensor{}, state.recipe.activation_range);
    if (!q) return q.error();
    params.assign(static_cast<std::size_t>(state.cols(v)), q->params().front());
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
    coded_value coded;
  };
  attention_parameters p;
  operand operands[] = {{s.a, ".query", site_role::query, &p.query, {}},
                        {s.b, ".key", site_role::key, &p.key, {}},
                        {s.c, ".value", site_role::value, &p.value, {}}};
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
  for (operand& o : operands) {
    const std::size_t sets = state.recipe.channel_wise_attention ? o.params->size() : 1;
    if (failure f = state.encode(o.value, s.path + o.name, o.role, o.coded,
                                 std::span<const affine>(*o.params).first(sets)))
      return f;
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
  state.report.sites.push_back({path, site_role::probabilities, probability_bits, name(x.probability), {}});
  if (failure f = state.stream.run(x)) return f.within(s.path);
  state.report.sites.back().noise = state.output_noise(s.out);
  for (const operand& o : operands) state.stream.free_codes(o.coded.codes);
  return {};
}

}  // namespace repquant::detail
