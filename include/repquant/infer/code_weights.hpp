// SPDX-License-Identifier: MIT
/// What the probability codes of a query weigh together: relative codes are divided by it, so that they add
/// up to one whatever was rounded.
///
///   factor = 1 / t,   t = what value_row gives for a column of ones with the scale 1: of exact sums
#pragma once

#include <repquant/infer/probability.hpp>

namespace repquant {

/// Exact sums of the weights of codes: of even codes and of odd ones, in 2^-D; log2 and uniform have even
/// only.
struct weight_sums {
  std::int64_t even = 0;
  std::int64_t odd = 0;
};

namespace detail {

/// 2^(D - shift(q)), or 0 where q means zero.
///
/// Requires  D = largest_shift(codec) <= 30, q >= 0
template<CodeLane I, int Steps>
inline I weight_of(const logarithmic<Steps>& codec, const I& q) noexcept {
  const I level = lane::min(q, I(codec.smallest()));
  const I halvings = Steps == 1 ? level : I(level >> 1);
  const I power(lane::round_to_int(lane::from_bits(I((I(127 + largest_shift(codec)) - halvings) << 23))));
  return lane::select(lane::greater(q, I(codec.smallest())), I(0), power);
}

}  // namespace detail

/// The sums of the weights of a row of codes.
///
/// Precision exact, the same for every Arch
template<class Arch = default_arch>
[[nodiscard]] inline weight_sums sum_weights(const probability_code& code, const std::uint8_t* codes,
                                             index n) noexcept {
  weight_sums s;
  code.visit([&]<class C>(const C& codec, const auto& p) {
    if constexpr (std::same_as<C, uniform>) {
      for (index i = 0; i < n; ++i) s.even += codes[i];
      s.even -= n * std::int64_t{p.zero_point};
    } else {
      using I = ints_of<lane_of<Arch>>;
      constexpr bool two = std::same_as<C, log_sqrt2>;
      constexpr auto width = static_cast<index>(lane_width<lane_of<Arch>>);
      constexpr index deepest = 20;  // so that 2^10 weights fit a lane
      index i = 0;
      if constexpr (width > 1) {
        while (largest_shift(codec) <= deepest && n - i >= width) {
          const index end = i + std::min<index>((n - i) / width, 1 << 10) * width;
          I all(0);
          I odd(0);
          for (; i < end; i += width) {
            const I q = widen<I>(codes + i);
            const I weight = detail::weight_of(codec, q);
            all = all + weight;
            if (two) odd = odd + (weight & (I(0) - (q & I(1))));
          }
          std::array<std::int32_t, static_cast<std::size_t>(width)> a{};
          std::array<std::int32_t, static_cast<std::size_t>(width)> o{};
          lane::store(a.data(), all);
          lane::store(o.data(), odd);
          for (std::size_t l = 0; l < a.size(); ++l) {
            s.even += a[l] - o[l];
            s.odd += o[l];
          }
        }
      }
      for (; i < n; ++i) {
        (two && codes[i] % 2 != 0 ? s.odd : s.even) +=
            detail::weight_of(codec, static_cast<std::int32_t>(codes[i]));
      }
    }
  });
  return s;
}

/// Gives the factor of a row of value sums: 1 for codes that are not relative.
template<class Arch = default_arch>
class value_factor {
 public:
  explicit value_factor(const probability_code& code) noexcept : code_(code) {
    const float one = 1.0F;
    const value_scales scales = scales_of<scalar_arch>(code, {&one, 1}, {&even_, 1}, {&odd_, 1});
    two_ = !scales.odd.empty();
  }
  /// 1 / t for the codes of the keys that a query sees; 0 where it sees none, or none has weight.
  [[nodiscard]] float operator()(const std::uint8_t* codes, index visible) const noexcept {
    if (!code_.relative) return 1;
    const weight_sums s = sum_weights<Arch>(code_, codes, visible);
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
