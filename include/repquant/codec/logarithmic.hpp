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

  /// The code of x, from the exponent and the mantissa of the correctly rounded x / scale.
  template<Lane V>
  ints_of<V> encode(V x, const log_scale_of<V>& p) const noexcept {
    using I = ints_of<V>;
    // NaN and negative values become 0, whose code is beyond every level; what is above 1 becomes 1, code 0
    const I quotient = lane::bits(lane::min(lane::max(lane::div(x, p.scale), V(0.0F)), V(1.0F)));
    I q(0);
    if constexpr (Steps == 1) {
      // round(-log2(2^e m)) = -e - (m > sqrt 2): the addend carries into the exponent where the mantissa
      // field is greater than 0x3504F3
      q = I(127) - ((quotient + I(0x00800000 - 0x3504F4)) >> 23);
    } else {
      // round(-2 log2(2^e m)) = -2e - (m > 2^(1/4)) - (m > 2^(3/4))
      q = I(254) - ((quotient + I(0x00800000 - 0x1837F1)) >> 23) -
          ((quotient + I(0x00800000 - 0x5744FD)) >> 23);
    }
    return lane::select(lane::greater(q, I(smallest())), I(last()), q);
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
