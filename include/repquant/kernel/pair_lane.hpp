// SPDX-License-Identifier: MIT
/// pair_lane: a register of int16 values, and the instruction that integer products are made of: multiply
/// pairwise, add neighbours into int32. xsimd has none of it, so this is the int16 side of core/lane.hpp:
/// one struct per instruction set, the scalar one is the definition.
///
///   load(p), load_bytes(p)    `width` int16 values, or bytes widened to int16
///   load_part(p, n)           n < width values, zeros behind them
///   store, spread, sub        as they say; sub wraps
///   madd(sums, a, b)          sums + a b, neighbours added; wraps, so the caller proves the range
///   totals(s0, s1, s2, s3, p) p[i] = the sum of all places of s_i
///
/// Length: one small struct per instruction set; side by side they can be compared.
#pragma once

#include <repquant/core/lane.hpp>
#include <repquant/core/shape.hpp>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace repquant {

namespace detail {

struct scalar_pairs {
  using values = std::int16_t;
  using sums = std::int32_t;
  static constexpr index width = 1;
  static values load(const std::int16_t* p) noexcept { return *p; }
  static values load_part(const std::int16_t*, index) noexcept { return 0; }
  static values load_bytes(const std::uint8_t* p) noexcept { return *p; }
  static void store(std::int16_t* p, values v) noexcept { *p = v; }
  static values spread(std::int16_t v) noexcept { return v; }
  static values sub(values a, values b) noexcept { return static_cast<values>(a - b); }
  static sums zero() noexcept { return 0; }
  static sums madd(sums s, values a, values b) noexcept {
    return s + static_cast<std::int32_t>(a) * static_cast<std::int32_t>(b);
  }
  static void totals(sums a, sums b, sums c, sums d, std::int32_t* p) noexcept {
    p[0] = a;
    p[1] = b;
    p[2] = c;
    p[3] = d;
  }
};

/// load_part of any register: through memory, once per row at most.
template<class Pairs>
inline typename Pairs::values load_part_of(const std::int16_t* p, index n) noexcept {
  alignas(64) std::int16_t places[static_cast<std::size_t>(Pairs::width)] = {};
  std::memcpy(places, p, static_cast<std::size_t>(n) * sizeof *p);
  return Pairs::load(places);
}

#if XSIMD_WITH_SSE2
struct sse2_pairs {
  using values = __m128i;
  using sums = __m128i;
  static constexpr index width = 8;
  static values load(const std::int16_t* p) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static values load_part(const std::int16_t* p, index n) noexcept { return load_part_of<sse2_pairs>(p, n); }
  static values load_bytes(const std::uint8_t* p) noexcept {
    return _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128());
  }
  static void store(std::int16_t* p, values v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
  }
  static values spread(std::int16_t v) noexcept { return _mm_set1_epi16(v); }
  static values sub(values a, values b) noexcept { return _mm_sub_epi16(a, b); }
  static sums zero() noexcept { return _mm_setzero_si128(); }
  static sums madd(sums s, values a, values b) noexcept {
    s = _mm_add_epi32(s, _mm_madd_epi16(a, b));
    REPQUANT_PIN(s);  // keeps g++ from collecting all products before the first sum
    return s;
  }
  static void totals(sums a, sums b, sums c, sums d, std::int32_t* p) noexcept {
    const __m128i ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    const __m128i cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    const __m128i all = _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), all);
  }
};
#endif

#if XSIMD_WITH_AVX2
struct avx2_pairs {
  using values = __m256i;
  using sums = __m256i;
  static constexpr index width = 16;
  static values load(const std::int16_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static values load_part(const std::int16_t* p, index n) noexcept { return load_part_of<avx2_pairs>(p, n); }
  static values load_bytes(const std::uint8_t* p) noexcept {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::int16_t* p, values v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static values spread(std::int16_t v) noexcept { return _mm256_set1_epi16(v); }
  static values sub(values a, values b) noexcept { return _mm256_sub_epi16(a, b); }
  static sums zero() noexcept { return _mm256_setzero_si256(); }
  static sums madd(sums s, values a, values b) noexcept {
    s = _mm256_add_epi32(s, _mm256_madd_epi16(a, b));
    REPQUANT_PIN(s);
    return s;
  }
  static __m128i half(sums s) noexcept {
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  }
  static void totals(sums a, sums b, sums c, sums d, std::int32_t* p) noexcept {
    sse2_pairs::totals(half(a), half(b), half(c), half(d), p);
  }
};
#endif

#if XSIMD_WITH_AVX512BW
struct avx512_pairs {
  using values = __m512i;
  using sums = __m512i;
  static constexpr index width = 32;
  static values load(const std::int16_t* p) noexcept { return _mm512_loadu_si512(p); }
  static values load_part(const std::int16_t* p, index n) noexcept {
    return _mm512_maskz_loadu_epi16((1U << static_cast<unsigned>(n)) - 1U, p);
  }
  static values load_bytes(const std::uint8_t* p) noexcept {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store(std::int16_t* p, values v) noexcept { _mm512_storeu_si512(p, v); }
  static values spread(std::int16_t v) noexcept { return _mm512_set1_epi16(v); }
  static values sub(values a, values b) noexcept { return _mm512_sub_epi16(a, b); }
  static sums zero() noexcept { return _mm512_setzero_si512(); }
  static sums madd(sums s, values a, values b) noexcept {
    s = _mm512_add_epi32(s, _mm512_madd_epi16(a, b));
    REPQUANT_PIN(s);
    return s;
  }
  static __m256i half(sums s) noexcept {
    return _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));
  }
  static void totals(sums a, sums b, sums c, sums d, std::int32_t* p) noexcept {
    avx2_pairs::totals(half(a), half(b), half(c), half(d), p);
  }
};
#endif

#if XSIMD_WITH_NEON64
struct neon_pairs {
  using values = int16x8_t;
  using sums = int32x4_t;
  static constexpr index width = 8;
  static values load(const std::int16_t* p) noexcept { return vld1q_s16(p); }
  static values load_part(const std::int16_t* p, index n) noexcept { return load_part_of<neon_pairs>(p, n); }
  static values load_bytes(const std::uint8_t* p) noexcept {
    return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p)));
  }
  static void store(std::int16_t* p, values v) noexcept { vst1q_s16(p, v); }
  static values spread(std::int16_t v) noexcept { return vdupq_n_s16(v); }
  static values sub(values a, values b) noexcept { return vsubq_s16(a, b); }
  static sums zero() noexcept { return vdupq_n_s32(0); }
  static sums madd(sums s, values a, values b) noexcept {
    return vmlal_high_s16(vmlal_s16(s, vget_low_s16(a), vget_low_s16(b)), a, b);
  }
  static void totals(sums a, sums b, sums c, sums d, std::int32_t* p) noexcept {
    vst1q_s32(p, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
  }
};
#endif

template<class Arch>
constexpr auto pairs_of() noexcept {
#if XSIMD_WITH_AVX512BW
  if constexpr (std::is_base_of_v<xsimd::avx512bw, Arch>) {
    return avx512_pairs{};
  } else
#endif
#if XSIMD_WITH_AVX2
      if constexpr (std::is_base_of_v<xsimd::avx2, Arch> || std::is_base_of_v<xsimd::avx512f, Arch>) {
    return avx2_pairs{};
  } else
#endif
#if XSIMD_WITH_SSE2
      if constexpr (std::is_base_of_v<xsimd::sse2, Arch> || std::is_base_of_v<xsimd::avx, Arch>) {
    return sse2_pairs{};
  } else
#endif
#if XSIMD_WITH_NEON64
      if constexpr (std::is_base_of_v<xsimd::neon64, Arch>) {
    return neon_pairs{};
  } else
#endif
  {
    return scalar_pairs{};
  }
}

}  // namespace detail

/// The int16 registers of an architecture; scalar where it has none here.
template<class Arch>
using pair_lane = decltype(detail::pairs_of<Arch>());

}  // namespace repquant
