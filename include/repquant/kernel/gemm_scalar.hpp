// SPDX-License-Identifier: MIT
/// The product kernels in plain C++: their definition.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

namespace repquant::detail::gemm_scalar {

struct registers {
  static constexpr int lanes = 1;
  static constexpr int rows = 4;
  static constexpr int group_rows = 4;
  static constexpr bool has_bytes = true;
  static constexpr bool exact_dot = true;

  using wide = std::uint32_t;  // wraps, as registers do
  using narrow = wide;
  using reals = float;
  static wide zero() noexcept { return 0; }
  static wide load_wide(const std::int32_t* p) noexcept { return static_cast<wide>(*p); }
  static void store_wide(std::int32_t* p, wide v) noexcept { *p = static_cast<std::int32_t>(v); }
  static wide spread_wide(std::int32_t v) noexcept { return static_cast<wide>(v); }
  static wide add(wide a, wide b) noexcept { return a + b; }
  static wide multiply(wide a, wide b) noexcept { return a * b; }

  static reals zero_reals() noexcept { return 0; }
  static reals load_reals(const float* p) noexcept { return *p; }
  static void store_reals(float* p, reals v) noexcept { *p = v; }
  static reals add_scaled(reals total, wide sum, reals scale) noexcept {
    float product = static_cast<float>(static_cast<std::int32_t>(sum)) * scale;
    REPQUANT_PIN(product);
    return total + product;
  }

  struct pair {
    std::int16_t at[2];
  };
  static pair load_pairs(const std::byte* p) noexcept {
    pair v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static pair spread_pairs(const std::int16_t* p) noexcept { return {{p[0], p[1]}}; }
  static wide dot_pairs(wide s, pair x, pair w) noexcept {
    return s + static_cast<wide>(std::int32_t{x.at[0]} * w.at[0]) +
           static_cast<wide>(std::int32_t{x.at[1]} * w.at[1]);
  }

  struct four {
    std::uint8_t at[4];
  };
  static four load_bytes(const std::byte* p) noexcept {
    four v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static four spread_bytes(const std::uint8_t* p) noexcept { return {{p[0], p[1], p[2], p[3]}}; }
  static four low_nibbles(four v) noexcept {
    for (std::uint8_t& b : v.at) b = static_cast<std::uint8_t>(b & 15U);
    return v;
  }
  static four high_nibbles(four v) noexcept {
    for (std::uint8_t& b : v.at) b = static_cast<std::uint8_t>(b >> 4U);
    return v;
  }
  static wide dot(wide s, four x, four w) noexcept {
    for (int i = 0; i < 4; ++i)
      s += static_cast<wide>(std::int32_t{x.at[i]} * static_cast<std::int8_t>(w.at[i]));
    return s;
  }
};

#include <repquant/kernel/gemm_tile.inc>

}  // namespace repquant::detail::gemm_scalar
