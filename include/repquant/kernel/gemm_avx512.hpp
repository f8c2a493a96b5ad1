// SPDX-License-Identifier: MIT
/// The product kernels in AVX-512. Compiles without any flag; runs where the CPU has AVX-512 F, BW and VL.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("avx512f,avx512bw,avx512vl")
namespace repquant::detail::gemm_avx512 {

struct registers {
  static constexpr int lanes = 16;
  static constexpr int rows = 6;  // 12 sums in int32 and 12 in int16 fit 32 registers with all else
  static constexpr int group_rows = 6;
  static constexpr bool has_bytes = true;
  static constexpr bool exact_dot = false;

  using wide = __m512i;
  using narrow = __m512i;
  using reals = __m512;
  static __m512i load(const void* p) noexcept { return _mm512_loadu_si512(p); }
  /// Four bytes of a row, in every lane.
  static __m512i spread(const void* p) noexcept {
    std::int32_t v = 0;
    std::memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
  }
  static wide zero() noexcept { return _mm512_setzero_si512(); }
  static wide load_wide(const std::int32_t* p) noexcept { return load(p); }
  static void store_wide(std::int32_t* p, wide v) noexcept { _mm512_storeu_si512(p, v); }
  static wide spread_wide(std::int32_t v) noexcept { return _mm512_set1_epi32(v); }
  static wide add(wide a, wide b) noexcept {
    if constexpr (!reassociates_registers) return _mm512_add_epi32(a, b);
    asm("vpaddd %1, %0, %0" : "+v"(a) : "v"(b));
    return a;
  }
  static wide multiply(wide a, wide b) noexcept { return _mm512_mullo_epi32(a, b); }

  static reals zero_reals() noexcept { return _mm512_setzero_ps(); }
  static reals load_reals(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static void store_reals(float* p, reals v) noexcept { _mm512_storeu_ps(p, v); }
  static reals add_scaled(reals total, wide sum, reals scale) noexcept {
    // not _mm512_cvtepi32_ps: g++ 12 warns that its own header reads what it has not written
    reals product = _mm512_mul_ps(__builtin_convertvector(reinterpret_cast<__v16si>(sum), __v16sf), scale);
    REPQUANT_PIN(product);
    return _mm512_add_ps(total, product);
  }

  static __m512i load_pairs(const std::byte* p) noexcept { return load(p); }
  static __m512i spread_pairs(const std::int16_t* p) noexcept { return spread(p); }
  static wide dot_pairs(wide s, __m512i x, __m512i w) noexcept { return add(s, _mm512_madd_epi16(x, w)); }

  static __m512i load_bytes(const std::byte* p) noexcept { return load(p); }
  static __m512i spread_bytes(const std::uint8_t* p) noexcept { return spread(p); }
  static __m512i low_nibbles(__m512i v) noexcept { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
  static __m512i high_nibbles(__m512i v) noexcept { return low_nibbles(_mm512_srli_epi16(v, 4)); }
  static narrow start(int v) noexcept { return _mm512_set1_epi16(static_cast<std::int16_t>(v)); }
  static narrow multiply_bytes(__m512i x, __m512i w) noexcept { return _mm512_maddubs_epi16(x, w); }
  static narrow add_narrow(narrow a, narrow b) noexcept {
    if constexpr (!reassociates_registers) return _mm512_add_epi16(a, b);
    asm("vpaddw %1, %0, %0" : "+v"(a) : "v"(b));
    return a;
  }
  static wide widen(wide s, narrow v, std::int16_t times = 1) noexcept {
    return add(s, _mm512_madd_epi16(v, _mm512_set1_epi16(times)));
  }
};

#include <repquant/kernel/gemm_tile.inc>
#include <repquant/kernel/listed_row.inc>

}  // namespace repquant::detail::gemm_avx512
REPQUANT_TARGET_END
#endif
