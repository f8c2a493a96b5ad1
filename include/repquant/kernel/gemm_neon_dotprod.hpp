// SPDX-License-Identifier: MIT
/// The product kernels in NEON with dot products of unsigned bytes. Compiles without any flag; runs where the
/// CPU has them.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_neon.hpp>

#if REPQUANT_NEON_DOTPROD
#include <arm_neon.h>

REPQUANT_TARGET_BEGIN("arch=armv8.2-a+dotprod")
namespace repquant::detail::gemm_neon_dotprod {

/// What NEON has, and products of bytes.
struct registers : gemm_neon::registers {
  static constexpr bool has_bytes = true;

  /// Weights are unsigned here: layout_of_bits gives them no shift.
  static wide dot(wide s, uint8x16_t x, uint8x16_t w) noexcept {
    return vreinterpretq_s32_u32(vdotq_u32(vreinterpretq_u32_s32(s), x, w));
  }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_neon_dotprod
REPQUANT_TARGET_END
#endif
