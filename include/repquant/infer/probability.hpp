// SPDX-License-Identifier: MIT
/// The float steps of attention on codes: scores from exact sums, softmax, probability codes, and values from
/// exact sums. They take the sums from whoever made them, so that the integer engine and a simulation in
/// double share every rounding.
///
/// Length: the steps of one row in their order.
#pragma once

#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/infer/probability_codes.hpp>
#include <repquant/infer/probability_kind.hpp>
#include <repquant/infer/requantize.hpp>
#include <repquant/kernel/log_product.hpp>

namespace repquant {

/// A codec of probabilities that is chosen at run time, with its parameters.
///
/// Units     scale in probability, zero_point a count (uniform only); of relative codes, in what the largest
///           probability of the query is
/// Requires  as the codec of its kind; a smallest product scale s_v 2^-D that is a normal float
struct probability_code {
  probability_kind kind = probability_kind::as_log_sqrt2;
  int bits = 4;
  zero_rule zero = zero_rule::last_code;  ///< logarithmic only
  int depth = 30;                         ///< logarithmic only
  float scale = 1.0F;
  std::int32_t zero_point = 0;  ///< uniform only
  /// Codes of p over the largest p of its query, which has the largest code of its own whatever it is; sums
  /// with values are divided by the sum of the weights (code_weights.hpp). The scale is relative_scale().
  bool relative = false;

  /// The scale of relative codes: the largest value has the code of the largest weight.
  [[nodiscard]] constexpr float relative_scale() const noexcept {
    return kind == probability_kind::as_uniform ? 1.0F / static_cast<float>((1 << bits) - 1) : 1.0F;
  }
  /// Whether relative codes are what they must be: a zero of their own, no zero point, and the scale above.
  [[nodiscard]] constexpr bool well_formed() const noexcept {
    return !relative || (zero == zero_rule::last_code && zero_point == 0 && scale == relative_scale());
  }
  /// Calls f(codec, params) with the codec of this kind.
  template<class F>
  constexpr decltype(auto) visit(F&& f) const noexcept {
    if (kind == probability_kind::as_log2) {
      return f(log2{.bits = bits, .zero = zero, .depth = depth}, log_scale{scale});
    }
    if (kind == probability_kind::as_log_sqrt2) {
      return f(log_sqrt2{.bits = bits, .zero = zero, .depth = depth}, log_scale{scale});
    }
    return f(uniform{.bits = bits}, affine{scale, zero_point});
  }
  /// The code of probability 0, which masked keys get.
  [[nodiscard]] std::uint8_t masked() const noexcept {
    return visit(
        [](const auto& codec, const auto& p) { return static_cast<std::uint8_t>(codec.encode(0.0F, p)); });
  }
};

/// Turns the two sums of every column of values into float: even times 2^-D s_p s_v, odd times sqrt(1/2) of
/// that. The uniform code and log2 have only the first, and an empty odd.
struct value_scales {
  std::span<const float> even;
  std::span<const float> odd;
};

/// The scales of value sums: even[d] = (s_p s_v[d]) 2^-D, odd[d] = even[d] * 0x1.6a09e6p-1, each product
/// rounded once; D = largest_shift of the codec, 0 for uniform.
///
/// Shapes    value_scale, even, odd [n]; what is returned points to even and odd
template<class Arch = default_arch>
[[nodiscard]] inline value_scales scales_of(const probability_code& code, std::span<const float> value_scale,
                                            std::span<float> even, std::span<float> odd) noexcept {
  using V = lane_of<Arch>;
  REPQUANT_ASSERT(value_scale.size() >= even.size() && odd.size() == even.size());
  const auto times = [](std::span<float> out, const float* in, float factor) {
    map_row<Arch>(
        out, [factor](const V& s) { return lane::mul(V(factor), s); }, in);
  };
  times(even, value_scale.data(), code.scale);
  return code.visit([&]<class C>(const C& codec, const auto&) -> value_scales {
    if constexpr (std::same_as<C, uniform>) {
      return {even, {}};
    } else {
      times(even, even.data(), lane::from_bits((127 - largest_shift(codec)) << 23));
      if constexpr (!std::same_as<C, log_sqrt2>) return {even, {}};
      times(odd, even.data(), 0x1.6a09e6p-1F);
      return {even, odd};
    }
  });
}

/// The softmax of one query from its exact score sums, as the head of infer/probability_codes.hpp defines it:
///
///   p[j] = softmax(sums multiplier)[j] over the visible keys, the first ones; 0 for the others
///
/// Shapes    sums [keys]; p [padded_scores(keys)], of which the first `keys` are the result
/// Units     multiplier = s_q s_k times the softmax scale
/// Requires  0 <= visible <= keys
/// Errors    a multiplier that is negative or not finite gives 0x7FC00000 for every visible key
/// Precision relative error <= (12 + n / 16 + 3 |d|) 2^-24, d = (sum - largest) multiplier; what is more
///           than 63 octaves below the largest is only small. The same bits for every Arch and every type of
///           Sum
template<class Arch = default_arch, ExactSum Sum>
inline void softmax_of_sums(std::span<const Sum> sums, float multiplier, index visible,
                            std::span<float> p) noexcept {
  const auto keys = static_cast<index>(sums.size());
  REPQUANT_ASSERT(visible <= keys && static_cast<index>(p.size()) >= padded_scores(keys));
  const softmax_steps steps = steps_of(multiplier);
  if (!steps.ordered) {
    std::fill(p.begin(), p.begin() + visible, std::numeric_limits<float>::quiet_NaN());
  } else if (visible > 0) {
    const float total = detail::exponentials_of<Arch>(sums.data(), visible, steps, p.data());
    detail::divide_row<Arch>(p.data(), total, visible);
  }
  std::fill(p.begin() + visible, p.begin() + keys, 0.0F);
}

/// Floats of scratch that probability_row needs: a row of exponentials and one of codes.
constexpr index probability_scratch(index keys) noexcept {
  return padded_scores(keys) + padded_scores(keys) / 4;
}

/// The probability codes of one query from its exact score sums: those of softmax_of_sums under the codec,
///
///   codes[j] = encode(softmax(sums multiplier)[j]),   relative ones as the head of probability_codes.hpp
///   says
///
/// over the visible keys, the first ones of the row; the others get code.masked(), and must stay out of the
/// product with the values (a code with zero_rule::none has no zero). Many queries: probability_codes.
///
/// Shapes    sums, codes [keys]; scratch [probability_scratch(keys)]
/// Units     multiplier = s_q s_k times the softmax scale
/// Requires  0 <= visible <= keys
/// Errors    a multiplier that is negative or not finite gives code.masked() for every key
/// Precision the same codes for every Arch and every type of Sum
template<class Arch = default_arch, ExactSum Sum>
inline void probability_row(const probability_code& code, std::span<const Sum> sums, float multiplier,
                            index visible, std::span<float> scratch, std::span<std::uint8_t> codes) noexcept {
  const auto keys = static_cast<index>(sums.size());
  REPQUANT_ASSERT(visible <= keys && codes.size() == sums.size());
  REPQUANT_ASSERT(static_cast<index>(scratch.size()) >= probability_scratch(keys));
  const softmax_steps steps = steps_of(multiplier);
  const index n = steps.ordered ? visible : 0;
  if (n > 0) {
    auto* const row = reinterpret_cast<std::uint8_t*>(scratch.data() + padded_scores(keys));
    code.visit([&]<class C>(const C& codec, const auto& params) {
      if constexpr (!std::same_as<C, uniform>) {
        if (code.relative) {
          detail::distances_of(sums.data(), n, 0x1p63F, scratch.data());
          const auto distances = [&](index i) { return lane::load<lane_of<Arch>>(scratch.data() + i); };
          detail::relative_codes<Arch>(codec, distances, n, multiplier, row);
          return;
        }
      }
      const float total = detail::exponentials_of<Arch>(sums.data(), n, steps, scratch.data());
      detail::encode_shares<Arch>(codec, params, scratch.data(), code.relative ? 1.0F : total, n, row);
    });
    std::copy(row, row + n, codes.data());
  }
  std::fill(codes.begin() + n, codes.end(), code.masked());
}

/// out[d] = (float(even[d]) scales.even[d] + float(odd[d]) scales.odd[d]) factor; without the second term
/// where odd is empty. Conversions half to even, each product and the sum rounded once. A factor of 1 changes
/// nothing.
///
/// Shapes    even, scales.even, out [n]; odd and scales.odd [n] or [0]
/// Requires  the sums and out do not overlap
template<class Arch = default_arch, ExactSum Sum>
inline void value_row(std::span<const Sum> even, std::span<const Sum> odd, const value_scales& scales,
                      std::span<float> out, float factor = 1.0F) noexcept {
  using V = lane_of<Arch>;
  REPQUANT_ASSERT(scales.even.size() >= out.size());
  const auto first = [](const V& s, const V& e) { return lane::mul(s, e); };
  const auto onto = [](const V& a, const V& s, const V& o) { return lane::add(a, lane::mul(s, o)); };
  std::size_t i = 0;
  if constexpr (std::same_as<Sum, std::int32_t>) {  // whole registers stay in registers
    const auto real = [](const std::int32_t* p) { return lane::real(lane::load<ints_of<V>>(p)); };
    for (constexpr std::size_t width = lane_width<V>; out.size() - i >= width; i += width) {
      V value = first(real(even.data() + i), lane::load<V>(scales.even.data() + i));
      if (!odd.empty()) value = onto(value, real(odd.data() + i), lane::load<V>(scales.odd.data() + i));
      lane::store(out.data() + i, lane::mul(value, V(factor)));
    }
  }
  constexpr std::size_t block = 64;
  std::array<float, block> sums;
  for (; i < out.size(); i += block) {
    const std::size_t n = std::min(block, out.size() - i);
    const std::span<float> to = out.subspan(i, n);
    real_row<Arch>(even.subspan(i, n), std::span<float>(sums).first(n));
    map_row<Arch>(to, first, sums.data(), scales.even.data() + i);
    if (!odd.empty()) {
      real_row<Arch>(odd.subspan(i, n), std::span<float>(sums).first(n));
      map_row<Arch>(to, onto, to.data(), sums.data(), scales.odd.data() + i);
    }
    map_row<Arch>(
        to, [factor](const V& v) { return lane::mul(v, V(factor)); }, to.data());
  }
}

}  // namespace repquant
