// SPDX-License-Identifier: MIT
/// The steps of pack and unpack in registers, for each family of instructions; kernel/pack.hpp states
/// what they mean and does what they leave. Nothing here is for callers.
///
/// Length: three families of instructions that do the same thing, side by side to be compared.
#pragma once

#include <repquant/kernel/narrow.hpp>

namespace repquant::detail {

// Each of these does whole registers and returns how many codes it did; the caller does the rest.
// A 2-bit code c[i] of a group of four, in a lane of 32 bits: c0 | c1 << 8 | c2 << 16 | c3 << 24
//   v | v >> 6            c0 | c1 << 2 in bits 0-3, c2 | c3 << 2 in bits 16-19
//   v | v >> 12           all four in bits 0-7
#if XSIMD_WITH_AVX2
template<int Bits, class Arch>
inline std::size_t pack_avx2(const std::uint8_t* codes, std::size_t n, std::uint8_t* bytes) noexcept {
  std::size_t i = 0;
  const auto load = [&](std::size_t at) {
    return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + at)),
                            _mm256_set1_epi8((1 << Bits) - 1));
  };
  if constexpr (Bits == 4) {
    const auto pairs = [&](std::size_t at) {
      const __m256i v = load(at);
      return _mm256_and_si256(_mm256_or_si256(v, _mm256_srli_epi16(v, 4)), _mm256_set1_epi16(0x00FF));
    };
    for (; i + 64 <= n; i += 64) {
      const __m256i both = _mm256_packus_epi16(pairs(i), pairs(i + 32));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + i / 2), _mm256_permute4x64_epi64(both, 0xD8));
    }
  } else {
    const auto fours = [&](std::size_t at) {
      const __m256i v = load(at);
      const __m256i twos =
          _mm256_and_si256(_mm256_or_si256(v, _mm256_srli_epi32(v, 6)), _mm256_set1_epi32(0x000F000F));
      return _mm256_and_si256(_mm256_or_si256(twos, _mm256_srli_epi32(twos, 12)), _mm256_set1_epi32(0xFF));
    };
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (; i + 128 <= n; i += 128) {
      const __m256i low = _mm256_packs_epi32(fours(i), fours(i + 32));
      const __m256i high = _mm256_packs_epi32(fours(i + 64), fours(i + 96));
      const __m256i all = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + i / 4), all);
    }
  }
  return i;
}
/// The bytes of a and b in turn: a0 b0 a1 b1 ... a31 b31.
template<class Arch>
inline void store_in_turn_avx2(std::uint8_t* out, __m256i a, __m256i b) noexcept {
  const __m256i low = _mm256_unpacklo_epi8(a, b);
  const __m256i high = _mm256_unpackhi_epi8(a, b);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32), _mm256_permute2x128_si256(low, high, 0x31));
}
template<int Bits, class Arch>
inline std::size_t unpack_avx2(const std::uint8_t* bytes, std::size_t n, std::uint8_t* codes) noexcept {
  std::size_t i = 0;
  const __m256i nibble = _mm256_set1_epi8(0x0F);
  if constexpr (Bits == 4) {
    for (; i + 64 <= n; i += 64) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + i / 2));
      store_in_turn_avx2<Arch>(codes + i, _mm256_and_si256(v, nibble),
                               _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
    }
  } else {
    const __m256i code = _mm256_set1_epi8(0x03);
    const auto split = [&](std::uint8_t* out, __m128i half) {
      const __m128i even = _mm_and_si128(half, _mm256_castsi256_si128(nibble));
      const __m128i odd = _mm_and_si128(_mm_srli_epi16(half, 4), _mm256_castsi256_si128(nibble));
      const __m256i pairs =
          _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));  // two codes a byte
      store_in_turn_avx2<Arch>(out, _mm256_and_si256(pairs, code),
                               _mm256_srli_epi16(_mm256_andnot_si256(code, pairs), 2));
    };
    for (; i + 64 <= n; i += 64)
      split(codes + i, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i / 4)));
  }
  return i;
}
#endif

#if XSIMD_WITH_SSE2
template<int Bits, class Arch>
inline std::size_t pack_sse2(const std::uint8_t* codes, std::size_t n, std::uint8_t* bytes) noexcept {
  std::size_t i = 0;
  const auto load = [&](std::size_t at) {
    return _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + at)),
                         _mm_set1_epi8((1 << Bits) - 1));
  };
  if constexpr (Bits == 4) {
    const auto pairs = [&](std::size_t at) {
      const __m128i v = load(at);
      return _mm_and_si128(_mm_or_si128(v, _mm_srli_epi16(v, 4)), _mm_set1_epi16(0x00FF));
    };
    for (; i + 32 <= n; i += 32) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i / 2), _mm_packus_epi16(pairs(i), pairs(i + 16)));
    }
  } else {
    const auto fours = [&](std::size_t at) {
      const __m128i v = load(at);
      const __m128i twos = _mm_and_si128(_mm_or_si128(v, _mm_srli_epi32(v, 6)), _mm_set1_epi32(0x000F000F));
      return _mm_and_si128(_mm_or_si128(twos, _mm_srli_epi32(twos, 12)), _mm_set1_epi32(0xFF));
    };
    for (; i + 64 <= n; i += 64) {
      const __m128i low = _mm_packs_epi32(fours(i), fours(i + 16));
      const __m128i high = _mm_packs_epi32(fours(i + 32), fours(i + 48));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i / 4), _mm_packus_epi16(low, high));
    }
  }
  return i;
}
/// The bytes of a and b in turn: a0 b0 a1 b1 ... a15 b15.
template<class Arch>
inline void store_in_turn_sse2(std::uint8_t* out, __m128i a, __m128i b) noexcept {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi8(a, b));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm_unpackhi_epi8(a, b));
}
template<int Bits, class Arch>
inline std::size_t unpack_sse2(const std::uint8_t* bytes, std::size_t n, std::uint8_t* codes) noexcept {
  constexpr std::size_t per_byte = 8 / Bits;
  std::size_t i = 0;
  const __m128i nibble = _mm_set1_epi8(0x0F);
  const __m128i code = _mm_set1_epi8(0x03);
  const auto split = [&](std::uint8_t* out, __m128i pairs) {  // two codes of 2 bits a byte
    store_in_turn_sse2<Arch>(out, _mm_and_si128(pairs, code),
                             _mm_srli_epi16(_mm_andnot_si128(code, pairs), 2));
  };
  for (; i + 16 * per_byte <= n; i += 16 * per_byte) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i / per_byte));
    const __m128i even = _mm_and_si128(v, nibble);
    const __m128i odd = _mm_and_si128(_mm_srli_epi16(v, 4), nibble);
    if constexpr (Bits == 4) {
      store_in_turn_sse2<Arch>(codes + i, even, odd);
    } else {
      split(codes + i, _mm_unpacklo_epi8(even, odd));
      split(codes + i + 32, _mm_unpackhi_epi8(even, odd));
    }
  }
  return i;
}
#endif

#if XSIMD_WITH_NEON64
template<int Bits, class Arch>
inline std::size_t pack_neon(const std::uint8_t* codes, std::size_t n, std::uint8_t* bytes) noexcept {
  constexpr std::size_t per_byte = 8 / Bits;
  std::size_t i = 0;
  const uint8x16_t kept = vdupq_n_u8((1 << Bits) - 1);
  for (; i + 16 * per_byte <= n; i += 16 * per_byte) {
    uint8x16_t packed;
    if constexpr (Bits == 4) {
      const uint8x16x2_t v = vld2q_u8(codes + i);
      packed = vorrq_u8(vandq_u8(v.val[0], kept), vshlq_n_u8(v.val[1], 4));
    } else {
      const uint8x16x4_t v = vld4q_u8(codes + i);
      const uint8x16_t low = vorrq_u8(vandq_u8(v.val[0], kept), vshlq_n_u8(vandq_u8(v.val[1], kept), 2));
      const uint8x16_t high = vorrq_u8(vshlq_n_u8(vandq_u8(v.val[2], kept), 4), vshlq_n_u8(v.val[3], 6));
      packed = vorrq_u8(low, high);
    }
    vst1q_u8(bytes + i / per_byte, packed);
  }
  return i;
}
template<int Bits, class Arch>
inline std::size_t unpack_neon(const std::uint8_t* bytes, std::size_t n, std::uint8_t* codes) noexcept {
  constexpr std::size_t per_byte = 8 / Bits;
  std::size_t i = 0;
  const uint8x16_t kept = vdupq_n_u8((1 << Bits) - 1);
  for (; i + 16 * per_byte <= n; i += 16 * per_byte) {
    const uint8x16_t v = vld1q_u8(bytes + i / per_byte);
    if constexpr (Bits == 4) {
      const uint8x16x2_t split = {{vandq_u8(v, kept), vshrq_n_u8(v, 4)}};
      vst2q_u8(codes + i, split);
    } else {
      const uint8x16x4_t split = {{vandq_u8(v, kept), vandq_u8(vshrq_n_u8(v, 2), kept),
                                   vandq_u8(vshrq_n_u8(v, 4), kept), vshrq_n_u8(v, 6)}};
      vst4q_u8(codes + i, split);
    }
  }
  return i;
}
#endif

/// Packs whole registers of codes and returns how many codes it did.
template<int Bits, class Arch>
inline std::size_t pack_registers([[maybe_unused]] const std::uint8_t* codes, [[maybe_unused]] std::size_t n,
                                  [[maybe_unused]] std::uint8_t* bytes) noexcept {
#if XSIMD_WITH_AVX2
  if constexpr (has_avx2<Arch> || has_avx512<Arch>) return pack_avx2<Bits, Arch>(codes, n, bytes);
#endif
#if XSIMD_WITH_SSE2
  return pack_sse2<Bits, Arch>(codes, n, bytes);
#elif XSIMD_WITH_NEON64
  return pack_neon<Bits, Arch>(codes, n, bytes);
#else
  return 0;
#endif
}
/// Unpacks whole registers of codes and returns how many codes it did.
template<int Bits, class Arch>
inline std::size_t unpack_registers([[maybe_unused]] const std::uint8_t* bytes,
                                    [[maybe_unused]] std::size_t n,
                                    [[maybe_unused]] std::uint8_t* codes) noexcept {
#if XSIMD_WITH_AVX2
  if constexpr (has_avx2<Arch> || has_avx512<Arch>) return unpack_avx2<Bits, Arch>(bytes, n, codes);
#endif
#if XSIMD_WITH_SSE2
  return unpack_sse2<Bits, Arch>(bytes, n, codes);
#elif XSIMD_WITH_NEON64
  return unpack_neon<Bits, Arch>(bytes, n, codes);
#else
  return 0;
#endif
}

}  // namespace repquant::detail
