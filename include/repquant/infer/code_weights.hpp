// SPDX-License-Identifier: MIT
/// What the probability codes of a query weigh together: relative codes are divided by it, so that they add
/// up to one whatever was rounded.
///
///   factor = 1 / t,   t = what value_row gives for a column of ones with the scale 1: of exact sums
#pragma once

#include <repquant/infer/probability.hpp>
#include <repquant/kernel/row_bytes.hpp>

namespace repquant {

/// Exact sums of the weights of codes: of even codes and of odd ones, in 2^-D; log2 and uniform have even
/// only.
struct weight_sums {
  std::int64_t even = 0;
  std::int64_t odd = 0;
};

/// Sums the weights of rows of codes.
///
/// Precision exact, the same for every Arch
class weight_adder {
 public:
  explicit weight_adder(const probability_code& code) noexcept : code_(code) {
    code.visit([this]<class C>(const C& codec, const auto&) {
      if constexpr (!std::same_as<C, uniform>) {
        constexpr int shifts = std::same_as<C, log2> ? 16 : 8;
        one_table_ = largest_shift(codec) < shifts;
        if (!one_table_) return;
        even_ = make_power_table(codec, 0, 0, shifts);
        if constexpr (std::same_as<C, log_sqrt2>) odd_ = make_power_table(codec, 1, 0, shifts);
      }
    });
  }
  template<class Arch>
  [[nodiscard]] weight_sums of(const std::uint8_t* codes, index n) const noexcept {
    weight_sums s;
    code_.visit([&]<class C>(const C& codec, const auto& p) {
      if constexpr (std::same_as<C, uniform>) {
        s.even = detail::row_sum(codes, n) - n * std::int64_t{p.zero_point};
      } else if (one_table_) {
        constexpr index most = 1 << 15;  // so that an int32 holds the sum
        for (index i = 0; i < n; i += most) {
          const index count = std::min(most, n - i);
          s.even += power_sum<Arch>(even_, codes + i, count);
          if constexpr (std::same_as<C, log_sqrt2>) s.odd += power_sum<Arch>(odd_, codes + i, count);
        }
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

 private:
  probability_code code_;
  power_table even_;
  power_table odd_;
  bool one_table_ = false;
};

/// Gives the factor of a row of value sums: 1 for codes that are not relative.
class value_factor {
 public:
  explicit value_factor(const probability_code& code) noexcept : relative_(code.relative), weights_(code) {
    const float one = 1.0F;
    const value_scales scales = scales_of<scalar_arch>(code, {&one, 1}, {&even_, 1}, {&odd_, 1});
    two_ = !scales.odd.empty();
  }
  /// 1 / t for the codes of the keys that a query sees; 0 where it sees none, or none has weight.
  template<class Arch = default_arch>
  [[nodiscard]] float of(const std::uint8_t* codes, index visible) const noexcept {
    if (!relative_) return 1;
    const weight_sums s = weights_.of<Arch>(codes, visible);
    float t = lane::mul(static_cast<float>(s.even), even_);
    if (two_) t = lane::add(t, lane::mul(static_cast<float>(s.odd), odd_));
    return t > 0 ? lane::div(1.0F, t) : 0.0F;
  }

 private:
  bool relative_;
  weight_adder weights_;
  float even_ = 0;
  float odd_ = 0;
  bool two_ = false;
};

}  // namespace repquant
