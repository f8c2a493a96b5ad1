// SPDX-License-Identifier: MIT
/// exp, erf, tanh and the activations made of them, over Lane: the transcendentals of the running model.
///
/// libm and the SIMD libraries differ from build to build; these are the definition instead. They use only
/// + - * / rounded once each, through lane::, so that every architecture and compiler gives the same bits.
/// Every finite and infinite float is in the domain; a NaN gives 0x7FC00000. The coefficients are minimax
/// fits made for this file (Lawson iteration in extended precision, rounded to float), evaluated by Horner.
///
/// Call them qualified (elementary::exp), here too: for a register, an unqualified exp finds xsimd's, which
/// gives other bits.
///
/// Precision: bounds above the largest error found against double over every 61st float, in brackets
///   exp                  1 ulp [0.990]; 0 where e^x < 2^-126
///   exp2_of_negative     3 2^-24 of the result [2.28]
///   erf                  7 ulp [6.56], 4.2e-7 absolute [3.91e-7]
///   tanh                 7 ulp [6.05], 4.2e-7 absolute [3.60e-7]
///   silu, gelu_tanh      1.3e-7 max(1, |x|) [1.18e-7 both]
///   gelu_erf             2.5e-7 max(1, |x|) [2.30e-7]
#pragma once

#include <repquant/kernel/one_nan.hpp>

#include <array>
#include <cstddef>

namespace repquant::elementary {

/// c[0] + c[1] x + c[2] x^2 + ... by Horner, each operation rounded once.
template<Lane V, std::size_t N>
inline V polynomial(const V& x, const std::array<float, N>& c) noexcept {
  V y(c[N - 1]);
  for (std::size_t i = N - 1; i > 0; --i) y = lane::add(lane::mul(y, x), V(c[i - 1]));
  return y;
}

/// y, which is a number, and 0x7FC00000 where the argument x is NaN.
template<Lane V>
inline V nan_of(const V& x, const V& y) noexcept {
  return lane::where_equal(x, x, y, V(std::numeric_limits<float>::quiet_NaN()));
}

/// e^x. Overflows to infinity above 88.7228; 0 below -87.3365, where the result would be subnormal.
///
/// x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r); 2^n goes into the exponent bits.
///
/// Source  the two-part ln 2: Cody and Waite 1980; its upper part has 9 bits, so n times it is exact
template<Lane V>
inline V exp(const V& x) noexcept {
  using I = ints_of<V>;
  constexpr std::array<float, 5> p{0x1.000000p-1F, 0x1.55548ep-3F, 0x1.55545ep-5F, 0x1.123b92p-7F,
                                   0x1.6db47ep-10F};
  constexpr float largest = 0x1.62e42ep+6F;    // the largest float whose e^x is finite
  constexpr float smallest = -0x1.5d589ep+6F;  // the smallest whose e^x is not below 2^-126
  const V t = lane::clamp(x, V(smallest), V(largest));
  const I n = lane::round_to_int(lane::mul(t, V(0x1.715476p+0F)));
  const V whole = lane::real(n);
  const V r = lane::sub(lane::sub(t, lane::mul(whole, V(0x1.63p-1F))), lane::mul(whole, V(-0x1.bd0106p-13F)));
  const V tail = lane::add(r, lane::mul(lane::mul(r, r), polynomial(r, p)));
  const V scaled = lane::from_bits(I(lane::bits(lane::add(V(1.0F), tail)) + (n << 23)));
  const V low = lane::where_greater(V(smallest), x, V(0.0F), scaled);
  const V all = lane::where_greater(x, V(largest), V(std::numeric_limits<float>::infinity()), low);
  return nan_of(x, all);
}

/// 2^x for -126 <= x <= 0: the numerators of a softmax that becomes codes. 1 for 0 and -0.
///
/// x = n + i / 8 + g, |g| <= 1/16; 2^(i/8) from a table, which also takes back what i adds to the exponent
/// bits; 2^g - 1 by Horner's rule.
template<Lane V>
REPQUANT_ALWAYS_INLINE inline V exp2_of_negative(const V& x) noexcept {
  using I = ints_of<V>;
  // the bits of 2^(i/8) less i 2^20
  constexpr std::array<std::int32_t, 8> eighths{0x3F800000, 0x3F7B95C2, 0x3F7837F0, 0x3F75FED7,
                                                0x3F7504F3, 0x3F75672A, 0x3F7744FD, 0x3F7AC0C7};
  constexpr std::array<float, 3> p{0x1.62e432p-1F, 0x1.ec0c32p-3F, 0x1.c6a004p-5F};
  const V whole = lane::add(x, V(0x1.8p20F));  // rounds 8 x half to even; 8 n + i stands in the lowest bits
  const V g = lane::sub(x, lane::sub(whole, V(0x1.8p20F)));
  const I places = lane::bits(whole);
  const V power = lane::from_bits(I(lane::look_up(eighths, places) + (places << 20)));
  return lane::add(power, lane::mul(lane::mul(power, g), polynomial(g, p)));
}

/// erf of a number; of a NaN, some number. At its end the quotient is exactly 1, so nothing beyond needs a
/// comparison.
template<Lane V>
inline V erf_of_number(const V& x) noexcept {
  constexpr std::array<float, 6> p{0x1.20dd76p+0F, 0x1.8a1308p-3F,  0x1.c733d8p-5F,
                                   0x1.12b23ep-8F, 0x1.a8e850p-12F, 0x1.b8e040p-18F};
  constexpr std::array<float, 7> q{1.0F,           0x1.01f9fep-1F,  0x1.e00a9cp-4F,
                                   0x1.0982a2p-6F, 0x1.70a41ap-10F, 0x1.29b0fap-14F,
                                   0x1.0a3244p-22F};
  constexpr float end = 0x1.f5a854p+1F;
  const V t = lane::clamp(x, V(-end), V(end));
  const V s = lane::mul(t, t);
  const V y = lane::div(lane::mul(t, polynomial(s, p)), polynomial(s, q));
  return lane::clamp(y, V(-1.0F), V(1.0F));
}

/// The error function. Exactly -1 and 1 beyond 3.9192.
///
/// x P(x^2) / Q(x^2), all coefficients positive: no cancellation.
template<Lane V>
inline V erf(const V& x) noexcept {
  return nan_of(x, erf_of_number(x));
}

/// The hyperbolic tangent. Exactly -1 and 1 beyond 9.02, where the quotient is.
template<Lane V>
inline V tanh(const V& x) noexcept {
  constexpr std::array<float, 6> p{
      1.0F, 0x1.182a28p-3F, 0x1.fb078ep-9F, 0x1.d5e32ap-16F, 0x1.06b93cp-25F, -0x1.ad5f3cp-37F};
  constexpr std::array<float, 5> q{1.0F, 0x1.e16a68p-2F, 0x1.be6556p-6F, 0x1.9cfedap-12F, 0x1.599336p-20F};
  constexpr float end = 0x1.20a3d8p+3F;
  const V t = lane::clamp(x, V(-end), V(end));
  const V s = lane::mul(t, t);
  const V y = lane::div(lane::mul(t, polynomial(s, p)), polynomial(s, q));
  return nan_of(x, lane::clamp(y, V(-1.0F), V(1.0F)));
}

/// max(x, 0); 0 for -0.
template<Lane V>
inline V relu(const V& x) noexcept {
  return nan_of(x, lane::max(x, V(0.0F)));
}

/// x / (1 + e^-x), also called swish. Source: arXiv 1702.03118
template<Lane V>
inline V silu(const V& x) noexcept {
  // -infinity would be divided by infinity; the lowest float has the same limit, -0
  const V t = lane::max(x, V(std::numeric_limits<float>::lowest()));
  const V y = lane::div(t, lane::add(V(1.0F), elementary::exp(lane::sub(V(0.0F), t))));
  return nan_of(x, y);
}

/// x Phi(x) = (x / 2)(1 + erf(x / sqrt 2)). Source: arXiv 1606.08415
template<Lane V>
inline V gelu_erf(const V& x) noexcept {
  const V t = lane::max(x, V(std::numeric_limits<float>::lowest()));
  const V y =
      lane::mul(lane::mul(t, V(0.5F)), lane::add(V(1.0F), erf_of_number(lane::mul(t, V(0x1.6a09e6p-1F)))));
  return nan_of(x, y);
}

/// (x / 2)(1 + tanh(sqrt(2 / pi)(x + 0.044715 x^3))), computed as the equal x / (1 + e^-2u), u the argument
/// of tanh, which does not cancel for negative x. Source: arXiv 1606.08415
template<Lane V>
inline V gelu_tanh(const V& x) noexcept {
  constexpr std::array<float, 2> minus_two_u{-0x1.988454p+0F, -0x1.2444f2p-4F};  // over x, in x^2
  const V t = lane::max(x, V(std::numeric_limits<float>::lowest()));
  const V exponent = lane::mul(t, polynomial(lane::mul(t, t), minus_two_u));
  const V y = lane::div(t, lane::add(V(1.0F), elementary::exp(exponent)));
  return nan_of(x, y);
}

}  // namespace repquant::elementary
