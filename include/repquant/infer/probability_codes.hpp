// SPDX-License-Identifier: MIT
/// From the exact score sums of queries to probability codes: the softmax of the running model, and its codes
/// without a division per value and without a second exponential.
///
/// With S the sums of a query over the keys that it sees, m the multiplier of the scores and T = max S,
///
///   e[j] = 2^(min(float(T - S[j]), L) c)    T - S exact; c = -(m log2(e)); L: see softmax_steps
///   p[j] = e[j] / t,  t = sum e             the order of kernel/reduce.hpp
///   code[j] = encode(p[j])
///
/// How that goes without a division per value is the matter of share_codes.hpp.
///
/// Relative codes are those of p over the largest p of the query, so that t is not needed; logarithmic ones
/// do without the exponential, too:
///
///   uniform          code[j] = encode(e[j])
///   log2, log_sqrt2  code[j] = rne(float(T - S[j]) c'), the last code beyond the smallest level;
///                    c' = m (Steps log2(e)), at most 2^100
///
/// Length: the passes over a row of one softmax.
#pragma once

#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/infer/requantize.hpp>
#include <repquant/infer/share_codes.hpp>
#include <repquant/kernel/elementary.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/reduce.hpp>

namespace repquant {

/// The room of a row of n scores, exponentials or codes: whole registers of any architecture.
constexpr index padded_scores(index n) noexcept { return (n + 31) / 32 * 32; }

/// How the distance of a sum from the largest one becomes an exponent.
///
/// What is 126 octaves below the largest, at most 126 distances or 2^30, counts as much and no less: no code
/// that differs from that of zero is there, and neither does it change the sum.
struct softmax_steps {
  float octaves = 0;  ///< c, of -126 .. 0: the exponent of a distance of 1
  float limit = 0;    ///< L, an integer: larger distances count as this
  /// False where the multiplier is negative or not finite: then every code of a row is that of zero.
  bool ordered = false;
};
inline softmax_steps steps_of(float multiplier) noexcept {
  constexpr float least = -126.0F;
  const float octaves = lane::mul(multiplier, -0x1.715476p+0F);
  if (!(octaves <= 0.0F && octaves > -std::numeric_limits<float>::infinity())) return {};
  const float used = lane::max(octaves, least);
  if (used == 0.0F)
    return {used, 0x1p30F, true};  // of either sign: the quotient would be infinite, of either sign
  return {used, lane::min(std::floor(least / used), 0x1p30F), true};
}

namespace detail {

/// float(top - s), the difference exact, for top >= s.
inline float distance(std::int64_t top, std::int64_t s) noexcept {
  return static_cast<float>(static_cast<std::uint64_t>(top) - static_cast<std::uint64_t>(s));
}

/// -1 in the places of a register whose number, counted from `first`, is below n.
template<CodeLane I>
inline I places_below(index first, index n) noexcept {
  constexpr auto numbers = [] {
    std::array<std::int32_t, lane_width<reals_of<I>>> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    return all;
  }();
  return lane::greater(I(static_cast<std::int32_t>(n - first)), lane::load<I>(numbers.data()));
}

/// The largest of n >= 1 sums, which can be read up to padded_scores(n).
template<class Arch>
inline std::int32_t largest_sum(const std::int32_t* sums, index n) noexcept {
  using I = ints_of<lane_of<Arch>>;
  constexpr index width = lane_width<lane_of<Arch>>;
  const I first(sums[0]);
  I top[2] = {first, first};  // two chains: a maximum takes longer than a load
  index i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    top[0] = lane::max(top[0], lane::load<I>(sums + i));
    top[1] = lane::max(top[1], lane::load<I>(sums + i + width));
  }
  for (; i < n; i += width) {
    const I row = lane::load<I>(sums + i);
    top[0] = lane::max(top[0], lane::select(places_below<I>(i, n), row, first));
  }
  std::array<std::int32_t, width> places{};
  lane::store(places.data(), I(lane::max(top[0], top[1])));
  for (std::size_t half = width / 2; half > 0; half /= 2) {
    for (std::size_t l = 0; l < half; ++l) places[l] = lane::max(places[l], places[l + half]);
  }
  return places[0];
}

/// e[i] = 2^(distances(i) octaves) for i < n and 0 behind, up to whole registers; returns their sum, or 1
/// where nobody asks for it. distances(i) gives a register from place i on, none above the limit; it may read
/// e.
template<class Arch, bool Sums = true, class Distances>
inline float exponentials(const Distances& distances, index n, float octaves, float* e) noexcept {
  using V = lane_of<Arch>;
  using I = ints_of<V>;
  constexpr index width = lane_width<V>;
  constexpr std::size_t registers = reduce::lanes / lane_width<V>;
  std::array<V, registers> held;
  for (V& h : held) h = V(0.0F);
  const V step(octaves);
  const auto at = [&](index i) REPQUANT_ALWAYS_INLINE {
    return elementary::exp2_of_negative(lane::mul(distances(i), step));
  };
  index i = 0;
  for (; i + reduce::lanes <= n; i += reduce::lanes) {
    for (std::size_t r = 0; r < registers; ++r) {
      const index k = i + static_cast<index>(r) * width;
      const V value = at(k);
      if constexpr (Sums) held[r] = lane::add(held[r], value);
      lane::store(e + k, value);
    }
  }
  for (std::size_t r = 0; r < registers; ++r, i += width) {  // as many as there are: sums stay in registers
    if (i >= n) break;
    const V value = lane::select(places_below<I>(i, n), at(i), V(0.0F));
    if constexpr (Sums) held[r] = lane::add(held[r], value);  // a zero changes nothing
    lane::store(e + i, value);
  }
  if constexpr (!Sums) return 1.0F;
  return reduce::over_lanes(held, [](const auto& a, const auto& b) { return lane::add(a, b); });
}

/// Relative codes of a padded row of distances from the largest sum, of which n count; distances(i) gives a
/// register from place i on.
template<class Arch, int Steps, class Distances>
inline void relative_codes(const logarithmic<Steps>& codec, const Distances& distances, index n,
                           float multiplier, std::uint8_t* codes) noexcept {
  using V = lane_of<Arch>;
  using I = ints_of<V>;
  const V step(lane::min(lane::mul(multiplier, Steps * 0x1.715476p+0F), 0x1p100F));
  const V beyond(static_cast<float>(codec.levels()));
  const I smallest(codec.smallest());
  const I last(codec.last());
  const auto steps = [=](index i) REPQUANT_ALWAYS_INLINE {
    return I(lane::round_to_int(lane::min(lane::mul(distances(i), step), beyond)));
  };
  if (codec.counts_to_last()) return narrow_row<Arch>(n, codec.last(), codes, steps);
  narrow_row<Arch>(n, codec.last(), codes, [=](index i) REPQUANT_ALWAYS_INLINE {
    const I q = steps(i);
    return I(lane::select(lane::greater(q, smallest), last, q));
  });
}

/// The distances of a row of sums of any type from the largest, at most `limit`; 0 behind, up to
/// padded_scores(n). n >= 1.
template<ExactSum Sum>
inline void distances_of(const Sum* sums, index n, float limit, float* out) noexcept {
  const auto top = static_cast<std::int64_t>(*std::max_element(sums, sums + n));
  for (index i = 0; i < n; ++i) {
    out[i] = lane::min(distance(top, static_cast<std::int64_t>(sums[i])), limit);
  }
  std::fill(out + n, out + padded_scores(n), 0.0F);
}

/// The exponentials of a row of sums of any type, and their total. n >= 1.
template<class Arch, ExactSum Sum>
inline float exponentials_of(const Sum* sums, index n, const softmax_steps& steps, float* e) noexcept {
  distances_of(sums, n, steps.limit, e);
  return exponentials<Arch>([e](index i) { return lane::load<lane_of<Arch>>(e + i); }, n, steps.octaves, e);
}

}  // namespace detail

/// The codes of a block of queries from their score sums, row after row as the head of this file says.
///
/// Shapes    sums, e, codes [rows x padded_scores(keys)], one row behind the other; visible(r) <= keys of row
///           r, always the first ones, count. e is scratch. Codes behind visible(r) are `masked`
/// Requires  |sums| < 2^30; all rows can be read and written to their padded ends, whatever stands there
/// Cost      three passes, one exponential per value; two and none for relative codes of a logarithmic codec
/// Precision the same codes for every Arch, those of probability_row
template<class Arch = default_arch, Codec C, class Visible>
inline void probability_codes(const C& codec, const typename C::params& p, const std::int32_t* sums,
                              index rows, index keys, const Visible& visible, float multiplier,
                              std::uint8_t masked, float* e, std::uint8_t* codes,
                              bool relative = false) noexcept {
  using V = lane_of<Arch>;
  using I = ints_of<V>;
  constexpr index together = 8;  // rows between passes: one row's sum is awaited while others are at work
  const index stride = padded_scores(keys);
  const softmax_steps steps = steps_of(multiplier);
  if constexpr (!std::same_as<C, uniform>) {
    if (relative) {
      for (index r = 0; r < rows; ++r) {
        const index n = steps.ordered ? visible(r) : 0;
        std::uint8_t* const row = codes + r * stride;
        if (n > 0) {
          const I largest(detail::largest_sum<Arch>(sums + r * stride, n));
          const auto distances = [from = sums + r * stride, largest](index i) {
            return lane::real(I(largest - lane::load<I>(from + i)));
          };
          detail::relative_codes<Arch>(codec, distances, n, multiplier, row);
        }
        std::fill(row + n, row + stride, masked);
      }
      return;
    }
  }
  const I limit(static_cast<std::int32_t>(steps.limit));
  const detail::share_encoder<C> encoder(codec, p);
  for (index r0 = 0; r0 < rows; r0 += together) {
    const index r1 = std::min(rows, r0 + together);
    std::array<std::int32_t, together> top{};
    std::array<float, together> total{};
    std::array<typename detail::share_encoder<C>::row, together> row_of{};
    for (index r = r0; steps.ordered && r < r1; ++r) {
      const index n = visible(r);
      if (n > 0) top[static_cast<std::size_t>(r - r0)] = detail::largest_sum<Arch>(sums + r * stride, n);
    }
    for (index r = r0; steps.ordered && r < r1; ++r) {
      const auto at = static_cast<std::size_t>(r - r0);
      const I largest(top[at]);
      const auto distances = [row = sums + r * stride, largest, limit](index i) REPQUANT_ALWAYS_INLINE {
        return lane::real(lane::min(I(largest - lane::load<I>(row + i)), limit));
      };
      total[at] =
          relative ? detail::exponentials<Arch, false>(distances, visible(r), steps.octaves, e + r * stride)
                   : detail::exponentials<Arch>(distances, visible(r), steps.octaves, e + r * stride);
      row_of[at] = encoder.row_of(total[at]);
    }
    for (index r = r0; r < r1; ++r) {
      const index n = steps.ordered ? visible(r) : 0;
      std::uint8_t* const row = codes + r * stride;
      const auto at = static_cast<std::size_t>(r - r0);
      if (n > 0) detail::encode_shares<Arch, C>(encoder, p, e + r * stride, total[at], row_of[at], n, row);
      if (n < keys) std::fill(row + n, row + keys, masked);
    }
  }
}

}  // namespace repquant
