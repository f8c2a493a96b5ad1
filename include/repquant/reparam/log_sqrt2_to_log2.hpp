// SPDX-License-Identifier: MIT
/// log_sqrt2_to_log2: the exact base-2 form of log-sqrt2 codes. Half of the codes are powers of two below
/// one scale, the other half powers of two below another; the codes themselves do not change.
///
///   value of code c = scale(c odd) 2^-(c >> 1)    scale(even) = s, scale(odd) = s sqrt2 / 2
///
/// so that a sum of codes times integers is two sums of shifted integers, joined by two scales:
///
///   sum of x^ v = s 2^-D (E + sqrt2/2 O),  E = sum over even c of 2^(D - (c >> 1)) v,  O = the odd ones
#pragma once

#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>

#include <array>

namespace repquant {

/// One code in base 2: its value is scale * 2^-shift * (odd ? sqrt2 : 1), zero where `zero`.
struct base2_term {
  int shift = 0;     ///< ceil(c / 2)
  bool odd = false;  ///< the odd bit: one more factor sqrt2 (its nearest float)
  bool zero = false;
};

/// The multipliers of both sums: even[c] = 2^(depth - (c >> 1)) for even c, odd[c] the same for odd c,
/// 0 elsewhere and for codes that mean zero. At depth 7 they fit a byte, at 14 an int16.
struct base2_multipliers {
  int depth = 0;
  std::array<std::int32_t, 256> even{};
  std::array<std::int32_t, 256> odd{};
};

/// The base-2 form of a logarithmic codec with its scale.
struct base2_form {
  /// sqrt 2 / 2 as a float: half of the float nearest to sqrt 2, so both give the same products.
  static constexpr float half_root = 0x1.6a09e6p-1F;

  log_scale even;  ///< scale of even codes
  log_scale odd;   ///< scale of odd codes
  base2_multipliers multipliers;

  /// scale(c odd) * 2^-depth * multiplier(c): equal to the codec's decode, bit for bit, as long as the
  /// value is a normal float (always, for scales of 2^-90 and more).
  [[nodiscard]] float value(std::int32_t c) const noexcept {
    const auto i = static_cast<std::size_t>(c);
    const bool is_odd = (c & 1) != 0;
    const std::int32_t m = is_odd ? multipliers.odd[i] : multipliers.even[i];
    return (is_odd ? odd : even).scale * std::ldexp(static_cast<float>(m), -multipliers.depth);
  }
};

/// Code c of log_sqrt2 in base 2. The value is s * (2^-shift * (odd ? sqrt2 : 1)), the inner product exact.
///
/// Requires  c in 0 .. levels - 1
/// Source    RepQ-ViT (arXiv 2212.08254) eq. 17-19
constexpr base2_term log2_term(const log_sqrt2& codec, std::int32_t c) noexcept {
  return {static_cast<int>((c + 1) / 2), (c & 1) != 0, codec.is_zero(c)};
}
/// The same for log2, where no code is odd in this sense.
constexpr base2_term log2_term(const log2& codec, std::int32_t c) noexcept {
  return {static_cast<int>(c), false, codec.is_zero(c)};
}

/// The base-2 form of a log_sqrt2 codec.
///
/// Units     scales in the unit of the data; multipliers are integers up to 2^depth, depth the largest
///           shift in use: 7 at 4 bits with a zero
/// Requires  bits in 2 .. 8
/// Cost      one table of 2^bits entries
/// Precision exact: every value equals the codec's decode
/// Source    RepQ-ViT (arXiv 2212.08254) eq. 17-19; two sums: docs/decisions/0003
inline base2_form log_sqrt2_to_log2(const log_sqrt2& codec, log_scale p) noexcept {
  base2_form form{p, {p.scale * base2_form::half_root}, {}};
  base2_multipliers& m = form.multipliers;
  m.depth = log_sqrt2::shift(codec.smallest());
  for (std::int32_t c = 0; c <= codec.smallest(); ++c) {
    ((c & 1) != 0 ? m.odd : m.even)[static_cast<std::size_t>(c)] = 1 << (m.depth - log_sqrt2::shift(c));
  }
  return form;
}

}  // namespace repquant
