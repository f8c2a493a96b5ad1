// SPDX-License-Identifier: MIT
/// The product kernels in SSE: SSSE3 and SSE4.1. Compiles without any flag; runs where the CPU has both.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_sse2.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("ssse3,sse4.1")
namespace repquant::detail::gemm_sse4 {

/// What SSE2 has, products of bytes, and one of int32.
struct registers : gemm_sse2::registers {
  static constexpr bool has_bytes = true;

  static wide multiply(wide a, wide b) noexcept { return _mm_mullo_epi32(a, b); }

  static __m128i load_bytes(const std::byte* p) noexcept { return load(p); }
  static __m128i spread_bytes(const std::uint8_t* p) noexcept { return spread(p); }
  static __m128i low_nibbles(__m128i v) noexcept { return _mm_and_si128(v, _mm_set1_epi8(15)); }
  static __m128i high_nibbles(__m128i v) noexcept { return low_nibbles(_mm_srli_epi16(v, 4)); }
  static narrow start(int v) noexcept { return _mm_set1_epi16(static_cast<std::int16_t>(v)); }
  static narrow multiply_bytes(__m128i x, __m128i w) noexcept { return _mm_maddubs_epi16(x, w); }
  static narrow add_narrow(narrow a, narrow b) noexcept {
    if constexpr (!reassociates_registers) return _mm_add_epi16(a, b);
    asm("paddw %1, %0" : "+x"(a) : "x"(b));
    return a;
  }
  static wide widen(wide s, narrow v, std::int16_t times = 1) noexcept {
    return add(s, _mm_madd_epi16(v, _mm_set1_epi16(times)));
  }
};

#include <repquant/kernel/gemm_tile.inc>
#include <repquant/kernel/listed_row.inc>

}  // namespace repquant::detail::gemm_sse4
REPQUANT_TARGET_END
#endif
