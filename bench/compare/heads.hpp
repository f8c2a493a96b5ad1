// SPDX-License-Identifier: MIT
/// Operands of attention: codes for ours and floats for the peers, and our softmax of their scores.
#pragma once

#include <repquant/infer/attention.hpp>

#include "memory.hpp"
#include "peers.hpp"
#include "random.hpp"
#include "team.hpp"
#include <cmath>
#include <string>
#include <vector>

namespace compare {

struct sizes {
  index heads = 12;
  index tokens = 197;
  index width = 64;
  [[nodiscard]] std::string text(index last) const {
    return std::to_string(heads) + "x" + std::to_string(tokens) + "x" + std::to_string(last);
  }
};

/// Float operands for the peers and codes for ours.
struct heads_data {
  sizes size;
  buffer<float> q, k, v, scores, probabilities, out;
  buffer<std::uint8_t> q_codes, k_codes, v_codes;
  std::vector<std::int32_t> zero;
  std::vector<float> scale;

  heads_data(const sizes& n, buffer<float> real) : size(n), scores(std::move(real)) {
    const auto operand = static_cast<std::size_t>(n.heads * n.tokens * n.width);
    bit_source bits;
    zero.assign(static_cast<std::size_t>(n.width), 128);
    scale.assign(zero.size(), 1.0F / 40);
    for (auto* codes : {&q_codes, &k_codes, &v_codes}) {
      codes->resize(operand);
      for (std::uint8_t& c : *codes)
        c = static_cast<std::uint8_t>(std::clamp(std::lround(128 + 40 * bits.normal()), 0L, 255L));
    }
    const auto floats = [this](const buffer<std::uint8_t>& codes) {
      buffer<float> x(codes.size());
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = (static_cast<float>(codes[i]) - 128) * scale[0];
      return x;
    };
    q = floats(q_codes);
    k = floats(k_codes);
    v = floats(v_codes);
    probabilities = scores;
    out.resize(operand);
  }
  [[nodiscard]] float_attention peer() {
    return {size.heads, size.tokens,   size.width,           q.data(),  k.data(),
            v.data(),   scores.data(), probabilities.data(), out.data()};
  }
};

/// `relative`: codes of p over the largest p of its query, as recipes choose them; else of p itself.
inline repquant::probability_code four_bits(repquant::probability_kind kind, bool relative) {
  repquant::probability_code code;
  code.kind = kind;
  code.relative = relative;
  code.bits = 4;
  code.depth = kind == repquant::probability_kind::as_log2 ? 14 : 7;
  return code;
}

/// Sums whose product with `score_multiplier` is the score within 2^-11: what our softmax reads.
inline constexpr float score_multiplier = 0x1p-10F;
inline buffer<std::int32_t> sums_of(const heads_data& d, index stride) {
  buffer<std::int32_t> sums(static_cast<std::size_t>(d.size.heads * d.size.tokens * stride));
  for (index r = 0; r < d.size.heads * d.size.tokens; ++r) {
    for (index j = 0; j < d.size.tokens; ++j) {
      const float score = d.scores[static_cast<std::size_t>(r * d.size.tokens + j)];
      sums[static_cast<std::size_t>(r * stride + j)] =
          static_cast<std::int32_t>(std::lround(score / score_multiplier));
    }
  }
  return sums;
}

/// Queries that run together, as in attend.
inline constexpr index query_block =
    repquant::detail::attention_block<repquant::instruction_set_of<repquant::default_arch>>;

/// Floats of scratch that softmax_to_codes needs.
inline std::size_t softmax_scratch(const sizes& n) {
  return static_cast<std::size_t>(n.heads * query_block * repquant::padded_scores(n.tokens));
}

/// Score sums of all heads to codes, as many queries at a time as attend takes.
template<class C>
void softmax_to_codes(const sizes& n, const C& codec, const typename C::params& p, bool relative,
                      const buffer<std::int32_t>& sums, buffer<float>& scratch, buffer<std::uint8_t>& codes,
                      const team& exec) {
  const index stride = repquant::padded_scores(n.tokens);
  const auto masked = static_cast<std::uint8_t>(codec.encode(0.0F, p));
  exec(n.heads, [&](index h) {
    for (index i = 0; i < n.tokens; i += query_block) {
      const index at = (h * n.tokens + i) * stride;
      repquant::probability_codes(
          codec, p, sums.data() + at, std::min(query_block, n.tokens - i), n.tokens,
          [&n](index) { return n.tokens; }, score_multiplier, masked,
          scratch.data() + h * query_block * stride, codes.data() + at, relative);
    }
  });
}

}  // namespace compare
