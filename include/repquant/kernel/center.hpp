// SPDX-License-Identifier: MIT
/// Codes minus their zero point, as int16: what integer products multiply.
#pragma once

#include <repquant/kernel/pair_lane.hpp>

#include <algorithm>
#include <span>

namespace repquant {

/// True where codes 0 .. 255 minus this zero point fit an int16.
constexpr bool center_fits(std::int32_t zero_point) noexcept {
  return zero_point >= -32512 && zero_point <= 32767;
}

/// The largest |q - zero_point| over codes 0 .. levels - 1.
constexpr std::int64_t center_largest(std::int32_t zero_point, int levels = 256) noexcept {
  const std::int64_t low = zero_point;
  const std::int64_t high = levels - 1 - static_cast<std::int64_t>(zero_point);
  return std::max(low < 0 ? -low : low, high < 0 ? -high : high);
}

/// out[i] = codes[i] - zero_point.
///
/// Shapes    codes, out [n]
/// Requires  center_fits(zero_point); the two do not overlap
/// Cost      one pass
template<class Arch = default_arch>
inline void center(std::span<const std::uint8_t> codes, std::int32_t zero_point,
                   std::span<std::int16_t> out) noexcept {
  using P = pair_lane<Arch>;
  REPQUANT_ASSERT(center_fits(zero_point) && out.size() >= codes.size());
  const auto n = static_cast<index>(codes.size());
  const auto z = P::spread(static_cast<std::int16_t>(zero_point));
  const std::uint8_t* from = codes.data();
  std::int16_t* to = out.data();
  index i = 0;
  for (; i + P::width <= n; i += P::width) P::store(to + i, P::sub(P::load_bytes(from + i), z));
  for (; i < n; ++i) to[i] = static_cast<std::int16_t>(from[i] - zero_point);
}

/// out[i] = codes[i] - zero_points[i]: one zero point per place, as int16.
///
/// Shapes    codes, zero_points, out [n]
/// Requires  center_fits(each zero point), of which an int16 holds all; none overlaps out
/// Cost      one pass
template<class Arch = default_arch>
inline void center(std::span<const std::uint8_t> codes, std::span<const std::int16_t> zero_points,
                   std::span<std::int16_t> out) noexcept {
  using P = pair_lane<Arch>;
  REPQUANT_ASSERT(zero_points.size() >= codes.size() && out.size() >= codes.size());
  const auto n = static_cast<index>(codes.size());
  const std::uint8_t* from = codes.data();
  const std::int16_t* zero = zero_points.data();
  std::int16_t* to = out.data();
  index i = 0;
  for (; i + P::width <= n; i += P::width)
    P::store(to + i, P::sub(P::load_bytes(from + i), P::load(zero + i)));
  for (; i < n; ++i) to[i] = static_cast<std::int16_t>(from[i] - zero[i]);
}

/// out[j * out_stride + i] = codes[i * stride + j] - zero_points[j]: rows become columns.
///
/// Shapes    codes [rows x cols], zero_points [cols], out [cols x rows] with their distances between rows
/// Requires  center_fits(each zero point); the two do not overlap
inline void center_transposed(const std::uint8_t* codes, index rows, index cols, index stride,
                              std::span<const std::int32_t> zero_points, std::int16_t* out,
                              index out_stride) noexcept {
  REPQUANT_ASSERT(static_cast<index>(zero_points.size()) >= cols);
  constexpr index tile = 16;  // a tile of both sides stays in the first-level cache
  for (index j0 = 0; j0 < cols; j0 += tile) {
    const index j1 = std::min(cols, j0 + tile);
    for (index i = 0; i < rows; ++i) {
      const std::uint8_t* row = codes + i * stride;
      for (index j = j0; j < j1; ++j)
        out[j * out_stride + i] =
            static_cast<std::int16_t>(row[j] - zero_points[static_cast<std::size_t>(j)]);
    }
  }
}

}  // namespace repquant
