// SPDX-License-Identifier: MIT
#include <repquant/infer/attention.hpp>

#include "cases.hpp"
#include "memory.hpp"
#include "peers.hpp"
#include "random.hpp"
#include "real_scores.hpp"
#include "team.hpp"

namespace compare {
namespace {

namespace rq = repquant;

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

rq::probability_code four_bits(rq::probability_kind kind) {
  rq::probability_code code;
  code.kind = kind;
  code.bits = 4;
  code.depth = kind == rq::probability_kind::as_log2 ? 14 : 7;
  return code;
}

}  // namespace

rq::failure attention_cases(const session& s) {
  const sizes n = s.options.brief ? sizes{2, 23, 16} : sizes{};
  auto real = real_scores(n.heads, n.tokens);
  if (!real) return real.error();
  heads_data d(n, std::move(*real));
  const team exec(s.options.threads);
  const auto add = [&](const std::string& name, const std::string& shape, const std::vector<contender>& all,
                       const quantity& what) {
    const std::vector<timing> times = race(all, s.options.rules);
    for (std::size_t i = 1; i < all.size(); ++i)
      s.rows.add(name, shape, all[i].name, what, times[0], times[i], {}, all[i].note);
  };

  if (s.options.wants("attention")) {
    rq::attention_head head;
    head.queries = head.keys = n.tokens;
    head.head_dim = n.width;
    head.q_zero = head.v_zero = d.zero;
    head.k_zero = 128;
    head.score_multiplier = d.scale[0] * d.scale[0] / std::sqrt(static_cast<float>(n.width));
    head.value_scale = d.scale;
    head.probability = four_bits(rq::probability_kind::as_log_sqrt2);
    if (rq::failure f = rq::check(head, "attention")) return f;
    const std::size_t scratch_bytes = rq::attention_scratch_size(n.tokens, n.tokens, n.width);
    buffer<std::byte> scratch(scratch_bytes * static_cast<std::size_t>(n.heads));
    buffer<float> out(d.out.size());
    const index stride = n.heads * n.width;
    std::vector<contender> all = {
        {"ours", [&] {
           exec(n.heads, [&](index h) {
             const index at = h * n.width;
             rq::attend(
                 head,
                 {d.q_codes.data() + at, stride, d.k_codes.data() + at, stride, d.v_codes.data() + at, stride,
                  out.data() + at, stride},
                 std::span(scratch).subspan(static_cast<std::size_t>(h) * scratch_bytes, scratch_bytes));
           });
         }}};
    if constexpr (has_onednn) all.push_back(onednn_attention(d.peer()));
    add("attention", n.text(n.width), all, {});
  }
  return {};
}

}  // namespace compare
