// SPDX-License-Identifier: MIT
#include <repquant/infer/attention.hpp>

#include "cases.hpp"
#include "own_product.hpp"
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

/// Adds the rows of ours, which is the first, against all others.
void add_rows(const session& s, const std::string& name, const std::string& shape, const std::vector<contender>& all,
              const quantity& what) {
  const std::vector<timing> times = race(all, s.options.rules);
  for (std::size_t i = 1; i < all.size(); ++i)
    s.rows.add(name, shape, all[i].name, what, times[0], times[i], {}, all[i].note);
}

/// Sums whose product with `multiplier` is the score within 2^-11: what our softmax reads.
constexpr float multiplier = 0x1p-10F;
buffer<std::int32_t> sums_of(const heads_data& d, index stride) {
  buffer<std::int32_t> sums(static_cast<std::size_t>(d.size.heads * d.size.tokens * stride));
  for (index r = 0; r < d.size.heads * d.size.tokens; ++r) {
    for (index j = 0; j < d.size.tokens; ++j) {
      const float score = d.scores[static_cast<std::size_t>(r * d.size.tokens + j)];
      sums[static_cast<std::size_t>(r * stride + j)] = static_cast<std::int32_t>(std::lround(score / multiplier));
    }
  }
  return sums;
}

/// Score sums of all heads to codes, eight queries at a time as attend does it.
template<class C>
void softmax_to_codes(const sizes& n, const C& codec, const typename C::params& p, const buffer<std::int32_t>& sums,
                      buffer<float>& scratch, buffer<std::uint8_t>& codes, const team& exec) {
  constexpr index block = rq::detail::attention_block;
  const index stride = rq::padded_scores(n.tokens);
  const auto masked = static_cast<std::uint8_t>(codec.encode(0.0F, p));
  exec(n.heads, [&](index h) {
    for (index i = 0; i < n.tokens; i += block) {
      const index at = (h * n.tokens + i) * stride;
      rq::probability_codes(codec, p, sums.data() + at, std::min(block, n.tokens - i), n.tokens,
                            [&n](index) { return n.tokens; }, multiplier, masked,
                            scratch.data() + h * block * stride, codes.data() + at);
    }
  });
}

rq::failure softmax_case(const session& s, heads_data& d, const team& exec) {
  const sizes& n = d.size;
  const index stride = rq::padded_scores(n.tokens);
  const buffer<std::int32_t> sums = sums_of(d, stride);
  buffer<float> scratch(static_cast<std::size_t>(n.heads) *
                        static_cast<std::size_t>(std::max(rq::detail::attention_block * stride,
                                                          rq::probability_scratch(n.tokens))));
  buffer<std::uint8_t> codes(sums.size());
  const rq::probability_code code = four_bits(rq::probability_kind::as_log_sqrt2);
  code.visit([&](const auto& codec, const auto& p) {
    std::vector<contender> all = {
        {"ours", [&] { softmax_to_codes(n, codec, p, sums, scratch, codes, exec); }}};
    if constexpr (has_onednn) all.push_back(onednn_softmax(d.peer()));
    if constexpr (has_xnnpack) all.push_back(xnnpack_softmax(d.peer(), s.options.threads));
    add_rows(s, "softmax_to_codes", n.text(n.tokens), all, {});
  });
  return {};
}

/// P V of one head after the other, from codes to float: the values are packed each time, as they are new for every
/// sequence.
template<int Steps>
class own_values {
 public:
  own_values(heads_data& d, const rq::logarithmic<Steps>& codec, const rq::probability_code& code,
             const buffer<std::uint8_t>& codes, const team& exec)
      : d_(d), codec_(codec), code_(code), codes_(codes), exec_(exec) {
    const auto heads = static_cast<std::size_t>(d.size.heads);
    layout_ = rq::value_layout(own_set, d.size.tokens, d.size.width, 8);
    panels_.resize(heads * panel_room());
    scratch_.resize(heads * scratch_room());
    sums_.resize(heads * 2 * sum_room());
    // codes minus what was packed, less their zero point: one number for all columns
    slope_.assign(static_cast<std::size_t>(layout_.padded_n()), layout_.shift - 128);
    out.resize(d.out.size());
  }
  void run() {
    exec_(d_.size.heads, [this](index h) { head(h); });
  }
  /// Where the result differs from the sums of plain arithmetic, scaled by the same factors.
  [[nodiscard]] rq::failure check(const std::string& place) const {
    const sizes& n = d_.size;
    for (index h = 0; h < n.heads; h += 5) {
      for (index i = 0; i < n.tokens; i += 7) {
        for (index c = 0; c < n.width; ++c) {
          double sum = 0;
          for (index j = 0; j < n.tokens; ++j) {
            const std::uint8_t q = code_at(h, i)[j];
            if (codec_.is_zero(q)) continue;
            const double power = std::exp2(-static_cast<double>(q) / Steps);
            sum += power * (d_.v_codes[static_cast<std::size_t>((h * n.tokens + j) * n.width + c)] - 128.0);
          }
          const double want = sum * code_.scale * d_.scale[0];
          const double got = out[static_cast<std::size_t>((h * n.tokens + i) * n.width + c)];
          const double most = std::exp2(7) * static_cast<double>(n.tokens) * code_.scale * d_.scale[0];
          if (!(std::fabs(got - want) <= 1e-6 * most))
            return {rq::errc::bad_format, place, std::lround(got * 1e6), std::lround(want * 1e6)};
        }
      }
    }
    return {};
  }

  buffer<float> out;

 private:
  [[nodiscard]] std::size_t panel_room() const { return static_cast<std::size_t>(layout_.bytes()); }
  [[nodiscard]] std::size_t scratch_room() const { return rq::log_product_scratch(block, d_.size.tokens) + 64; }
  [[nodiscard]] std::size_t sum_room() const {
    return static_cast<std::size_t>(block * rq::padded_scores(d_.size.width));
  }
  [[nodiscard]] const std::uint8_t* code_at(index h, index i) const {
    return codes_.data() + (h * d_.size.tokens + i) * rq::padded_scores(d_.size.tokens);
  }
  void head(index h) {
    const sizes& n = d_.size;
    const auto at = static_cast<std::size_t>(h);
    std::byte* const panels = panels_.data() + at * panel_room();
    rq::pack_panels(layout_, {d_.v_codes.data() + h * n.tokens * n.width, 1, n.width}, panels);
    rq::gemm_weights v;
    v.layout = layout_;
    v.panels = panels;
    v.slope = slope_.data();
    std::int32_t* const even = sums_.data() + at * 2 * sum_room();
    std::int32_t* const odd = even + sum_room();
    const index stride = rq::padded_scores(n.width);
    std::array<float, 256> even_scale{};
    std::array<float, 256> odd_scale{};
    const auto width = static_cast<std::size_t>(n.width);
    const rq::value_scales scales = rq::scales_of(code_, d_.scale, std::span(even_scale).first(width),
                                                  std::span(odd_scale).first(width));
    for (index i = 0; i < n.tokens; i += block) {
      const index rows = std::min(block, n.tokens - i);
      rq::log_product<own_set, rq::default_arch>(
          codec_, code_at(h, i), rows, rq::padded_scores(n.tokens), [&n](index) { return n.tokens; }, v, 8, even, odd,
          stride, std::span(scratch_).subspan(at * scratch_room(), scratch_room()));
      for (index r = 0; r < rows; ++r) {
        rq::value_row(std::span<const std::int32_t>(even + r * stride, width),
                      std::span<const std::int32_t>(odd + r * stride, Steps == 2 ? width : 0), scales,
                      std::span<float>(out.data() + (h * n.tokens + i + r) * n.width, width));
      }
    }
  }

  static constexpr index block = rq::detail::attention_block;
  heads_data& d_;
  rq::logarithmic<Steps> codec_;
  rq::probability_code code_;
  const buffer<std::uint8_t>& codes_;
  team exec_;
  rq::panel_layout layout_;
  buffer<std::byte> panels_;
  buffer<std::byte> scratch_;
  buffer<std::int32_t> sums_;
  std::vector<std::int32_t> slope_;
};

/// Real softmax rows, and rows whose multipliers are all the largest one, which no softmax makes and no count over
/// a row helps with.
rq::failure values_case(const session& s, heads_data& d, rq::probability_kind kind, const std::string& name,
                        const team& exec) {
  const sizes& n = d.size;
  const index stride = rq::padded_scores(n.tokens);
  const rq::probability_code code = four_bits(kind);
  buffer<std::uint8_t> codes(static_cast<std::size_t>(n.heads * n.tokens * stride));
  return code.visit([&]<class C>(const C& codec, const auto& p) -> rq::failure {
    if constexpr (std::same_as<C, rq::uniform>) {
      return {};
    } else {
      for (const bool adversarial : {false, true}) {
        const std::string title = adversarial ? name + "_adversarial" : name;
        if (!s.options.wants(title)) continue;
        if (adversarial) {
          std::fill(codes.begin(), codes.end(), std::uint8_t{0});
        } else {
          buffer<float> scratch(d.probabilities.size() + static_cast<std::size_t>(8 * stride * n.heads));
          softmax_to_codes(n, codec, p, sums_of(d, stride), scratch, codes, exec);
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
        add_rows(s, title, n.text(n.width), all, gops(2.0 * static_cast<double>(n.heads * n.tokens * n.tokens * n.width)));
      }
      return {};
    }
  });
}

rq::failure attention_case(const session& s, heads_data& d, const team& exec) {
  const sizes& n = d.size;
  rq::attention_head head;
  head.queries = head.keys = n.tokens;
  head.head_dim = n.width;
  head.q_zero = head.v_zero = d.zero;
  head.k_zero = 128;
  head.score_multiplier = d.scale[0] * d.scale[0] / std::sqrt(static_cast<float>(n.width));
  head.value_scale = d.scale;
  head.probability = four_bits(rq::probability_kind::as_log_sqrt2);
  if (rq::failure f = rq::check(head, "attention")) return f;
  const std::size_t room = rq::attention_scratch_size(n.tokens, n.tokens, n.width);
  buffer<std::byte> scratch(room * static_cast<std::size_t>(n.heads));
  buffer<float> out(d.out.size());
  std::vector<contender> all = {
      {"ours", [&] {
         exec(n.heads, [&](index h) {
           const index at = h * n.tokens * n.width;
           rq::attend(head,
                      {d.q_codes.data() + at, n.width, d.k_codes.data() + at, n.width, d.v_codes.data() + at, n.width,
                       out.data() + at, n.width},
                      std::span(scratch).subspan(static_cast<std::size_t>(h) * room, room));
         });
       }}};
  if constexpr (has_onednn) all.push_back(onednn_attention(d.peer()));
  add_rows(s, "attention", n.text(n.width), all, {});
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
  if (rq::failure f = values_case(s, d, as_log2, "pv_log2", exec)) return f;
  if (rq::failure f = values_case(s, d, as_log_sqrt2, "pv_log_sqrt2", exec)) return f;
  if (s.options.wants("softmax_to_codes")) {
    if (rq::failure f = softmax_case(s, d, exec)) return f;
  }
  if (s.options.wants("attention")) return attention_case(s, d, exec);  // its peer overwrites the scores
  return {};
}

}  // namespace compare
