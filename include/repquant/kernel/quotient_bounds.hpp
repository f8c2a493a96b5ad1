// SPDX-License-Identifier: MIT
/// Codes of the uniform codec without a division, where two products decide them.
///
/// r = 1 / s is the float nearest to the reciprocal, so the reciprocal lies between the floats below and
/// above r, and x / s between x times the one and x times the other. Rounding to float and rounding to an
/// integer are monotone: where both products round to the same integer, the quotient does too, and its code
/// is known. Near a tie, for a quotient beyond int16, an infinity or a NaN they do not agree: a division has
/// to decide. So the codes are those of the definition, for every float and every scale.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/kernel/words.hpp>

#include <limits>

namespace repquant::detail {

/// Scale and zero point in lanes, and the floats on both sides of 1 / scale, the upper one negated: the sum
/// of the two integers is zero where they agree. Both are infinity, and agree on nothing but 0, where the
/// zero point is beyond 2^14: up to there, an int16 sum with it that saturates is beyond all codes.
template<Lane V>
struct bounded_affine_of {
  affine_of<V> params;
  V below;
  V minus_above;

  bounded_affine_of() noexcept = default;
  explicit bounded_affine_of(const affine_of<V>& p) noexcept : params(p) {
    using I = ints_of<V>;
    const I r = lane::bits(lane::div(V(1.0F), p.scale));
    const I wide = lane::greater(lane::max(p.zero_point, I(I(0) - p.zero_point)), I(1 << 14));
    const V none(std::numeric_limits<float>::infinity());
    below = lane::select(wide, none, lane::from_bits(I(r - I(1))));
    minus_above = lane::select(wide, none, lane::sub(V(0.0F), lane::from_bits(I(r + I(1)))));
  }
};

/// True, and the codes of 4 lane_width values x at `codes`, where products decide all of them; otherwise
/// false, and nothing is written. Register k of the values has the parameters sets[k * step].
///
///   code = clamp(rne(x below) + z, 0, last), if rne(x below) == -rne(x minus_above)
template<Lane V>
requires HasWords<typename lane_traits<V>::arch>
inline bool encode_by_bounds(const float* x, const bounded_affine_of<V>* sets, index step, std::uint8_t last,
                             std::uint8_t* codes) noexcept {
  using W = words_of<typename lane_traits<V>::arch>;
  // an integer that int32 does not hold is the lowest one on x86, elsewhere the nearest, or 0 for a NaN: none
  // of these pairs has the sum zero, but that of a NaN, whose code is that of 0
  const auto rounded = [x](index k, const V& factor) {
    return lane::round_to_int(lane::mul(lane::load<V>(x + k * lane_width<V>), factor)).data;
  };
  const auto below = [&](index k) { return rounded(k, sets[k * step].below); };
  const auto above = [&](index k) { return rounded(k, sets[k * step].minus_above); };
  const auto zero = [&](index k) { return sets[k * step].params.zero_point.data; };
  const auto low = W::pack(below(0), below(1));
  const auto high = W::pack(below(2), below(3));
  const auto differ =
      W::either(W::add(low, W::pack(above(0), above(1))), W::add(high, W::pack(above(2), above(3))));
  if (!W::is_zero(differ)) return false;
  const auto first = W::add(low, W::pack(zero(0), zero(1)));
  const auto second = W::add(high, W::pack(zero(2), zero(3)));
  W::store(codes, W::at_most(W::bytes(first, second), last));
  return true;
}

}  // namespace repquant::detail
