// SPDX-License-Identifier: MIT
/// The product kernels in AVX2 with AVX-VNNI: products of bytes and of int16 are summed in int32 at once.
/// Compiles without any flag; runs where the CPU has both.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_avx2.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("avx2,avxvnni")
namespace repquant::detail::gemm_avx_vnni {

/// What AVX2 has, but for the products.
struct registers : gemm_avx2::registers {
  static constexpr int rows = 6;  // 12 sums, 2 weights and activations fit 16 registers, and hide the latency
  static constexpr bool exact_dot = true;

  static wide dot_pairs(wide s, __m256i x, __m256i w) noexcept { return _mm256_dpwssd_avx_epi32(s, x, w); }
  static wide dot(wide s, __m256i x, __m256i w) noexcept { return _mm256_dpbusd_avx_epi32(s, x, w); }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_avx_vnni
REPQUANT_TARGET_END
#endif
