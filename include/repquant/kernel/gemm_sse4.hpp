// SPDX-License-Identifier: MIT
/// The product kernels in SSE: SSSE3 and SSE4.1. Compiles without any flag; runs where the CPU has both.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("ssse3,sse4.1")
namespace repquant::detail::gemm_sse4 {

struct registers {
  static constexpr int lanes = 4;
  static constexpr int rows = 4;  // 8 sums, 2 weights, activations, ones and a product fit 16 registers
  static constexpr int group_rows = 4;
  static constexpr bool has_bytes = true;
  static constexpr bool exact_dot = false;

  using wide = __m128i;
  using narrow = __m128i;
  using reals = __m128;
  static __m128i load(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  /// Four bytes of a row, in every lane.
  static __m128i spread(const void* p) noexcept {
    std::int32_t v = 0;
    std::memcpy(&v, p, sizeof v);
    return _mm_set1_epi32(v);
  }
  static wide zero() noexcept { return _mm_setzero_si128(); }
  static wide load_wide(const std::int32_t* p) noexcept { return load(p); }
  static void store_wide(std::int32_t* p, wide v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
  }
  static wide spread_wide(std::int32_t v) noexcept { return _mm_set1_epi32(v); }
  static wide add(wide a, wide b) noexcept {
    if constexpr (!reassociates_registers) return _mm_add_epi32(a, b);
    asm("paddd %1, %0" : "+x"(a) : "x"(b));
    return a;
  }
  static wide multiply(wide a, wide b) noexcept { return _mm_mullo_epi32(a, b); }

  static reals zero_reals() noexcept { return _mm_setzero_ps(); }
  static reals load_reals(const float* p) noexcept { return _mm_loadu_ps(p); }
  static void store_reals(float* p, reals v) noexcept { _mm_storeu_ps(p, v); }
  static reals add_scaled(reals total, wide sum, reals scale) noexcept {
    reals product = _mm_mul_ps(_mm_cvtepi32_ps(sum), scale);
    REPQUANT_PIN(product);
    return _mm_add_ps(total, product);
  }

  static __m128i load_pairs(const std::byte* p) noexcept { return load(p); }
  static __m128i spread_pairs(const std::int16_t* p) noexcept { return spread(p); }
  static wide dot_pairs(wide s, __m128i x, __m128i w) noexcept { return add(s, _mm_madd_epi16(x, w)); }

  static __m128i load_bytes(const std::byte* p) noexcept { return load(p); }
  static __m128i spread_bytes(const std::uint8_t* p) noexcept { return spread(p); }
  static __m128i low_nibbles(__m128i v) noexcept { return _mm_and_si128(v, _mm_set1_epi8(15)); }
  static __m128i high_nibbles(__m128i v) noexcept { return low_nibbles(_mm_srli_epi16(v, 4)); }
  static __m128i first_of(__m128i v) noexcept { return _mm_and_si128(v, _mm_set1_epi16(255)); }
  static __m128i second_of(__m128i v) noexcept { return _mm_and_si128(v, _mm_set1_epi16(-256)); }
  static narrow start(int v) noexcept { return _mm_set1_epi16(static_cast<std::int16_t>(v)); }
  static narrow multiply_bytes(__m128i x, __m128i w) noexcept { return _mm_maddubs_epi16(x, w); }
  static narrow add_narrow(narrow a, narrow b) noexcept {
    if constexpr (!reassociates_registers) return _mm_add_epi16(a, b);
    asm("paddw %1, %0" : "+x"(a) : "x"(b));
    return a;
  }
  static wide widen(wide s, narrow v) noexcept { return add(s, _mm_madd_epi16(v, _mm_set1_epi16(1))); }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_sse4
REPQUANT_TARGET_END
#endif
