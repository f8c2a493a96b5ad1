// SPDX-License-Identifier: MIT
/// The laws of a Codec, as a function that runs them: for users who write their own.
#pragma once

#include <repquant/codec/concept.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace repquant::testing {

namespace detail {

/// The float that is `steps` representable values above x. Requires both to be finite.
inline float step(float x, std::int64_t steps) noexcept {
  const auto b = std::bit_cast<std::int32_t>(x);
  std::int64_t ordered = b < 0 ? -static_cast<std::int64_t>(b & 0x7FFFFFFF) : b;
  ordered += steps;
  const auto magnitude = static_cast<std::uint32_t>(ordered < 0 ? -ordered : ordered);
  return std::bit_cast<float>(ordered < 0 ? magnitude | 0x80000000U : magnitude);
}

/// Values that codecs get wrong: zeros, subnormals, the ends of the float range, infinities, NaN of both
/// signs. In ascending order but for the last two.
inline constexpr std::size_t special_count = 20;
inline std::array<float, special_count> special_values() noexcept {
  using limits = std::numeric_limits<float>;
  const float nan = limits::quiet_NaN();
  return {-limits::infinity(), -limits::max(), -0x1p+100F,         -1.0F,     -0x1p-100F,
          -limits::min(),      -0x1p-127F,     -0x1p-149F,         -0.0F,     0.0F,
          0x1p-149F,           0x1p-127F,      limits::min(),      0x1p-100F, 1.0F,
          0x1p+100F,           limits::max(),  limits::infinity(), nan,       std::copysign(nan, -1.0F)};
}

/// One block of values through the kernels of the widest architecture and of the scalar one.
template<Codec C>
inline bool same_on_every_arch(const C& c, const typename C::params& p, std::span<const float> x) noexcept {
  std::array<code_type_t<C>, 256> codes{};
  std::array<float, 256> wide{};
  const std::span<code_type_t<C>> q(codes.data(), x.size());
  const std::span<float> w(wide.data(), x.size());
  encode(c, p, x, q);
  decode(c, p, std::span<const code_type_t<C>>(q), w);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int32_t code = c.encode(x[i], p);
    if (static_cast<std::int32_t>(q[i]) != code) return false;
    if (std::bit_cast<std::uint32_t>(w[i]) != std::bit_cast<std::uint32_t>(c.decode(code, p))) return false;
  }
  return true;
}

/// What is watched while x ascends.
struct ascent {
  bool any = false;
  std::int32_t code = 0;
  float value = 0;
  int direction = 0;  ///< of the codes: 1 up, -1 down, 0 not known yet

  /// False where the code turns round or the value falls.
  bool keeps(std::int32_t next_code, float next_value) noexcept {
    const int turn = !any || next_code == code ? 0 : next_code > code ? 1 : -1;
    const bool kept = (turn == 0 || direction == 0 || turn == direction) && (!any || next_value >= value);
    if (turn != 0) direction = turn;
    any = true;
    code = next_code;
    value = next_value;
    return kept;
  }
};

}  // namespace detail

/// The name of the first law of a Codec that `codec` breaks under fit(r), or nullptr.
///
///   "levels"       there are 2 or more
///   "range"        every float, NaN and infinities included, gets a code in 0 .. levels-1
///   "value"        the value of a code that encode makes is finite
///   "fixed point"  decode(encode(decode(q))) == decode(q) for every code q that encode makes
///   "order"        as x grows the code never turns round, and decode(encode(x)) never falls
///   "one meaning"  the kernels give the codes and the bits of the codec's own functions, in registers too
///
/// Tried are special values, 4096 values across the range and beyond it on both sides, and, for the order,
/// the neighbours of each place where the code changes, found by bisection.
///
/// Requires  r finite, r.lo <= r.hi
/// Cost      some 100,000 codes; no heap
/// Example   examples/03_own_codec.cpp
template<Codec C>
inline const char* broken_law(const C& codec, range r) noexcept {
  const typename C::params p = codec.fit(r);
  const int levels = codec.levels();
  if (levels < 2) return "levels";

  const auto specials = detail::special_values();
  for (float x : specials) {
    const std::int32_t q = codec.encode(x, p);
    if (q < 0 || q >= levels) return "range";
    const float value = codec.decode(q, p);
    if (!std::isfinite(value)) return "value";
    if (codec.decode(codec.encode(value, p), p) != value) return "fixed point";
  }
  if (!detail::same_on_every_arch(codec, p, specials)) return "one meaning";

  // first across the range and half of it beyond on both sides, then across the exponents of all floats
  const double width = static_cast<double>(r.hi) - r.lo;
  const auto sample = [&](int pass, int i) {
    if (pass == 0) {
      constexpr double most = std::numeric_limits<float>::max();
      return static_cast<float>(std::fmin(std::fmax(r.lo + width * (i / 2048.0 - 0.5), -most), most));
    }
    const int k = i < 2048 ? 2047 - i : i - 2048;
    const float magnitude = std::ldexp(1.0F + static_cast<float>(k % 8) / 8.0F, k / 8 - 128);
    return i < 2048 ? -magnitude : magnitude;
  };
  for (int pass = 0; pass < 2; ++pass) {
    detail::ascent climb;
    std::array<float, 256> block{};
    float before = 0;
    for (int i = 0; i < 4096; ++i) {
      const float x = sample(pass, i);
      block[static_cast<std::size_t>(i % 256)] = x;
      if (i % 256 == 255 && !detail::same_on_every_arch(codec, p, block)) return "one meaning";
      const std::int32_t q = codec.encode(x, p);
      if (q < 0 || q >= levels) return "range";
      const float value = codec.decode(q, p);
      if (!std::isfinite(value)) return "value";
      if (codec.decode(codec.encode(value, p), p) != value) return "fixed point";
      if (i > 0 && q != climb.code) {
        // bisect to two neighbours with different codes, and look at four floats on each side
        float low = before;
        float high = x;
        const std::int32_t at_low = climb.code;
        while (detail::step(low, 1) < high) {
          const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
          const float inside = middle > low && middle < high ? middle : detail::step(low, 1);
          (codec.encode(inside, p) == at_low ? low : high) = inside;
        }
        for (int k = -4; k <= 4; ++k) {
          const float near = detail::step(low, k);
          if (!(near > before && near < x)) continue;
          const std::int32_t there = codec.encode(near, p);
          if (!climb.keeps(there, codec.decode(there, p))) return "order";
        }
      }
      if (!climb.keeps(q, value)) return "order";
      before = x;
    }
  }
  return nullptr;
}

}  // namespace repquant::testing
