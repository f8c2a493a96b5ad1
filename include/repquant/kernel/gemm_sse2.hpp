// SPDX-License-Identifier: MIT
/// The product kernels in SSE2, which every x86-64 has: int16 pairs only, because the products of bytes came
/// later.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("sse2")
namespace repquant::detail::gemm_sse2 {

struct registers {
  static constexpr int lanes = 4;
  static constexpr int rows = 4;  // 8 sums, 2 weights, activations, ones and a product fit 16 registers
  static constexpr int group_rows = 4;
  static constexpr bool has_bytes = false;
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
  static wide multiply(wide a, wide b) noexcept {
    const __m128i even = _mm_mul_epu32(a, b);  // the low halves of unsigned products are those of signed ones
    const __m128i odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 8), _mm_shuffle_epi32(odd, 8));
  }

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
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_sse2
REPQUANT_TARGET_END
#endif
