// SPDX-License-Identifier: MIT
/// The product kernels in NEON with dot products of unsigned by signed bytes. Compiles without any flag; runs
/// where the CPU has them.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_neon.hpp>

#if REPQUANT_NEON_I8MM
#include <arm_neon.h>

REPQUANT_TARGET_BEGIN("arch=armv8.2-a+i8mm")
namespace repquant::detail::gemm_neon_i8mm {

/// What NEON has, and products of bytes.
struct registers : gemm_neon::registers {
  static constexpr bool has_bytes = true;

  static wide dot(wide s, uint8x16_t x, uint8x16_t w) noexcept {
    return vusdotq_s32(s, x, vreinterpretq_s8_u8(w));
  }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_neon_i8mm
REPQUANT_TARGET_END
#endif
