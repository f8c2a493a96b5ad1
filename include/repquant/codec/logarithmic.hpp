// SPDX-License-Identifier: MIT
/// The formulas that log2 and log_sqrt2 share: levels are powers of two, or of sqrt 2, below a scale.
#pragma once

#include <repquant/codec/concept.hpp>

#include <array>
#include <cmath>

namespace repquant {

/// What stands for zero in a logarithmic code.
enum class zero_rule : std::uint8_t {
  last_code,  ///< the last code, levels-1, means exactly zero
  none,       ///< there is no zero: the last code in use is the smallest level
};

/// The scale of a logarithmic codec, with lanes for numbers.
template<Lane V>
struct log_scale_of {
  V scale;
};
/// x^ = scale 2^-q (log2), scale 2^(-q/2) (log_sqrt2).
using log_scale = log_scale_of<float>;

/// A logarithmic codec with `Steps` levels in an octave, 1 or 2: codes 0 .. smallest(), and one that is
/// zero. Use it by its names log2 and log_sqrt2, whose files state the formulas.
template<int Steps>
requires(Steps == 1 || Steps == 2) struct logarithmic {
  int bits = 4;
  zero_rule zero = zero_rule::last_code;
  /// The largest shift in use: codes whose power of two is smaller mean zero and are never produced.
  /// At most 30. The default allows what the bits can hold.
  int depth = 30;

  using params = log_scale;
  using code_type = std::uint8_t;
  template<Lane V>
  using lane_params = log_scale_of<V>;

  static constexpr float smallest_scale = 0x1p-100F;
  static constexpr float largest_scale = 0x1p100F;

  [[nodiscard]] constexpr int levels() const noexcept { return 1 << bits; }
  /// The code of the smallest level that is not zero.
  [[nodiscard]] constexpr int smallest() const noexcept {
    const int last = levels() - (zero == zero_rule::last_code ? 2 : 1);
    const int deepest = Steps * (depth < 30 ? depth : 30) + (Steps - 1);
    return last < deepest ? last : deepest;
  }
  /// The code that x <= 0, NaN, and everything below the smallest level get.
  [[nodiscard]] constexpr int last() const noexcept {
    return zero == zero_rule::last_code ? levels() - 1 : smallest();
  }
  /// True where code q means exactly zero: the last code under zero_rule::last_code, and codes beyond the
  /// depth, which encode never makes.
  [[nodiscard]] constexpr bool is_zero(std::int32_t q) const noexcept { return q > smallest(); }
  /// The power of two of code q: floor(q / Steps). The integer kernels multiply by 2^(depth - shift).
  [[nodiscard]] static constexpr int shift(std::int32_t q) noexcept { return q / Steps; }

  /// The scale that puts code 0 on the upper end of the range.
  [[nodiscard]] params fit(range r) const noexcept {
    return {std::fmin(std::fmax(r.hi, smallest_scale), largest_scale)};
  }

  template<Lane V>
  static lane_params<V> spread(const params& p) noexcept {
    return {V(p.scale)};
  }
  template<Lane V>
  static lane_params<V> gather(const params* p) noexcept {
    std::array<float, lane_width<V>> s{};
    for (int i = 0; i < lane_width<V>; ++i) s[static_cast<std::size_t>(i)] = p[i].scale;
    return {lane::load<V>(s.data())};
  }

  /// The bits of the least quotient x / scale whose code is c or less, for c < Steps: the floats above
  /// 2^(-1/2) (log2), above 2^(-1/4) and 2^(-3/4) (log_sqrt2). Steps codes further they are an octave lower.
  static constexpr std::array<std::int32_t, Steps> least_quotients() noexcept {
    if constexpr (Steps == 1) {
      return {0x3F3504F4};
    } else {
      return {0x3F5744FD, 0x3F1837F1};
    }
  }

  /// How many boundaries are above a positive float, from its bits, where `least` are the bits of the least
  /// values of codes 0 .. Steps - 1 and all other boundaries lie whole octaves below these. Held to 0 and
  /// above it is the code, as far as there are codes: an octave above `least` it is negative.
  template<CodeLane I>
  [[nodiscard]] REPQUANT_ALWAYS_INLINE static I boundaries_above(const I& value,
                                                                 const std::array<I, Steps>& least) noexcept {
    I q = (least[0] + I(0x007FFFFF) - value) >> 23;
    if constexpr (Steps == 2) q = q + ((least[1] + I(0x007FFFFF) - value) >> 23);
    return q;
  }

  /// True where there is no code between the smallest level and the last one: a number of boundaries held to
  /// 0 .. last() is a code.
  [[nodiscard]] constexpr bool counts_to_last() const noexcept { return last() - smallest() <= 1; }

  /// The code of a number of boundaries: what is below the smallest level gets the last code.
  template<CodeLane I>
  [[nodiscard]] REPQUANT_ALWAYS_INLINE I code_of(const I& boundaries) const noexcept {
    if (counts_to_last()) return lane::min(boundaries, I(last()));
    return lane::select(lane::greater(boundaries, I(smallest())), I(last()), boundaries);
  }

  /// The code of x, from the exponent and the mantissa of the correctly rounded x / scale.
  template<Lane V>
  ints_of<V> encode(V x, const log_scale_of<V>& p) const noexcept {
    using I = ints_of<V>;
    // NaN and negative values become 0, whose code is beyond every level; what is above 1 becomes 1, code 0
    const V quotient = lane::min(lane::max(lane::div(x, p.scale), V(0.0F)), V(1.0F));
    std::array<I, Steps> least;
    for (std::size_t c = 0; c < Steps; ++c) least[c] = I(least_quotients()[c]);
    return code_of(boundaries_above(I(lane::bits(quotient)), least));
  }

  /// The value of code q: one multiplication of the scale by a power of two, or by the float nearest to
  /// a power of two times sqrt 2.
  template<CodeLane I>
  reals_of<I> decode(I q, const log_scale_of<reals_of<I>>& p) const noexcept {
    using V = reals_of<I>;
    const I halvings = Steps == 1 ? q : I((q + I(1)) >> 1);
    V level = lane::from_bits(I((I(127) - lane::min(halvings, I(126))) << 23));
    if constexpr (Steps == 2) {
      const I odd = I(0) - (q & I(1));
      level = lane::mul(level, lane::select(odd, V(0x1.6a09e6p+0F), V(1.0F)));
    }
    const V value = lane::mul(p.scale, level);
    return lane::select(lane::greater(q, I(smallest())), V(0.0F), value);
  }
};

}  // namespace repquant
