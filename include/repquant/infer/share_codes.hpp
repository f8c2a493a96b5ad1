// SPDX-License-Identifier: MIT
/// The codes of shares e / t of a softmax without a division per value: those of dividing, always.
///
/// Dividing by t, dividing by the scale and rounding are monotone, so that a code begins at a float e that
/// depends on t and the scale only:
///
///   log2, log_sqrt2  the boundaries of codes 0 .. Steps - 1 are computed (codec/least_dividend.hpp), all
///                    others are whole octaves below: a division by one number rounds alike in all octaves.
///                    The code is read off the bits of e as the codec reads it off those of its quotient
///   uniform          e times 1 / (t s) is the quotient within 5 roundings; farther than that from the
///                    middle between two codes both round to the same. A row with a value that is not
///                    so far is divided out
#pragma once

#include <repquant/codec/least_dividend.hpp>
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/kernel/encode.hpp>

namespace repquant::detail {

/// codes[i] = at(i), a register of codes, held to 0 .. last, up to whole registers.
template<class Arch, class At>
REPQUANT_ALWAYS_INLINE inline void narrow_row(index n, int last, std::uint8_t* codes, At at) noexcept {
  using I = ints_of<lane_of<Arch>>;
  constexpr index width = lane_width<lane_of<Arch>>;
  index i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    narrow(at(i), at(i + width), at(i + 2 * width), at(i + 3 * width), codes + i, last);
  }
  for (; i < n; i += width) narrow(I(lane::clamp(at(i), I(0), I(last))), codes + i);
}

/// codes[i] = code(e[i]), held to 0 .. last, up to whole registers.
template<class Arch, class Code>
REPQUANT_ALWAYS_INLINE inline void code_row(const float* e, index n, int last, std::uint8_t* codes,
                                            Code code) noexcept {
  using V = lane_of<Arch>;
  narrow_row<Arch>(n, last, codes, [e, code](index i) REPQUANT_ALWAYS_INLINE {
    return ints_of<V>(code(lane::load<V>(e + i)));
  });
}

/// The scales between which no quotient that has a code of its own leaves the normal floats.
constexpr bool is_ordinary_scale(float s) noexcept { return s >= 0x1p-60F && s <= 0x1p60F; }

/// codes[i] = codec.encode(e[i] / total, p) without the division: what is the same in all rows, what row_of
/// makes of the total of one, and encode, which says false where it must be divided.
///
/// Requires  e as exponentials() makes it, total its sum; encode only where `ordinary`
template<Codec C>
struct share_encoder;
template<int Steps>
struct share_encoder<logarithmic<Steps>> {
  using codec_type = logarithmic<Steps>;
  using row = std::array<std::int32_t, Steps>;  ///< the bits of the least e of codes 0 .. Steps - 1
  codec_type codec;
  bool ordinary;
  std::array<float, Steps> shares{};  ///< the least quotients e / total of these codes

  share_encoder(const codec_type& c, const log_scale& p) noexcept
      : codec(c), ordinary(is_ordinary_scale(p.scale)) {
    for (std::size_t q = 0; ordinary && q < Steps; ++q)
      shares[q] = least_dividend(lane::from_bits(codec_type::least_quotients()[q]), p.scale);
  }
  [[nodiscard]] row row_of(float total) const noexcept {
    row r{};
    for (std::size_t q = 0; ordinary && q < Steps; ++q) r[q] = lane::bits(least_dividend(shares[q], total));
    return r;
  }
  template<class Arch>
  bool encode(const row& r, const float* e, index n, std::uint8_t* codes) const noexcept {
    using V = lane_of<Arch>;
    using I = ints_of<V>;
    std::array<I, Steps> least;
    for (std::size_t q = 0; q < Steps; ++q) least[q] = I(r[q]);
    const auto above = [least](const V& x) REPQUANT_ALWAYS_INLINE {
      return codec_type::boundaries_above(I(lane::bits(x)), least);
    };
    if (codec.counts_to_last()) {
      code_row<Arch>(e, n, codec.last(), codes, above);
    } else {
      code_row<Arch>(e, n, codec.last(), codes,
                     [c = codec, above](const V& x) REPQUANT_ALWAYS_INLINE { return c.code_of(above(x)); });
    }
    return true;
  }
};
template<>
struct share_encoder<uniform> {
  using row = float;  ///< 1 / (total s)
  uniform codec;
  affine p;
  bool ordinary;

  share_encoder(const uniform& c, const affine& params) noexcept
      : codec(c),
        p(params),
        ordinary(is_ordinary_scale(p.scale) && p.zero_point >= -65536 && p.zero_point <= 65536) {}
  [[nodiscard]] row row_of(float total) const noexcept { return 1.0F / lane::mul(total, p.scale); }
  template<class Arch>
  bool encode(row r, const float* e, index n, std::uint8_t* codes) const noexcept {
    using V = lane_of<Arch>;
    using I = ints_of<V>;
    const V times(r);
    const I zero(p.zero_point);
    const V beyond(static_cast<float>(codec.levels() - p.zero_point));
    I near(0);
    code_row<Arch>(e, n, codec.levels() - 1, codes, [=, &near](const V& x) REPQUANT_ALWAYS_INLINE {
      const V y = lane::min(lane::mul(x, times), beyond);
      const I rounded = lane::round_to_int(y);
      const V whole = lane::real(rounded);
      const V rest = lane::sub(y, whole);
      const V far = lane::max(rest, lane::sub(V(0.0F), rest));
      near = near | lane::greater(lane::add(far, lane::mul(y, V(0x1p-21F))), V(0.5F));
      return I(rounded + zero);
    });
    std::array<std::int32_t, lane_width<V>> any{};
    lane::store(any.data(), near);
    std::int32_t divide = 0;
    for (std::int32_t a : any) divide |= a;
    return divide == 0;
  }
};

/// e[i] = e[i] / total, i < n.
template<class Arch>
inline void divide_row(float* e, float total, index n) noexcept {
  using V = lane_of<Arch>;
  map_row<Arch>(
      std::span<float>(e, static_cast<std::size_t>(n)),
      [total](const V& v) { return lane::div(v, V(total)); }, e);
}

/// codes[i] = codec.encode(e[i] / total, p), i < n, r = encoder.row_of(total); what stands behind, up to
/// padded_scores(n), is lost, and so is e.
template<class Arch, Codec C>
inline void encode_shares(const share_encoder<C>& encoder, const typename C::params& p, float* e, float total,
                          const typename share_encoder<C>::row& r, index n, std::uint8_t* codes) noexcept {
  if (encoder.ordinary && encoder.template encode<Arch>(r, e, n, codes)) return;
  divide_row<Arch>(e, total, n);
  const auto count = static_cast<std::size_t>(n);
  encode<Arch>(encoder.codec, p, std::span<const float>(e, count), std::span(codes, count));
}
template<class Arch, Codec C>
inline void encode_shares(const C& codec, const typename C::params& p, float* e, float total, index n,
                          std::uint8_t* codes) noexcept {
  const share_encoder<C> encoder(codec, p);
  encode_shares<Arch, C>(encoder, p, e, total, encoder.row_of(total), n, codes);
}

}  // namespace repquant::detail
