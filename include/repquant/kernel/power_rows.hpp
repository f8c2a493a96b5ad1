// SPDX-License-Identifier: MIT
/// Logarithmic codes as powers of two: what the products of log_product.hpp multiply values by.
///
/// The shifts of a codec are cut into bands of eight, 0 .. 7, 8 .. 15 and so on, the last one up to the
/// depth. In a band that ends with shift L, a code of shift s is 2^(L - s), at most 128; codes of other
/// bands, of the other parity (log_sqrt2) and those that mean zero are 0. A band is a row of bytes. Where it
/// is int16 that are multiplied, log2 up to shift 14 is one band, up to 2^14.
#pragma once

#include <repquant/codec/logarithmic.hpp>
#include <repquant/core/shape.hpp>
#include <repquant/kernel/narrow.hpp>

#include <algorithm>
#include <concepts>

namespace repquant {

/// The largest shift that codec c produces.
template<int Steps>
constexpr int largest_shift(const logarithmic<Steps>& c) noexcept {
  return logarithmic<Steps>::shift(c.smallest());
}

/// How many bands its shifts need: 1 up to shift 7, 2 up to 15, at most 4.
template<int Steps>
constexpr int power_bands(const logarithmic<Steps>& c) noexcept {
  return largest_shift(c) / 8 + 1;
}

/// True where one band of int16 holds what takes two bands of bytes.
template<int Steps>
constexpr bool powers_fit_words(const logarithmic<Steps>& c) noexcept {
  return Steps == 1 && power_bands(c) == 2 && largest_shift(c) <= 14;
}

/// The multipliers of the codes of one parity (code % Steps) in one band: those of codes first .. first + 15,
/// all others are 0.
struct power_table {
  std::array<std::uint8_t, 16> of{};    ///< their low bytes
  std::array<std::uint8_t, 16> high{};  ///< their high bytes: 0 where the band is of bytes
  std::uint8_t first = 0;
  int last_shift = 0;  ///< L: a multiplier of 1
};
/// The table of a band of `shifts` shifts, at most 16 / Steps.
template<int Steps>
constexpr power_table make_power_table(const logarithmic<Steps>& c, int parity, int band,
                                       int shifts = 8) noexcept {
  power_table t;
  const int first_shift = shifts * band;
  t.first = static_cast<std::uint8_t>(first_shift * Steps);
  t.last_shift = std::min(largest_shift(c), first_shift + shifts - 1);
  for (int q = t.first + parity; q < t.first + shifts * Steps && q <= c.smallest(); q += Steps) {
    const auto power = static_cast<unsigned>(1 << (t.last_shift - logarithmic<Steps>::shift(q)));
    t.of[static_cast<std::size_t>(q - t.first)] = static_cast<std::uint8_t>(power & 255U);
    t.high[static_cast<std::size_t>(q - t.first)] = static_cast<std::uint8_t>(power >> 8U);
  }
  return t;
}

/// The places of a row whose sum is counted together: a row is padded to whole ones.
inline constexpr index power_block = 32;

namespace detail {

/// Multipliers of whole blocks of codes, in registers.
///
/// A code outside first .. first + 15 has a distance above 15: adding 0x70 with saturation sets its highest
/// bit, for which a look-up in a register gives 0.
template<class Arch>
struct power_lookup;
#if XSIMD_WITH_AVX2
template<class Arch>
requires(has_avx2<Arch> || has_avx512<Arch>) struct power_lookup<Arch> {
  __m256i low, high, first;

  explicit power_lookup(const power_table& t) noexcept
      : low(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t.of.data())))),
        high(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t.high.data())))),
        first(_mm256_set1_epi8(static_cast<char>(t.first))) {}
  /// Where the codes of block b stand in the table; those from n on, counted from the start of the row,
  /// nowhere.
  [[nodiscard]] __m256i places(const std::uint8_t* codes, index b, index n) const noexcept {
    const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + b * power_block));
    const __m256i place = _mm256_adds_epu8(_mm256_sub_epi8(q, first), _mm256_set1_epi8(0x70));
    if (n - b * power_block >= power_block) return place;
    const __m256i numbers = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
                                             19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    const auto there = static_cast<char>(std::max<index>(0, n - b * power_block) - 1);
    return _mm256_or_si256(place, _mm256_cmpgt_epi8(numbers, _mm256_set1_epi8(there)));
  }
  [[nodiscard]] __m256i low_bytes(__m256i place) const noexcept { return _mm256_shuffle_epi8(low, place); }
  [[nodiscard]] __m256i high_bytes(__m256i place) const noexcept { return _mm256_shuffle_epi8(high, place); }
};
/// The sum of four 64-bit lanes, whose value fits an int32.
template<class Arch>
inline std::int32_t sum_of_lanes_avx2(__m256i sums) noexcept {
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  return _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
}
#endif

/// The multiplier of one code.
inline std::uint16_t power_of(const power_table& t, std::uint8_t code) noexcept {
  const auto place = static_cast<std::uint8_t>(code - t.first);
  return place < 16 ? static_cast<std::uint16_t>(t.of[place % 16] + 256 * t.high[place % 16])
                    : std::uint16_t{0};
}

}  // namespace detail

/// out[i] = the multiplier of codes[i] for i < n, 0 behind; returns the sum of all.
///
/// Shapes    codes and out of `blocks` whole blocks, n <= power_block * blocks of whose places count: codes
///           behind n may be anything
/// Requires  bytes: t is the table of a band of bytes
/// Cost      one pass
template<class Arch, class Power>
requires(std::same_as<Power, std::uint8_t> || std::same_as<Power, std::int16_t>) inline std::int32_t
    power_row(const power_table& t, const std::uint8_t* codes, index n, index blocks, Power* out) noexcept {
  [[maybe_unused]] constexpr bool words = std::same_as<Power, std::int16_t>;
#if XSIMD_WITH_AVX2
  if constexpr (detail::has_avx2<Arch> || detail::has_avx512<Arch>) {
    const detail::power_lookup<Arch> look_up(t);
    const __m256i zero = _mm256_setzero_si256();
    __m256i low_sums = zero;
    __m256i high_sums = zero;
    for (index b = 0; b < blocks; ++b) {
      const __m256i place = look_up.places(codes, b, n);
      const __m256i low = look_up.low_bytes(place);
      low_sums = _mm256_add_epi64(low_sums, _mm256_sad_epu8(low, zero));
      auto* const to = reinterpret_cast<__m128i*>(out + b * power_block);
      if constexpr (words) {
        const __m256i high = look_up.high_bytes(place);
        high_sums = _mm256_add_epi64(high_sums, _mm256_sad_epu8(high, zero));
        const __m256i first = _mm256_unpacklo_epi8(low, high);  // of both halves
        const __m256i last = _mm256_unpackhi_epi8(low, high);
        _mm_storeu_si128(to, _mm256_castsi256_si128(first));
        _mm_storeu_si128(to + 1, _mm256_castsi256_si128(last));
        _mm_storeu_si128(to + 2, _mm256_extracti128_si256(first, 1));
        _mm_storeu_si128(to + 3, _mm256_extracti128_si256(last, 1));
      } else {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), low);
      }
    }
    return detail::sum_of_lanes_avx2<Arch>(_mm256_add_epi64(low_sums, _mm256_slli_epi64(high_sums, 8)));
  } else
#endif
  {
    std::int32_t sum = 0;
    index k = 0;
#if XSIMD_WITH_NEON64
    if constexpr (detail::has_neon64<Arch>) {
      const uint8x16_t low_table = vld1q_u8(t.of.data());
      const uint8x16_t high_table = vld1q_u8(t.high.data());
      for (; k + 16 <= n; k += 16) {
        const uint8x16_t place = vsubq_u8(vld1q_u8(codes + k), vdupq_n_u8(t.first));
        const uint8x16_t low = vqtbl1q_u8(low_table, place);
        sum += vaddlvq_u8(low);
        if constexpr (words) {
          const uint8x16_t high = vqtbl1q_u8(high_table, place);
          sum += 256 * vaddlvq_u8(high);
          vst1q_s16(out + k, vreinterpretq_s16_u8(vzip1q_u8(low, high)));
          vst1q_s16(out + k + 8, vreinterpretq_s16_u8(vzip2q_u8(low, high)));
        } else {
          vst1q_u8(out + k, low);
        }
      }
    }
#endif
    for (; k < n; ++k) {
      const std::uint16_t power = detail::power_of(t, codes[k]);
      out[k] = static_cast<Power>(power);
      sum += power;
    }
    std::fill(out + n, out + blocks * power_block, Power{0});
    return sum;
  }
}

}  // namespace repquant
