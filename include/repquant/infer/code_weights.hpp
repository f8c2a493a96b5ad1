// SPDX-License-Identifier: MIT
/// What the probability codes of a query weigh together: relative codes are divided by it, so that they add
/// up to one whatever was rounded.
///
///   factor = 1 / t,   t = what value_row gives for a column of ones with the scale 1: of exact sums
#pragma once

#include <repquant/infer/probability.hpp>
#include <repquant/kernel/log_bands.hpp>
#include <repquant/kernel/row_bytes.hpp>

namespace repquant {

/// The sums of the weights of n codes, one by one: what products with them give beside the sums of values.
///
/// Precision exact
[[nodiscard]] inline weight_sums weights_of(const probability_code& code, const std::uint8_t* codes,
                                            index n) noexcept {
  weight_sums s;
  code.visit([&]<class C>(const C& codec, const auto& p) {
    if constexpr (std::same_as<C, uniform>) {
      s.even = detail::row_sum(codes, n) - n * std::int64_t{p.zero_point};
    } else {
      for (index i = 0; i < n; ++i) {
        if (codec.is_zero(codes[i])) continue;
        const bool half = std::same_as<C, log_sqrt2> && codes[i] % 2 != 0;
        (half ? s.odd : s.even) += std::int64_t{1} << (largest_shift(codec) - C::shift(codes[i]));
      }
    }
  });
  return s;
}

/// Gives the factor of a row of value sums: 1 for codes that are not relative.
class value_factor {
 public:
  explicit value_factor(const probability_code& code) noexcept : code_(code) {
    const float one = 1.0F;
    const value_scales scales = scales_of<scalar_arch>(code, {&one, 1}, {&even_, 1}, {&odd_, 1});
    two_ = !scales.odd.empty();
  }
  /// 1 / t for the codes of the keys that a query sees; 0 where it sees none, or none has weight.
  [[nodiscard]] float operator()(const std::uint8_t* codes, index visible) const noexcept {
    return code_.relative ? (*this)(weights_of(code_, codes, visible)) : 1.0F;
  }
  /// The same by the sums that a product with the codes gave.
  [[nodiscard]] float operator()(const weight_sums& s) const noexcept {
    if (!code_.relative) return 1;
    float t = lane::mul(static_cast<float>(s.even), even_);
    if (two_) t = lane::add(t, lane::mul(static_cast<float>(s.odd), odd_));
    return t > 0 ? lane::div(1.0F, t) : 0.0F;
  }

 private:
  probability_code code_;
  float even_ = 0;
  float odd_ = 0;
  bool two_ = false;
};

}  // namespace repquant
