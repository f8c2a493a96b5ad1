// SPDX-License-Identifier: MIT
/// The inner step of packing panels: a few rows of codes into the words of a few columns, 16 bytes at a time.
///
/// A panel holds words of four bytes or of two int16 for each of its columns (panel_layout.hpp). Codes whose
/// places lie side by side come as rows of words that are transposed; codes whose columns lie side by side
/// are interleaved. Vectors of the compiler instead of intrinsics: the same text on every 128-bit instruction
/// set, without any flag.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace repquant::detail {

using sixteen_bytes = std::uint8_t __attribute__((vector_size(16)));
using eight_shorts = std::uint16_t __attribute__((vector_size(16)));
using two_longs = std::uint64_t __attribute__((vector_size(16)));
using four_words = std::uint32_t __attribute__((vector_size(16)));

template<class V>
inline V load_vector(const void* p) noexcept {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
/// Eight bytes, and eight that are not used.
inline sixteen_bytes load_half(const void* p) noexcept {
  std::uint64_t eight = 0;  // by way of a number: a vector that is written in part goes through memory
  std::memcpy(&eight, p, sizeof eight);
  return reinterpret_cast<sixteen_bytes>(two_longs{eight, 0});
}
template<class V>
inline void store_vector(std::byte* p, const V& v) noexcept {
  std::memcpy(p, &v, sizeof v);
}
/// a0 b0 a1 b1 ... of the first eight bytes.
inline sixteen_bytes interleave(sixteen_bytes a, sixteen_bytes b) noexcept {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
/// The first (half = 0) or the last eight bytes as int16, less the shift.
template<int Half>
inline eight_shorts widened(sixteen_bytes v, std::uint16_t shift) noexcept {
  const sixteen_bytes zero{};
  constexpr int h = 8 * Half;
  const auto wide = reinterpret_cast<eight_shorts>(__builtin_shufflevector(
      v, zero, h, 16, h + 1, 16, h + 2, 16, h + 3, 16, h + 4, 16, h + 5, 16, h + 6, 16, h + 7, 16));
  return wide - shift;
}

/// Four columns whose places lie side by side: 16 places of bytes, or 8 of int16. Word i of column c goes to
/// out + i * word_stride + 4 c.
template<bool Pairs>
inline void pack_columns(const std::uint8_t* codes, std::ptrdiff_t column_stride, int shift, std::byte* out,
                         std::ptrdiff_t word_stride) noexcept {
  const auto column = [&](int c) {
    const std::uint8_t* p = codes + c * column_stride;
    if constexpr (Pairs) {
      return reinterpret_cast<four_words>(widened<0>(load_half(p), static_cast<std::uint16_t>(shift)));
    } else {
      return reinterpret_cast<four_words>(load_vector<sixteen_bytes>(p) - static_cast<std::uint8_t>(shift));
    }
  };
  const four_words a = column(0);
  const four_words b = column(1);
  const four_words c = column(2);
  const four_words d = column(3);
  const four_words ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const four_words ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const four_words cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const four_words cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store_vector(out, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store_vector(out + word_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store_vector(out + 2 * word_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store_vector(out + 3 * word_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/// Eight columns that lie side by side: 4 places of bytes, or 2 of int16. The word of column c goes to out +
/// 4 c.
template<bool Pairs>
inline void pack_places(const std::uint8_t* codes, std::ptrdiff_t place_stride, int shift,
                        std::byte* out) noexcept {
  const sixteen_bytes first = interleave(load_half(codes), load_half(codes + place_stride));
  if constexpr (Pairs) {
    store_vector(out, widened<0>(first, static_cast<std::uint16_t>(shift)));
    store_vector(out + 16, widened<1>(first, static_cast<std::uint16_t>(shift)));
  } else {
    const sixteen_bytes last =
        interleave(load_half(codes + 2 * place_stride), load_half(codes + 3 * place_stride));
    const auto a = reinterpret_cast<eight_shorts>(first - static_cast<std::uint8_t>(shift));
    const auto b = reinterpret_cast<eight_shorts>(last - static_cast<std::uint8_t>(shift));
    store_vector(out, __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
    store_vector(out + 16, __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15));
  }
}

}  // namespace repquant::detail
