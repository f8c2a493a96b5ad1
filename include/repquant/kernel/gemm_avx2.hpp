// SPDX-License-Identifier: MIT
/// The product kernels in AVX2. Compiles without any flag; runs where the CPU has AVX2.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("avx2")
namespace repquant::detail::gemm_avx2 {

struct registers {
  static constexpr int lanes = 8;
  static constexpr int rows = 5;  // 10 sums, 2 weights, activations, ones and a product fit 16 registers
  static constexpr int group_rows = 4;
  static constexpr bool has_bytes = true;
  static constexpr bool exact_dot = false;

  using wide = __m256i;
  using narrow = __m256i;
  using reals = __m256;
  static __m256i load(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  /// Four bytes of a row, in every lane.
  static __m256i spread(const void* p) noexcept {
    std::int32_t v = 0;
    std::memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
  }
  static wide zero() noexcept { return _mm256_setzero_si256(); }
  static wide load_wide(const std::int32_t* p) noexcept { return load(p); }
  static void store_wide(std::int32_t* p, wide v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static wide spread_wide(std::int32_t v) noexcept { return _mm256_set1_epi32(v); }
  static wide add(wide a, wide b) noexcept {
    if constexpr (!reassociates_registers) return _mm256_add_epi32(a, b);
    asm("vpaddd %1, %0, %0" : "+x"(a) : "x"(b));
    return a;
  }
  static wide multiply(wide a, wide b) noexcept { return _mm256_mullo_epi32(a, b); }

  static reals zero_reals() noexcept { return _mm256_setzero_ps(); }
  static reals load_reals(const float* p) noexcept { return _mm256_loadu_ps(p); }
  static void store_reals(float* p, reals v) noexcept { _mm256_storeu_ps(p, v); }
  static reals add_scaled(reals total, wide sum, reals scale) noexcept {
    reals product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
    REPQUANT_PIN(product);
    return _mm256_add_ps(total, product);
  }

  static __m256i load_pairs(const std::byte* p) noexcept { return load(p); }
  static __m256i spread_pairs(const std::int16_t* p) noexcept { return spread(p); }
  static wide dot_pairs(wide s, __m256i x, __m256i w) noexcept { return add(s, _mm256_madd_epi16(x, w)); }

  static __m256i load_bytes(const std::byte* p) noexcept { return load(p); }
  static __m256i spread_bytes(const std::uint8_t* p) noexcept { return spread(p); }
  static __m256i low_nibbles(__m256i v) noexcept { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  static __m256i high_nibbles(__m256i v) noexcept { return low_nibbles(_mm256_srli_epi16(v, 4)); }
  static narrow start(int v) noexcept { return _mm256_set1_epi16(static_cast<std::int16_t>(v)); }
  static narrow multiply_bytes(__m256i x, __m256i w) noexcept { return _mm256_maddubs_epi16(x, w); }
  static narrow add_narrow(narrow a, narrow b) noexcept {
    if constexpr (!reassociates_registers) return _mm256_add_epi16(a, b);
    asm("vpaddw %1, %0, %0" : "+x"(a) : "x"(b));
    return a;
  }
  static wide widen(wide s, narrow v, std::int16_t times = 1) noexcept {
    return add(s, _mm256_madd_epi16(v, _mm256_set1_epi16(times)));
  }
};

#include <repquant/kernel/gemm_tile.inc>
#include <repquant/kernel/listed_row.inc>

}  // namespace repquant::detail::gemm_avx2
REPQUANT_TARGET_END
#endif
