// SPDX-License-Identifier: MIT
/// LayerNorm and RMSNorm on integers. The row's unit does not matter, so it has none. With n channels,
///
///   d[i] = n x[i] - sum(x)  (LayerNorm)   or   x[i]  (RMSNorm)      exact
///   y[i] = d[i] sqrt(n / sum(d^2))                                  the norm, in Qn of norm_fraction_bits
///   out[i] = clamp((y[i] gain[i] + offset[i]) 2^-shift, lo, hi)     one product, one shift
///
/// d is brought to 15 bits before its squares are summed and the root is taken: one root and one division per
/// row, none per value. `out` are codes, or integers in any unit: gain, offset and shift say which.
///
/// Length: the exact sums and the root belong to the one row function that they serve.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/core/shape.hpp>
#include <repquant/kernel/fixed_point.hpp>
#include <repquant/kernel/map.hpp>

#include <algorithm>
#include <limits>

namespace repquant::integer_only {

/// Fraction bits of a normalized value of n channels: as many as leave room for sqrt(n), the largest there
/// is.
constexpr int norm_fraction_bits(index channels) noexcept {
  return 14 - (fixed_point::width_of(static_cast<std::uint64_t>(channels)) + 1) / 2;
}

/// The numbers of a norm; gain and offset lie where the caller keeps them.
///
/// Shapes  gain, offset [channels]
struct norm_plan {
  std::span<const std::int32_t> gain;    ///< |gain| < 2^15
  std::span<const std::int32_t> offset;  ///< |offset| < 2^29
  int shift = 1;                         ///< 1 .. 30
  std::int64_t eps = 0;                  ///< what the variance is raised by, in squared units of x
  std::int32_t lo = std::numeric_limits<std::int32_t>::min();
  std::int32_t hi = std::numeric_limits<std::int32_t>::max();
  bool centred = true;  ///< LayerNorm; false: RMSNorm
};

/// Makes gain, offset and shift of gamma, beta, and the step of the output. The only part that needs floats.
///
///   out = round((gamma y + beta) / scale) + zero_point
///
/// Shapes  gamma, scale, zero_point, gain, offset [channels]; beta [channels] or empty
/// Errors  empty, shape_mismatch; non_finite; bad_option (a scale that is not positive); too_large: more than
/// 2^14
///         channels, or gamma / scale and beta / scale too far apart for one shift
inline failure prepare(std::span<const float> gamma, std::span<const float> beta,
                       std::span<const float> scale, std::span<const std::int32_t> zero_point,
                       std::span<std::int32_t> gain, std::span<std::int32_t> offset,
                       norm_plan& plan) noexcept {
  constexpr const char* place = "integer norm";
  const auto n = static_cast<std::int64_t>(gamma.size());
  if (n < 1) return {errc::empty, place, n, 1};
  if (n > 1 << 14) return {errc::too_large, place, n, 1 << 14};
  for (const std::size_t size : {beta.empty() ? gamma.size() : beta.size(), scale.size(), zero_point.size(),
                                 gain.size(), offset.size()}) {
    if (size != gamma.size()) return {errc::shape_mismatch, place, static_cast<std::int64_t>(size), n};
  }
  double most_gain = 0;
  double most_offset = 0;
  const auto shift_of = [&](std::size_t i) {
    return (beta.empty() ? 0.0 : static_cast<double>(beta[i]) / static_cast<double>(scale[i])) +
           zero_point[i];
  };
  for (std::size_t i = 0; i < gamma.size(); ++i) {
    if (!(scale[i] > 0)) return {errc::bad_option, "integer norm: scale", static_cast<std::int64_t>(i), 0};
    most_gain =
        std::fmax(most_gain, std::fabs(static_cast<double>(gamma[i]) / static_cast<double>(scale[i])));
    most_offset = std::fmax(most_offset, std::fabs(shift_of(i)));
    if (!std::isfinite(gamma[i] / scale[i]) || !std::isfinite(shift_of(i))) {
      return {errc::non_finite, place, static_cast<std::int64_t>(i), 0};
    }
  }
  // the largest shift that keeps gains below 2^15 and offsets below 2^29
  const int fraction = norm_fraction_bits(n);
  int shift = 30;
  while (shift > 0 &&
         (std::ldexp(most_gain, shift - fraction) > 32767 || std::ldexp(most_offset, shift) > 0x1p29)) {
    --shift;
  }
  if (shift < 1)
    return {errc::too_large, "integer norm: output levels", static_cast<std::int64_t>(most_gain), 32767};
  for (std::size_t i = 0; i < gamma.size(); ++i) {
    const double g = static_cast<double>(gamma[i]) / static_cast<double>(scale[i]);
    gain[i] = static_cast<std::int32_t>(std::nearbyint(std::ldexp(g, shift - fraction)));
    offset[i] = static_cast<std::int32_t>(std::nearbyint(std::ldexp(shift_of(i), shift)));
  }
  plan.gain = gain;
  plan.offset = offset;
  plan.shift = shift;
  return {};
}

namespace detail {

/// sum d^2 for |d| < 2^15, exact: the upper and the lower half of each square in sums of their own.
template<class Arch>
inline std::uint64_t sum_of_squares(std::span<const std::int32_t> d) noexcept {
  using I = ints_of<lane_of<Arch>>;
  constexpr std::size_t width = lane_width<lane_of<Arch>>;
  I upper(0);
  I lower(0);
  std::size_t i = 0;
  for (; i + width <= d.size(); i += width) {
    const I x = lane::load<I>(d.data() + i);
    const I square = x * x;
    upper = upper + (square >> 15);
    lower = lower + (square & I(32767));
  }
  std::array<std::int32_t, width> places[2];
  lane::store(places[0].data(), upper);
  lane::store(places[1].data(), lower);
  std::uint64_t sum = 0;
  for (std::size_t k = 0; k < width; ++k) {
    sum += (static_cast<std::uint64_t>(places[0][k]) << 15) + static_cast<std::uint64_t>(places[1][k]);
  }
  for (; i < d.size(); ++i) sum += static_cast<std::uint64_t>(std::int64_t{d[i]} * d[i]);
  return sum;
}

/// a b 2^-down, at most 2^62.
constexpr std::uint64_t raised(std::uint64_t a, std::uint64_t b, int down) noexcept {
  constexpr std::uint64_t most = std::uint64_t{1} << 62;
  if (a == 0 || b == 0) return 0;
  const int bits = fixed_point::width_of(a) + fixed_point::width_of(b);
  if (bits - down > 62) return most;
  const int early = bits > 63 ? bits - 63 : 0;  // bits of a that may go first, so that the product fits
  const std::uint64_t product = (a >> early) * b;
  return down >= early ? product >> (down - early) : most;
}

/// root 2^-shift = sqrt(n / squares), root of 14 or 15 bits; 0 where squares is.
struct reciprocal_root {
  std::int32_t root = 0;
  int shift = 1;
};
constexpr reciprocal_root root_of(std::uint64_t n, std::uint64_t squares) noexcept {
  if (squares == 0) return {};
  // all but 32 bits of the squares go, an even number of them; then n 2^up / squares lies in 2^27 .. 2^30
  const int early = std::max(0, fixed_point::width_of(squares) - 32 + 1) / 2 * 2;
  const std::uint64_t kept = squares >> early;
  const int up = (28 + fixed_point::width_of(kept) - fixed_point::width_of(n) + 1) / 2 * 2;
  return {static_cast<std::int32_t>(fixed_point::square_root((n << up) / kept)), (up + early) / 2};
}

}  // namespace detail

/// Normalizes one row.
///
/// Shapes     x, d (scratch), out [channels]; d and out may be x
/// Requires   plan as prepare made it; channels max|x| < 2^29 (RMSNorm: max|x| < 2^29)
/// Cost       four passes, a root and a division per row
/// Precision  y within (2^-14 + 2^-14) max|y| + 2^-fraction of the exact norm, out within that times |gain|
/// 2^-shift,
///            the rounding of gain and offset (2^-15 of the largest) and half a unit. The same integers on
///            every architecture. A row of equal values gives y = 0
/// Source     integer LayerNorm: I-BERT (arXiv 2101.01321), section 3.5; here without its division per value
template<class Arch = default_arch>
inline void norm_row(const norm_plan& plan, std::span<const std::int32_t> x, std::span<std::int32_t> d,
                     std::span<std::int32_t> out) noexcept {
  using I = ints_of<lane_of<Arch>>;
  const auto n = static_cast<std::int64_t>(x.size());
  REPQUANT_ASSERT(d.size() == x.size() && out.size() == x.size() && plan.gain.size() == x.size());
  std::int64_t sum = 0;
  std::int32_t lowest = x[0];
  std::int32_t highest = x[0];
  for (const std::int32_t v : x) {
    sum += v;
    lowest = v < lowest ? v : lowest;
    highest = v > highest ? v : highest;
  }
  const std::int64_t times_n = plan.centred ? n : 1;
  const std::int64_t minus = plan.centred ? sum : 0;
  const std::int64_t farthest = std::max(times_n * highest - minus, minus - times_n * lowest);
  const int down = std::max(0, fixed_point::width_of(static_cast<std::uint64_t>(farthest)) - 14);
  const int fraction = norm_fraction_bits(static_cast<index>(n));
  {
    const auto factor = static_cast<std::int32_t>(times_n);
    const auto shift = static_cast<std::int32_t>(minus);
    map_row<Arch>(
        d,
        [factor, shift, down](const I& v) {
          const I all = v * I(factor) - I(shift);
          return down > 0 ? fixed_point::shifted(all, down) : all;
        },
        x.data());
  }
  const auto cubed = static_cast<std::uint64_t>(plan.centred ? n * n * n : n);
  std::uint64_t squares = detail::sum_of_squares<Arch>(d);
  squares += detail::raised(static_cast<std::uint64_t>(plan.eps), cubed, 2 * down);
  const detail::reciprocal_root r = detail::root_of(static_cast<std::uint64_t>(n), squares);
  const int drop = std::clamp(r.shift - fraction, 1, 30);
  map_row<Arch>(
      out,
      [&plan, root = r.root, drop](const I& v, const I& gain, const I& offset) {
        const I y = fixed_point::times(v, I(root), drop);
        return lane::clamp(fixed_point::shifted(I(y * gain + offset), plan.shift), I(plan.lo), I(plan.hi));
      },
      d.data(), plan.gain.data(), plan.offset.data());
}

}  // namespace repquant::integer_only
