// SPDX-License-Identifier: MIT
/// Logarithmic codes as bytes that are powers of two: what the products of log_product.hpp multiply values
/// by.
///
/// The shifts of a codec are cut into bands of eight, 0 .. 7, 8 .. 15 and so on, the last one up to the
/// depth. In a band that ends with shift L, a code of shift s is 2^(L - s), at most 128; codes of other
/// bands, of the other parity (log_sqrt2) and those that mean zero are 0.
#pragma once

#include <repquant/codec/logarithmic.hpp>
#include <repquant/core/shape.hpp>
#include <repquant/kernel/narrow.hpp>

#include <algorithm>
#include <bit>

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

/// The multipliers of the codes of one parity (code % Steps) in one band: those of codes first .. first + 15,
/// all others are 0.
struct power_table {
  std::array<std::uint8_t, 16> of{};
  std::uint8_t first = 0;
  int last_shift = 0;  ///< L: a multiplier of 1
  /// The largest multiplier.
  int largest = 1;
};
template<int Steps>
constexpr power_table make_power_table(const logarithmic<Steps>& c, int parity, int band) noexcept {
  power_table t;
  t.first = static_cast<std::uint8_t>(8 * band * Steps);
  t.last_shift = std::min(largest_shift(c), 8 * band + 7);
  t.largest = 1 << (t.last_shift - 8 * band);
  for (int q = t.first + parity; q < t.first + 8 * Steps && q <= c.smallest(); q += Steps) {
    t.of[static_cast<std::size_t>(q - t.first)] =
        static_cast<std::uint8_t>(1 << (t.last_shift - logarithmic<Steps>::shift(q)));
  }
  return t;
}

/// The places of a row whose sum is counted together: a row is padded to whole ones.
inline constexpr index power_block = 32;

namespace detail {

/// The sum of 32 bytes of at most 128.
inline std::int32_t sum_of_block(const std::uint8_t* bytes) noexcept {
#if XSIMD_WITH_SSE2
  const auto* p = reinterpret_cast<const __m128i*>(bytes);
  const __m128i sums = _mm_add_epi64(_mm_sad_epu8(_mm_loadu_si128(p), _mm_setzero_si128()),
                                     _mm_sad_epu8(_mm_loadu_si128(p + 1), _mm_setzero_si128()));
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4);
#else
  std::int32_t sum = 0;
  for (index i = 0; i < power_block; ++i) sum += bytes[i];
  return sum;
#endif
}

}  // namespace detail

/// out[i] = the multiplier of codes[i] for i < n, 0 behind; returns the sum of all.
///
/// Shapes    codes and out of `blocks` whole blocks, n <= power_block * blocks of whose places count: codes
///           behind n may be anything
/// Cost      one pass
template<class Arch>
inline std::int32_t power_row(const power_table& t, const std::uint8_t* codes, index n, index blocks,
                              std::uint8_t* out) noexcept {
  [[maybe_unused]] const index whole = n / power_block;
  // a code outside first .. first + 15 has a distance above 15: adding 0x70 with saturation sets its highest
  // bit, for which a look-up in a register gives 0
  const auto one_by_one = [&](index b, index end) {
    for (index k = b * power_block; k < (b + 1) * power_block; ++k) {
      const auto place = static_cast<std::uint8_t>(codes[k] - t.first);
      out[k] = k < end && place < 16 ? t.of[place % 16] : std::uint8_t{0};
    }
    return detail::sum_of_block(out + b * power_block);
  };
  std::int32_t sum = 0;
#if XSIMD_WITH_AVX2
  if constexpr (detail::has_avx2<Arch> || detail::has_avx512<Arch>) {
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t.of.data())));
    const __m256i first = _mm256_set1_epi8(static_cast<char>(t.first));
    __m256i sums = _mm256_setzero_si256();
    const auto look_up = [&](index b) {
      const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + b * power_block));
      const __m256i place = _mm256_sub_epi8(q, first);
      return _mm256_shuffle_epi8(table, _mm256_adds_epu8(place, _mm256_set1_epi8(0x70)));
    };
    const auto put = [&](index b, __m256i row) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + b * power_block), row);
      sums = _mm256_add_epi64(sums, _mm256_sad_epu8(row, _mm256_setzero_si256()));
    };
    for (index b = 0; b < whole; ++b) put(b, look_up(b));
    for (index b = whole; b < blocks; ++b) {
      const __m256i places = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
                                              18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
      const auto there = static_cast<char>(std::max<index>(0, n - b * power_block));
      put(b, _mm256_and_si256(look_up(b), _mm256_cmpgt_epi8(_mm256_set1_epi8(there), places)));
    }
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
  } else
#endif
#if XSIMD_WITH_NEON64
      if constexpr (detail::has_neon64<Arch>) {
    const uint8x16_t table = vld1q_u8(t.of.data());
    for (index k = 0; k < whole * power_block; k += 16) {
      const uint8x16_t row = vqtbl1q_u8(table, vsubq_u8(vld1q_u8(codes + k), vdupq_n_u8(t.first)));
      vst1q_u8(out + k, row);
      sum += vaddlvq_u8(row);
    }
    for (index b = whole; b < blocks; ++b) sum += one_by_one(b, n);
    return sum;
  } else
#endif
  {
    for (index b = 0; b < blocks; ++b) sum += one_by_one(b, n);
    return sum;
  }
}

}  // namespace repquant
