// SPDX-License-Identifier: MIT
/// The product kernels in AVX-512 with VNNI: products of bytes and of int16 are summed in int32 at once.
/// Compiles without any flag; runs where the CPU has AVX-512 F, BW, VL and VNNI.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_avx512.hpp>

#if REPQUANT_X86_64
#include <immintrin.h>

REPQUANT_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512vnni")
namespace repquant::detail::gemm_avx512_vnni {

/// What AVX-512 has, but for the products.
struct registers : gemm_avx512::registers {
  static constexpr int rows = 8;  // 16 sums hide the latency
  static constexpr bool exact_dot = true;

  static wide dot_pairs(wide s, __m512i x, __m512i w) noexcept { return _mm512_dpwssd_epi32(s, x, w); }
  static wide dot(wide s, __m512i x, __m512i w) noexcept { return _mm512_dpbusd_epi32(s, x, w); }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_avx512_vnni
REPQUANT_TARGET_END
#endif
