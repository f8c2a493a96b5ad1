// SPDX-License-Identifier: MIT
/// What products need of a row of codes before they begin: its sum, and its codes as int16 or in halves.
///
/// Written with the instructions that every x86-64 and every AArch64 has: what the compiler makes of the
/// loops depends on its flags, and for rows of a hundred codes that can take as long as the products.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/core/shape.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>

#if REPQUANT_X86_64
#include <emmintrin.h>
#elif REPQUANT_AARCH64
#include <arm_neon.h>
#endif

namespace repquant::detail {

/// sum x[i] for n values, modulo 2^64.
inline std::int64_t row_sum(const std::int16_t* x, index n) noexcept {
  std::int64_t sum = 0;
  for (index first = 0; first < n; first += 4096) {
    std::int32_t part = 0;
    for (index i = first; i < std::min<index>(n, first + 4096); ++i) part += x[i];
    sum += part;
  }
  return sum;
}
/// The same for codes.
inline std::int64_t row_sum(const std::uint8_t* x, index n) noexcept {
  std::int64_t sum = 0;
  index i = 0;
#if REPQUANT_X86_64
  __m128i sums = _mm_setzero_si128();
  for (; i + 16 <= n; i += 16) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    sums = _mm_add_epi64(sums, _mm_sad_epu8(codes, _mm_setzero_si128()));
  }
  sum = _mm_cvtsi128_si64(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums)));
#elif REPQUANT_AARCH64
  for (; i + 16 <= n; i += 16) sum += vaddlvq_u8(vld1q_u8(x + i));
#endif
  for (; i < n; ++i) sum += x[i];
  return sum;
}

/// words[i] = x[i] for n codes.
inline void widen_row(const std::uint8_t* x, index n, std::int16_t* words) noexcept {
  index i = 0;
#if REPQUANT_X86_64
  for (; i + 16 <= n; i += 16) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    auto* const out = reinterpret_cast<__m128i*>(words + i);
    _mm_storeu_si128(out, _mm_unpacklo_epi8(codes, _mm_setzero_si128()));
    _mm_storeu_si128(out + 1, _mm_unpackhi_epi8(codes, _mm_setzero_si128()));
  }
#elif REPQUANT_AARCH64
  for (; i + 16 <= n; i += 16) {
    const uint8x16_t codes = vld1q_u8(x + i);
    vst1q_s16(words + i, vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes))));
    vst1q_s16(words + i + 8, vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(codes))));
  }
#endif
  for (; i < n; ++i) words[i] = x[i];
}

/// The low four bits of four codes, then the high ones, and so on; behind the last code zeros.
///
/// Shapes  x [n], out [2 n] with n rounded up to a multiple of 8
inline void split_codes(const std::uint8_t* x, index n, std::uint8_t* out) noexcept {
  const auto split = [](const std::uint8_t* four, std::uint8_t* to) {
    std::uint32_t codes = 0;
    std::memcpy(&codes, four, sizeof codes);
    constexpr std::uint32_t low = 0x0F0F0F0FU;
    const std::uint32_t both[2] = {codes & low, codes >> 4U & low};
    std::memcpy(to, both, sizeof both);
  };
  index i = 0;
#if REPQUANT_X86_64
  const __m128i low = _mm_set1_epi8(15);
  for (; i + 16 <= n; i += 16) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    const __m128i lows = _mm_and_si128(codes, low);
    const __m128i highs = _mm_and_si128(_mm_srli_epi16(codes, 4), low);
    auto* const to = reinterpret_cast<__m128i*>(out + 2 * i);
    _mm_storeu_si128(to, _mm_unpacklo_epi32(lows, highs));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi32(lows, highs));
  }
#endif
  for (; i + 4 <= n; i += 4) split(x + i, out + 2 * i);
  std::uint8_t rest[8] = {};
  std::copy(x + i, x + n, rest);
  for (const index whole = i; i < (n + 7) / 8 * 8; i += 4) split(rest + (i - whole), out + 2 * i);
}

}  // namespace repquant::detail
