// SPDX-License-Identifier: MIT
/// Attention and its parts: P V, softmax, the whole.
#include "cases.hpp"
#include "own_values.hpp"
#include "real_scores.hpp"

namespace compare {
namespace {

namespace rq = repquant;

/// Adds the rows of ours, which is the first, against all others.
void add_rows(const session& s, const std::string& name, const std::string& shape,
              const std::vector<contender>& all, const quantity& what) {
  const std::vector<timing> times = race(all, s.options.rules);
  for (std::size_t i = 1; i < all.size(); ++i)
    s.rows.add(name, shape, all[i].name, what, times[0], times[i], {}, all[i].note);
}

rq::failure softmax_case(const session& s, heads_data& d, bool relative, const team& exec) {
  const std::string title = relative ? "softmax_to_codes_relative" : "softmax_to_codes";
  if (!s.options.wants(title)) return {};
  const sizes& n = d.size;
  const index stride = rq::padded_scores(n.tokens);
  const buffer<std::int32_t> sums = sums_of(d, stride);
  buffer<float> scratch(softmax_scratch(n));
  buffer<std::uint8_t> codes(sums.size());
  const rq::probability_code code = four_bits(rq::probability_kind::as_log_sqrt2, relative);
  code.visit([&](const auto& codec, const auto& p) {
    std::vector<contender> all = {
        {"ours", [&] { softmax_to_codes(n, codec, p, relative, sums, scratch, codes, exec); }}};
    if constexpr (has_onednn) all.push_back(onednn_softmax(d.peer()));
    if constexpr (has_xnnpack) all.push_back(xnnpack_softmax(d.peer(), s.options.threads));
    add_rows(s, title, n.text(n.tokens), all, {});
  });
  return {};
}

/// Real softmax rows, and rows whose multipliers are all the largest one, which no softmax makes and no count
/// over a row helps with.
rq::failure values_case(const session& s, heads_data& d, rq::probability_kind kind, const std::string& name,
                        bool relative, const team& exec) {
  const sizes& n = d.size;
  const index stride = rq::padded_scores(n.tokens);
  const rq::probability_code code = four_bits(kind, relative);
  buffer<std::uint8_t> codes(static_cast<std::size_t>(n.heads * n.tokens * stride));
  return code.visit([&]<class C>(const C& codec, const auto& p) -> rq::failure {
    if constexpr (std::same_as<C, rq::uniform>) {
      return {};
    } else {
      for (const bool adversarial : {false, true}) {
        const std::string title = adversarial ? name + "_adversarial" : relative ? name + "_relative" : name;
        if (!s.options.wants(title) || (adversarial && relative)) continue;
        if (adversarial) {
          // half of them in the other sum (log_sqrt2) or band (log2)
          bit_source bits;
          const auto other = static_cast<std::uint8_t>(std::same_as<C, rq::log_sqrt2> ? 1 : 8);
          for (std::uint8_t& q : codes) q = bits() % 2 == 0 ? std::uint8_t{0} : other;
        } else {
          buffer<float> scratch(softmax_scratch(n));
          softmax_to_codes(n, codec, p, relative, sums_of(d, stride), scratch, codes, exec);
        }
        own_values ours(d, codec, code, codes, exec);
        ours.run();
        if (rq::failure f = ours.check(title)) return f;
        std::vector<contender> all = {{"ours", [&] { ours.run(); }}};
        if constexpr (has_onednn) {
          // the peer's softmax of the same scores
          onednn_softmax(d.peer()).run();
          all.push_back(onednn_values(d.peer()));
        }
        add_rows(s, title, n.text(n.width), all,
                 gops(2.0 * static_cast<double>(n.heads * n.tokens * n.tokens * n.width)));
      }
      return {};
    }
  });
}

rq::failure attention_case(const session& s, heads_data& d, bool relative, const team& exec) {
  const std::string title = relative ? "attention_relative" : "attention";
  if (!s.options.wants(title)) return {};
  const sizes& n = d.size;
  rq::attention_head head;
  head.queries = head.keys = n.tokens;
  head.head_dim = n.width;
  head.q_zero = head.v_zero = d.zero;
  head.k_zero = 128;
  head.score_multiplier = d.scale[0] * d.scale[0] / std::sqrt(static_cast<float>(n.width));
  head.value_scale = d.scale;
  head.probability = four_bits(rq::probability_kind::as_log_sqrt2, relative);
  if (rq::failure f = rq::check(head, "attention")) return f;
  const std::size_t room = rq::attention_scratch_size(n.tokens, n.tokens, n.width);
  buffer<std::byte> scratch(room * static_cast<std::size_t>(n.heads));
  buffer<float> out(d.out.size());
  std::vector<contender> all = {
      {"ours", [&] {
         exec(n.heads, [&](index h) {
           const index at = h * n.tokens * n.width;
           rq::attend(head,
                      {d.q_codes.data() + at, n.width, d.k_codes.data() + at, n.width, d.v_codes.data() + at,
                       n.width, out.data() + at, n.width},
                      std::span(scratch).subspan(static_cast<std::size_t>(h) * room, room));
         });
       }}};
  if constexpr (has_onednn) all.push_back(onednn_attention(d.peer()));
  add_rows(s, title, n.text(n.width), all, {});
  return {};
}

}  // namespace

rq::failure attention_cases(const session& s) {
  const sizes n = s.options.brief ? sizes{2, 23, 16} : sizes{};
  auto real = real_scores(n.heads, n.tokens);
  if (!real) return real.error();
  heads_data d(n, std::move(*real));
  const team exec(s.options.threads);
  using enum rq::probability_kind;
  for (const bool relative : {false, true}) {
    if (rq::failure f = values_case(s, d, as_log2, "pv_log2", relative, exec)) return f;
    if (rq::failure f = values_case(s, d, as_log_sqrt2, "pv_log_sqrt2", relative, exec)) return f;
  }
  for (const bool relative : {false, true}) {
    if (rq::failure f = softmax_case(s, d, relative, exec)) return f;
  }
  for (const bool relative : {false, true}) {  // their peer overwrites the scores
    if (rq::failure f = attention_case(s, d, relative, exec)) return f;
  }
  return {};
}

}  // namespace compare
