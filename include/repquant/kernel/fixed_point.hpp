// SPDX-License-Identifier: MIT
/// Arithmetic without floats: rounding shifts and products, 2^-t, the logistic function, log2 and square root
/// on integers, over CodeLane. What layers on a machine without a float unit are made of
/// (infer/integer_only/).
///
/// Qn is an integer that stands for itself times 2^-n. Every intermediate stays below 2^31 for the arguments
/// that a function requires, so nothing wraps, and every architecture gives the same integers. Coefficients
/// are minimax fits made for this file, rounded to their Qn when it is compiled.
///
/// Precision: bounds above the largest error over every argument of the domain, in brackets
///   exp2_of_minus    1e-5 [8.61e-6]
///   logistic_tail    6e-5 [5.48e-5]
///   log2_of          2e-4 [1.96e-4]
#pragma once

#include <repquant/core/lane.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace repquant::fixed_point {

/// How many bits v has: 0 for 0, 64 at most.
constexpr int width_of(std::uint64_t v) noexcept { return static_cast<int>(std::bit_width(v)); }

/// The integer nearest to c 2^bits, half away from zero.
constexpr std::int32_t quantized(double c, int bits) noexcept {
  const double x = c * static_cast<double>(std::int64_t{1} << bits);
  return static_cast<std::int32_t>(x < 0 ? x - 0.5 : x + 0.5);
}

/// v / 2^bits, rounded half up.
///
/// Requires  1 <= bits <= 30, v + 2^(bits - 1) < 2^31
template<CodeLane I>
inline I shifted(const I& v, int bits) noexcept {
  return (v + I(1 << (bits - 1))) >> bits;
}
/// a b / 2^bits, rounded half up.
///
/// Requires  1 <= bits <= 30, |a b| + 2^(bits - 1) < 2^31
template<CodeLane I>
inline I times(const I& a, const I& b, int bits) noexcept {
  return shifted(I(a * b), bits);
}

/// c[0] + c[1] x + c[2] x^2 + ... by Horner, each product rounded to the Qn of the coefficients; x is in
/// Qbits.
template<CodeLane I, std::size_t N>
inline I polynomial(const I& x, int bits, const std::array<std::int32_t, N>& c) noexcept {
  I y(c[N - 1]);
  for (std::size_t i = N - 1; i > 0; --i) y = times(y, x, bits) + I(c[i - 1]);
  return y;
}

/// 2^-t: t in Q12, the result in Q18, 1 at most. 2^-f by a polynomial of degree 4, then a rounding shift.
///
/// Requires  t >= 0
template<CodeLane I>
inline I exp2_of_minus(const I& t) noexcept {
  constexpr std::array<std::int32_t, 5> p{1 << 18, quantized(-0.69307903, 18), quantized(0.23954703, 18),
                                          quantized(-0.0533755, 18), quantized(0.00690961, 18)};
  const I whole = lane::min(I(t >> 12), I(30));
  const I y = polynomial(I(t & I(4095)), 12, p);
  return (((y << 1) >> whole) + I(1)) >> 1;
}

/// 1 / (1 + 2^t), the logistic function of -t ln 2: t in Q12, the result in Q15, 1/2 at most. With e = 2^-t
/// it is e / (1 + e), the reciprocal a polynomial of degree 6.
///
/// Requires  t >= 0
template<CodeLane I>
inline I logistic_tail(const I& t) noexcept {
  constexpr std::array<std::int32_t, 7> p{quantized(0.99999362, 15), quantized(-0.99929889, 15),
                                          quantized(0.98729762, 15), quantized(-0.91099738, 15),
                                          quantized(0.68290997, 15), quantized(-0.33602109, 15),
                                          quantized(0.07612252, 15)};
  const I e = shifted(exp2_of_minus(t), 3);
  return times(e, polynomial(e, 15, p), 15);
}

/// log2(v) in Q12, for v > 0.
constexpr std::int32_t log2_of(std::uint64_t v) noexcept {
  constexpr std::array<std::int64_t, 6> p{0,
                                          quantized(1.44196561, 15),
                                          quantized(-0.7096628, 15),
                                          quantized(0.4175957, 15),
                                          quantized(-0.19626953, 15),
                                          quantized(0.04638531, 15)};
  const int exponent = width_of(v) - 1;
  const std::uint64_t mantissa = exponent > 15 ? v >> (exponent - 15) : v << (15 - exponent);
  const auto f = static_cast<std::int64_t>(mantissa & 0x7FFF);
  std::int64_t y = p[5];
  for (std::size_t i = 5; i > 0; --i) y = ((y * f + (1 << 14)) >> 15) + p[i - 1];
  return (exponent << 12) + static_cast<std::int32_t>((y + 4) >> 3);
}

/// The largest integer whose square is at most v.
constexpr std::uint64_t square_root(std::uint64_t v) noexcept {
  if (v == 0) return 0;
  std::uint64_t r = std::uint64_t{1} << (width_of(v) + 1) / 2;  // above the root; Newton comes down to it
  if (width_of(v) > 62) r = 0xFFFFFFFFU;
  for (std::uint64_t next = (r + v / r) / 2; next < r; next = (r + v / r) / 2) r = next;
  return r;
}

/// A positive real as an integer of 15 bits and a shift: multiplier 2^-shift.
struct scale {
  std::int32_t multiplier = 0;  ///< 2^14 .. 2^15 - 1
  int shift = 0;                ///< may be negative
};
/// The scale nearest to a real; relative error at most 2^-15. Runs where there are floats: when a layer is
/// prepared.
///
/// Requires  x > 0 and finite
inline scale scale_of(double x) noexcept {
  int exponent = 0;
  const double mantissa = std::frexp(x, &exponent);  // 1/2 .. 1
  auto m = static_cast<std::int32_t>(std::nearbyint(std::ldexp(mantissa, 15)));
  if (m == 1 << 15) {
    m >>= 1;
    ++exponent;
  }
  return {m, 15 - exponent};
}

}  // namespace repquant::fixed_point
