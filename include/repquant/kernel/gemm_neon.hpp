// SPDX-License-Identifier: MIT
/// The product kernels in NEON, which every AArch64 has: int16 pairs only.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

#if REPQUANT_AARCH64
#include <arm_neon.h>

namespace repquant::detail::gemm_neon {

struct registers {
  static constexpr int lanes = 4;
  static constexpr int rows = 8;  // 16 sums, weights and activations fit 32 registers
  static constexpr int group_rows = 6;
  static constexpr bool has_bytes = false;
  static constexpr bool exact_dot = true;

  using wide = int32x4_t;
  using narrow = int32x4_t;
  using reals = float32x4_t;
  static wide zero() noexcept { return vdupq_n_s32(0); }
  static wide load_wide(const std::int32_t* p) noexcept { return vld1q_s32(p); }
  static void store_wide(std::int32_t* p, wide v) noexcept { vst1q_s32(p, v); }
  static wide spread_wide(std::int32_t v) noexcept { return vdupq_n_s32(v); }
  static wide add(wide a, wide b) noexcept { return vaddq_s32(a, b); }
  static wide multiply(wide a, wide b) noexcept { return vmulq_s32(a, b); }

  static reals zero_reals() noexcept { return vdupq_n_f32(0); }
  static reals load_reals(const float* p) noexcept { return vld1q_f32(p); }
  static void store_reals(float* p, reals v) noexcept { vst1q_f32(p, v); }
  static reals add_scaled(reals total, wide sum, reals scale) noexcept {
    reals product = vmulq_f32(vcvtq_f32_s32(sum), scale);
    REPQUANT_PIN(product);
    return vaddq_f32(total, product);
  }

  /// The first and the second places of four columns.
  static int16x4x2_t load_pairs(const std::byte* p) noexcept {
    return vld2_s16(reinterpret_cast<const std::int16_t*>(p));
  }
  static int16x4x2_t spread_pairs(const std::int16_t* p) noexcept { return vld2_dup_s16(p); }
  static wide dot_pairs(wide s, const int16x4x2_t& x, const int16x4x2_t& w) noexcept {
    return vmlal_s16(vmlal_s16(s, x.val[0], w.val[0]), x.val[1], w.val[1]);
  }

  /// For those that build on this one: their products of bytes are their own.
  static uint8x16_t load_bytes(const std::byte* p) noexcept {
    return vld1q_u8(reinterpret_cast<const std::uint8_t*>(p));
  }
  static uint8x16_t spread_bytes(const std::uint8_t* p) noexcept {
    std::uint32_t v = 0;
    std::memcpy(&v, p, sizeof v);
    return vreinterpretq_u8_u32(vdupq_n_u32(v));
  }
  static uint8x16_t low_nibbles(uint8x16_t v) noexcept { return vandq_u8(v, vdupq_n_u8(15)); }
  static uint8x16_t high_nibbles(uint8x16_t v) noexcept { return vshrq_n_u8(v, 4); }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_neon
#endif
