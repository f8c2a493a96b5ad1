// SPDX-License-Identifier: MIT
/// words_of: int16 between int32 lanes and bytes, saturating on the way: what happens at the edge of four
/// registers. xsimd has no packing of several registers into one, so this is written with intrinsics, one
/// line for each instruction set.
///
///   pack(a, b)       two int32 registers into one of int16; beyond int16 the nearest
///   add(a, b)        the sum; beyond int16 the nearest
///   either, is_zero  bits of one or the other; true where there are none
///   bytes(a, b)      two registers of words into one of bytes, 0 .. 255; beyond them the nearest
///   at_most(v, n)    the lesser of each byte and n
///   store(p, v)      all bytes, in the order of the int32 registers
///
/// A pack works inside blocks of 128 bits: where a register has several, words and bytes stand out of order
/// until they are stored.
#pragma once

#include <repquant/core/lane.hpp>

#include <cstdint>
#include <type_traits>

namespace repquant::detail {

/// Nothing where an architecture has no such registers.
template<class Arch>
struct words_of {};

template<class Arch>
concept HasWords = requires {
  typename words_of<Arch>::words;
};

#if XSIMD_WITH_SSE2
template<class Arch>
inline constexpr bool has_sse2 = std::is_base_of_v<xsimd::sse2, Arch> && !std::is_base_of_v<xsimd::avx, Arch>;
template<class Arch>
inline constexpr bool has_avx2 = std::is_base_of_v<xsimd::avx2, Arch>;
template<class Arch>
inline constexpr bool has_avx512 = std::is_base_of_v<xsimd::avx512f, Arch>;
template<class Arch>
inline constexpr bool has_avx512bw = std::is_base_of_v<xsimd::avx512bw, Arch>;

template<class Arch>
requires has_sse2<Arch>
struct words_of<Arch> {
  using words = __m128i;
  static words pack(__m128i a, __m128i b) noexcept { return _mm_packs_epi32(a, b); }
  static words add(words a, words b) noexcept { return _mm_adds_epi16(a, b); }
  static words either(words a, words b) noexcept { return _mm_or_si128(a, b); }
  static bool is_zero(words v) noexcept {
    return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xFFFF;
  }
  static __m128i bytes(words a, words b) noexcept { return _mm_packus_epi16(a, b); }
  static __m128i at_most(__m128i v, std::uint8_t n) noexcept {
    return _mm_min_epu8(v, _mm_set1_epi8(static_cast<char>(n)));
  }
  static void store(std::uint8_t* p, __m128i v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
  }
};
#endif
#if XSIMD_WITH_AVX2
template<class Arch>
requires has_avx2<Arch>
struct words_of<Arch> {
  using words = __m256i;
  static words pack(__m256i a, __m256i b) noexcept { return _mm256_packs_epi32(a, b); }
  static words add(words a, words b) noexcept { return _mm256_adds_epi16(a, b); }
  static words either(words a, words b) noexcept { return _mm256_or_si256(a, b); }
  static bool is_zero(words v) noexcept { return _mm256_testz_si256(v, v) != 0; }
  static __m256i bytes(words a, words b) noexcept { return _mm256_packus_epi16(a, b); }
  static __m256i at_most(__m256i v, std::uint8_t n) noexcept {
    return _mm256_min_epu8(v, _mm256_set1_epi8(static_cast<char>(n)));
  }
  static void store(std::uint8_t* p, __m256i v) noexcept {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permutevar8x32_epi32(v, order));
  }
};
#endif
#if XSIMD_WITH_AVX512BW
template<class Arch>
requires has_avx512bw<Arch>
struct words_of<Arch> {
  using words = __m512i;
  static words pack(__m512i a, __m512i b) noexcept { return _mm512_packs_epi32(a, b); }
  static words add(words a, words b) noexcept { return _mm512_adds_epi16(a, b); }
  static words either(words a, words b) noexcept { return _mm512_or_si512(a, b); }
  static bool is_zero(words v) noexcept { return _mm512_test_epi16_mask(v, v) == 0; }
  static __m512i bytes(words a, words b) noexcept { return _mm512_packus_epi16(a, b); }
  static __m512i at_most(__m512i v, std::uint8_t n) noexcept {
    return _mm512_min_epu8(v, _mm512_set1_epi8(static_cast<char>(n)));
  }
  static void store(std::uint8_t* p, __m512i v) noexcept {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, v));
  }
};
#endif
#if XSIMD_WITH_NEON64
template<class Arch>
inline constexpr bool has_neon64 = std::is_base_of_v<xsimd::neon64, Arch>;

template<class Arch>
requires has_neon64<Arch>
struct words_of<Arch> {
  using words = int16x8_t;
  static words pack(int32x4_t a, int32x4_t b) noexcept { return vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)); }
  static words add(words a, words b) noexcept { return vqaddq_s16(a, b); }
  static words either(words a, words b) noexcept { return vorrq_s16(a, b); }
  static bool is_zero(words v) noexcept { return vmaxvq_u16(vreinterpretq_u16_s16(v)) == 0; }
  static uint8x16_t bytes(words a, words b) noexcept { return vcombine_u8(vqmovun_s16(a), vqmovun_s16(b)); }
  static uint8x16_t at_most(uint8x16_t v, std::uint8_t n) noexcept { return vminq_u8(v, vdupq_n_u8(n)); }
  static void store(std::uint8_t* p, uint8x16_t v) noexcept { vst1q_u8(p, v); }
};
#endif

}  // namespace repquant::detail
