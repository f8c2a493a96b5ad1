// SPDX-License-Identifier: MIT
/// The meaning of a code, restated in double from its definition; shares nothing with the library.
#pragma once

#include <cmath>
#include <limits>

namespace oracle {

/// The correctly rounded float quotient, as a double. Rounding the double quotient again is exact: 53 bits
/// are more than 2 * 24 + 2.
inline double quotient(float x, float s) {
  const double exact = static_cast<double>(x) / static_cast<double>(s);
  const double overflow = std::ldexp(2 - 0x1p-24, 127);  // from here on the nearest float is infinity
  if (std::fabs(exact) >= overflow) return std::copysign(std::numeric_limits<double>::infinity(), exact);
  return static_cast<double>(static_cast<float>(exact));
}

/// Round half to even, from floor alone.
inline double round_half_even(double v) {
  const double below = std::floor(v);
  const double part = v - below;
  if (part != 0.5) return part < 0.5 ? below : below + 1;
  return std::floor(below / 2) * 2 == below ? below : below + 1;
}

/// q = clamp(rne(x / s) + z, 0, 2^bits - 1); NaN is as zero.
inline int uniform_code(float x, float s, int z, int bits) {
  const double last = std::ldexp(1.0, bits) - 1;
  const double v = quotient(x, s);
  const double q = (std::isnan(v) ? 0.0 : std::isinf(v) ? v : round_half_even(v)) + z;
  return static_cast<int>(q < 0 ? 0 : q > last ? last : q);
}

/// (q - z) s, rounded once to float.
inline float uniform_value(int q, float s, int z) {
  return static_cast<float>((static_cast<double>(q) - z) * static_cast<double>(s));
}

/// The settings of a logarithmic codec: 1 or 2 steps an octave.
struct logarithm {
  int steps;
  int bits;
  bool last_code_is_zero;
  int depth;

  [[nodiscard]] int smallest() const {
    const int last = (1 << bits) - (last_code_is_zero ? 2 : 1);
    int q = 0;  // the last code that the bits hold and whose power of two is at most depth
    while (q < last && (q + 1) / steps <= depth) ++q;
    return q;
  }
  [[nodiscard]] int rest() const { return last_code_is_zero ? (1 << bits) - 1 : smallest(); }
};

/// q = round(-steps log2(x / s)), 0 above, the last code for everything at or below zero, NaN, subnormal
/// quotients, and what lies below the smallest level. In double the logarithm is off by 1e-16 at most,
/// and no float lies nearer than 1e-8 to a threshold: the thresholds are irrational.
inline int logarithmic_code(float x, float s, const logarithm& c) {
  const double v = quotient(x, s);
  if (!(v >= 0x1p-126)) return c.rest();
  if (v >= 1) return 0;
  const double q = std::round(-c.steps * std::log2(v));
  return q > c.smallest() ? c.rest() : static_cast<int>(q);
}

/// s 2^(-q / steps), where the half powers are powers of two times the float nearest to sqrt 2.
inline float logarithmic_value(int q, float s, const logarithm& c) {
  if (q > c.smallest()) return 0;
  const bool half = q % c.steps != 0;
  const double root = half ? static_cast<double>(1.41421356237309504880F) : 1.0;
  const int halvings = half ? (q + 1) / c.steps : q / c.steps;
  return static_cast<float>(static_cast<double>(s) * root * std::ldexp(1.0, -halvings));
}

/// What RepQ-ViT publishes at `bits` bits: 2^bits levels and a zero beside them, 17 values at 4 bits.
inline double published_log_sqrt2_value(float x, float s, int bits) {
  const double q = std::round(-2 * std::log2(quotient(x, s)));
  if (!(q < std::ldexp(1.0, bits))) return 0;
  return static_cast<double>(s) * std::exp2(-(q < 0 ? 0 : q) / 2);
}

}  // namespace oracle
