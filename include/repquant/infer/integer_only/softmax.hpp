// SPDX-License-Identifier: MIT
/// Softmax on integers, straight to probability codes. With t = (max - score) log2(e) and
/// p = 2^-t / sum 2^-t:
///
///   log2, log_sqrt2   code = round(Steps (t + log2(sum) + log2(scale)))
///   uniform           code = round(2^-t / (sum scale)) + zero_point
///
/// One power of two per value, for the sum; a logarithmic code needs no other, and no division.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/infer/probability.hpp>
#include <repquant/kernel/fixed_point.hpp>

namespace repquant::integer_only {

/// A softmax that is ready to run on integer scores.
struct softmax_plan {
  probability_code code;
  std::int32_t farthest = 0;         ///< distances from the largest score beyond it are zero probabilities
  int drop = 0;                      ///< bits that a distance loses, so that 15 are left
  fixed_point::scale octaves;        ///< what is left of a distance, to octaves in Q12
  std::int32_t log2_scale = 0;       ///< log2 of the code's scale, in Q12
  fixed_point::scale inverse_scale;  ///< 1 / scale of a uniform code
};

/// Prepares a softmax over scores whose unit is `unit`; the only step that needs floats.
///
/// Units   unit = s_q s_k times the softmax scale: real score = integer score * unit
/// Errors  bad_bits, bad_option (relative codes, which need no softmax; a unit outside 2^-24 .. 8, a scale
/// outside 2^-20 .. 2^20, a depth beyond 30);
///         of a unit or scale, got is its power of two
inline failure prepare(const probability_code& code, float unit, softmax_plan& plan) noexcept {
  constexpr const char* place = "integer softmax";
  if (code.bits < 2 || code.bits > 8) return {errc::bad_bits, place, code.bits, 8};
  if (code.depth < 0 || code.depth > 30) return {errc::bad_option, place, code.depth, 30};
  if (code.relative) return {errc::bad_option, "integer softmax: relative codes", 1, 0};
  if (!(unit >= 0x1p-24F && unit <= 8.0F)) {
    return {errc::bad_option, "integer softmax: unit", std::ilogb(unit), unit > 8.0F ? 3 : -24};
  }
  if (!(code.scale >= 0x1p-20F && code.scale <= 0x1p20F)) {
    return {errc::bad_option, "integer softmax: scale", std::ilogb(code.scale), code.scale > 1 ? 20 : -20};
  }
  constexpr double log2_e = 1.4426950408889634;
  const double per_unit = static_cast<double>(unit) * log2_e;
  const double log2_scale = std::log2(static_cast<double>(code.scale));
  const double octaves = 31 + std::fmax(0.0, -log2_scale);  // what the deepest code reaches
  softmax_plan p;
  p.code = code;
  p.farthest = static_cast<std::int32_t>(octaves / per_unit) + 1;
  while ((p.farthest >> p.drop) >= 1 << 15) ++p.drop;
  p.octaves = fixed_point::scale_of(std::ldexp(per_unit, 12 + p.drop));
  if (p.octaves.shift <
      1) {  // a unit of octaves: few distances are left, so the product is small all the same
    p.octaves = {static_cast<std::int32_t>(std::nearbyint(std::ldexp(per_unit, 13 + p.drop))), 1};
  }
  p.log2_scale = static_cast<std::int32_t>(std::nearbyint(4096 * log2_scale));
  p.inverse_scale = fixed_point::scale_of(1.0 / static_cast<double>(code.scale));
  plan = p;
  return {};
}

namespace detail {

/// The sum of 2^-t in Q18, t in Q12. With `keep`, each 2^-t takes the place of its t, in Q15. Registers are
/// emptied before 2^31.
template<class Arch>
inline std::int64_t sum_of_powers(std::span<std::int32_t> octaves, bool keep) noexcept {
  using I = ints_of<lane_of<Arch>>;
  constexpr std::size_t width = lane_width<lane_of<Arch>>;
  const auto power = [keep](std::int32_t* t, auto lane) {
    using L = decltype(lane);
    const L e = fixed_point::exp2_of_minus(lane::load<L>(t));
    if (keep) lane::store(t, fixed_point::shifted(e, 3));
    return e;
  };
  const std::size_t whole = octaves.size() - octaves.size() % width;
  std::int64_t total = 0;
  std::size_t i = 0;
  while (i < whole) {
    const std::size_t end = std::min(whole, i + 4096 * width);
    I sums(0);
    for (; i < end; i += width) sums = sums + power(octaves.data() + i, I(0));
    std::array<std::int32_t, width> places;
    lane::store(places.data(), sums);
    for (std::int32_t s : places) total += s;
  }
  for (; i < octaves.size(); ++i) total += power(octaves.data() + i, std::int32_t{0});
  return total;
}

/// Turns a row into codes; `one` makes a lane of codes of a lane of the row.
template<class Arch, class Formula>
inline void codes_of(std::span<const std::int32_t> row, std::uint8_t* codes, Formula one) noexcept {
  using I = ints_of<lane_of<Arch>>;
  constexpr std::size_t width = lane_width<lane_of<Arch>>;
  std::size_t i = 0;
  for (; i + width <= row.size(); i += width) narrow(one(lane::load<I>(row.data() + i)), codes + i);
  for (; i < row.size(); ++i) codes[i] = static_cast<std::uint8_t>(one(row[i]));
}

}  // namespace detail

/// The probability codes of one row of scores.
///
/// Shapes     scores, octaves (scratch), codes [n], n <= 2^20; keys that a mask hides are the caller's to
///            leave out: pass the visible ones
/// Requires   prepare said nothing, |score| < 2^30, n >= 1; octaves may be scores, if they may be lost
/// Cost       three passes, one power of two per value
/// Precision  logarithmic: the code of a probability within a factor of 2^(+-0.003) of the true one; uniform:
///            within 0.5 + 0.003 levels + 2^-13 of the true value, in units of the scale. The same codes on
///            every architecture
/// Source     log-int-softmax: FQ-ViT (arXiv 2111.13824), section 3.3, with its two roundings made one
template<class Arch = default_arch>
inline void softmax_codes_row(const softmax_plan& p, std::span<const std::int32_t> scores,
                              std::span<std::int32_t> octaves, std::span<std::uint8_t> codes) noexcept {
  using I = ints_of<lane_of<Arch>>;
  REPQUANT_ASSERT(octaves.size() == scores.size() && codes.size() == scores.size() && !scores.empty());
  std::int32_t top = scores[0];
  for (std::int32_t s : scores) top = s > top ? s : top;
  const auto distance = [&p, top](const I& s) {
    const I near = lane::min(I(I(top) - s), I(p.farthest));
    const I kept = p.drop > 0 ? fixed_point::shifted(near, p.drop) : near;
    return fixed_point::times(kept, I(p.octaves.multiplier), p.octaves.shift);
  };
  map_row<Arch>(octaves, distance, scores.data());
  const auto sum = static_cast<std::uint64_t>(
      detail::sum_of_powers<Arch>(octaves, p.code.kind == probability_kind::as_uniform));
  p.code.visit([&]<class C>(const C& codec, const auto& params) {
    if constexpr (std::same_as<C, uniform>) {
      // 2^-t / (sum scale) = (e 2^-15) 2^18 / sum / scale, the last two factors one multiplier of 15 bits
      const auto bits = fixed_point::width_of(sum);
      const auto inverse_sum = static_cast<std::int64_t>((std::uint64_t{1} << (bits + 14)) / sum);
      const auto m = static_cast<std::int32_t>((inverse_sum * p.inverse_scale.multiplier + (1 << 14)) >> 15);
      const int shift = bits - 4 + p.inverse_scale.shift;
      const std::int32_t most = codec.levels() - 1;
      const std::int32_t zero = params.zero_point;
      detail::codes_of<Arch>(octaves, codes.data(), [=](const auto& e) {
        using L = std::remove_cvref_t<decltype(e)>;
        const L q = shift > 30 ? L(0) : fixed_point::times(e, L(m), shift);
        return lane::clamp(L(q + L(zero)), L(0), L(most));
      });
    } else {
      constexpr int steps = std::same_as<C, log_sqrt2> ? 2 : 1;
      const std::int32_t below = fixed_point::log2_of(sum) - (18 << 12) + p.log2_scale;
      const std::int32_t smallest = codec.smallest();
      const std::int32_t last = codec.last();
      detail::codes_of<Arch>(octaves, codes.data(), [=](const auto& t) {
        using L = std::remove_cvref_t<decltype(t)>;
        const L q = fixed_point::shifted(L((t + L(below)) * L(steps)), 12);
        return lane::select(lane::greater(q, L(smallest)), L(last), lane::max(q, L(0)));
      });
    }
  });
}

}  // namespace repquant::integer_only
