// SPDX-License-Identifier: MIT
/// Our product of probability codes with values as a contender.
#pragma once

#include "heads.hpp"
#include "own_product.hpp"
#include <array>

namespace compare {

/// P V of one head after the other, from codes to float: the values are packed each time, as they are new for
/// every sequence. Relative codes are divided by what they weigh together, as attend does it.
template<int Steps>
class own_values {
 public:
  own_values(heads_data& d, const repquant::logarithmic<Steps>& codec, const repquant::probability_code& code,
             const buffer<std::uint8_t>& codes, const team& exec)
      : d_(d), codec_(codec), code_(code), codes_(codes), exec_(exec) {
    const auto heads = static_cast<std::size_t>(d.size.heads);
    layout_ = repquant::value_layout(own_set, codec, d.size.tokens, d.size.width, 8);
    panels_.resize(heads * panel_room());
    scratch_.resize(heads * scratch_room());
    sums_.resize(heads * 2 * sum_room());
    weights_.resize(heads * static_cast<std::size_t>(query_block));
    // codes minus what was packed, less their zero point: one number for all columns
    slope_.assign(static_cast<std::size_t>(layout_.padded_n()), layout_.shift - 128);
    out.resize(d.out.size());
  }
  void run() {
    exec_(d_.size.heads, [this](index h) { head(h); });
  }
  /// Where the result differs from the sums of plain arithmetic, scaled by the same factors.
  [[nodiscard]] repquant::failure check(const std::string& place) const {
    const sizes& n = d_.size;
    for (index h = 0; h < n.heads; h += 5) {
      for (index i = 0; i < n.tokens; i += 7) {
        double unit = code_.scale * d_.scale[0];
        if (code_.relative) {
          double weight = 0;
          for (index j = 0; j < n.tokens; ++j) weight += power_of(code_at(h, i)[j]);
          unit /= weight * code_.scale;
        }
        for (index c = 0; c < n.width; ++c) {
          double sum = 0;
          for (index j = 0; j < n.tokens; ++j) {
            const double power = power_of(code_at(h, i)[j]);
            sum += power * (d_.v_codes[static_cast<std::size_t>((h * n.tokens + j) * n.width + c)] - 128.0);
          }
          const double want = sum * unit;
          const double got = out[static_cast<std::size_t>((h * n.tokens + i) * n.width + c)];
          const double most = std::exp2(7) * static_cast<double>(n.tokens) * unit;
          if (!(std::fabs(got - want) <= 1e-6 * most))
            return {repquant::errc::bad_format, place, std::lround(got * 1e6), std::lround(want * 1e6)};
        }
      }
    }
    return {};
  }

  buffer<float> out;

 private:
  [[nodiscard]] std::size_t panel_room() const { return static_cast<std::size_t>(layout_.bytes()); }
  [[nodiscard]] std::size_t scratch_room() const {
    return repquant::log_product_scratch(query_block, d_.size.tokens) + 64;
  }
  [[nodiscard]] std::size_t sum_room() const {
    return static_cast<std::size_t>(query_block * repquant::padded_scores(d_.size.width));
  }
  [[nodiscard]] const std::uint8_t* code_at(index h, index i) const {
    return codes_.data() + (h * d_.size.tokens + i) * repquant::padded_scores(d_.size.tokens);
  }
  /// What a code stands for, by definition.
  [[nodiscard]] double power_of(std::uint8_t q) const {
    return codec_.is_zero(q) ? 0 : std::exp2(-static_cast<double>(q) / Steps);
  }
  void head(index h) {
    const sizes& n = d_.size;
    const auto at = static_cast<std::size_t>(h);
    std::byte* const panels = panels_.data() + at * panel_room();
    repquant::pack_panels(layout_, {d_.v_codes.data() + h * n.tokens * n.width, 1, n.width}, panels);
    repquant::gemm_weights v;
    v.layout = layout_;
    v.panels = panels;
    v.slope = slope_.data();
    std::int32_t* const even = sums_.data() + at * 2 * sum_room();
    std::int32_t* const odd = even + sum_room();
    const index stride = repquant::padded_scores(n.width);
    std::array<float, 256> even_scale{};
    std::array<float, 256> odd_scale{};
    const auto width = static_cast<std::size_t>(n.width);
    const repquant::value_scales scales = repquant::scales_of(
        code_, d_.scale, std::span(even_scale).first(width), std::span(odd_scale).first(width));
    const repquant::value_factor factor(code_);
    repquant::weight_sums* const weights = weights_.data() + h * query_block;
    for (index i = 0; i < n.tokens; i += query_block) {
      const index rows = std::min(query_block, n.tokens - i);
      repquant::log_product<own_set, repquant::default_arch>(
          codec_, code_at(h, i), rows, repquant::padded_scores(n.tokens), [&n](index) { return n.tokens; }, v,
          8, even, odd, stride, std::span(scratch_).subspan(at * scratch_room(), scratch_room()),
          code_.relative ? weights : nullptr);
      for (index r = 0; r < rows; ++r) {
        repquant::value_row(std::span<const std::int32_t>(even + r * stride, width),
                            std::span<const std::int32_t>(odd + r * stride, Steps == 2 ? width : 0), scales,
                            std::span<float>(out.data() + (h * n.tokens + i + r) * n.width, width),
                            factor(weights[r]));
      }
    }
  }

  heads_data& d_;
  repquant::logarithmic<Steps> codec_;
  repquant::probability_code code_;
  const buffer<std::uint8_t>& codes_;
  team exec_;
  repquant::panel_layout layout_;
  buffer<std::byte> panels_;
  buffer<std::byte> scratch_;
  buffer<std::int32_t> sums_;
  std::vector<std::int32_t> slope_;
  buffer<repquant::weight_sums> weights_;
};

}  // namespace compare
