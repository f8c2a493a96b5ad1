// SPDX-License-Identifier: MIT
/// Between int32 lanes and bytes: what encode and decode do at the edge of a register.
///
/// These functions are written with intrinsics where that pays; the loop at the end of each is their meaning
/// and serves every other architecture.
#pragma once

#include <repquant/kernel/words.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace repquant {

namespace detail {

template<CodeLane I>
using arch_of = typename lane_traits<reals_of<I>>::arch;

}  // namespace detail

/// out[i] = byte(a[i]) for every value of the register.
///
/// Requires  0 <= a[i] <= 255; `out` has room for lane_width bytes
template<CodeLane I>
inline void narrow(const I& a, std::uint8_t* out) noexcept {
  using Arch = detail::arch_of<I>;
  constexpr int width = lane_width<reals_of<I>>;
#if XSIMD_WITH_AVX512F
  if constexpr (detail::has_avx512<Arch>) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(a.data));
    return;
  } else
#endif
#if XSIMD_WITH_AVX2
      if constexpr (detail::has_avx2<Arch>) {
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(a.data), _mm256_extracti128_si256(a.data, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(words, words));
    return;
  } else
#endif
#if XSIMD_WITH_SSE2
      if constexpr (detail::has_sse2<Arch>) {
    const __m128i words = _mm_packs_epi32(a.data, a.data);
    const int four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    std::memcpy(out, &four, sizeof four);
    return;
  } else
#endif
#if XSIMD_WITH_NEON64
      if constexpr (detail::has_neon64<Arch>) {
    const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(a.data));
    const uint32x2_t four = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words)));
    const std::uint32_t bytes = vget_lane_u32(four, 0);
    std::memcpy(out, &bytes, sizeof bytes);
    return;
  } else
#endif
  {
    std::array<std::int32_t, static_cast<std::size_t>(width)> values{};
    lane::store(values.data(), a);
    for (int i = 0; i < width; ++i) {
      out[i] = static_cast<std::uint8_t>(values[static_cast<std::size_t>(i)]);
    }
  }
}

/// Four registers in a row, each value held to 0 .. last: narrow(clamp(a, 0, last), out), that of b to out +
/// width, ... in one store.
///
/// Requires  0 <= last <= 255; `out` has room for 4 lane_width bytes
template<CodeLane I>
inline void narrow(const I& a, const I& b, const I& c, const I& d, std::uint8_t* out,
                   int last = 255) noexcept {
  using Arch = detail::arch_of<I>;
  if constexpr (detail::HasWords<Arch>) {
    using W = detail::words_of<Arch>;
    const auto bytes = W::bytes(W::pack(a.data, b.data), W::pack(c.data, d.data));
    W::store(out, W::at_most(bytes, static_cast<std::uint8_t>(last)));
  } else {
    constexpr int width = lane_width<reals_of<I>>;
    const auto held = [last](const I& v) { return I(lane::clamp(v, I(0), I(last))); };
    narrow(held(a), out);
    narrow(held(b), out + width);
    narrow(held(c), out + 2 * width);
    narrow(held(d), out + 3 * width);
  }
}

/// A register of the lane_width bytes at `codes`, each as an int32.
template<CodeLane I>
inline I widen(const std::uint8_t* codes) noexcept {
  using Arch = detail::arch_of<I>;
#if XSIMD_WITH_AVX512F
  if constexpr (detail::has_avx512<Arch>) {
    return I(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes))));
  } else
#endif
#if XSIMD_WITH_AVX2
      if constexpr (detail::has_avx2<Arch>) {
    return I(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes))));
  } else
#endif
#if XSIMD_WITH_SSE2
      if constexpr (detail::has_sse2<Arch>) {
    int four = 0;
    std::memcpy(&four, codes, sizeof four);
    const __m128i zero = _mm_setzero_si128();
    return I(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero), zero));
  } else
#endif
#if XSIMD_WITH_NEON64
      if constexpr (detail::has_neon64<Arch>) {
    std::uint32_t four = 0;
    std::memcpy(&four, codes, sizeof four);
    const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(four));
    return I(vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))));
  } else
#endif
  {
    constexpr int width = lane_width<reals_of<I>>;
    std::array<std::int32_t, static_cast<std::size_t>(width)> values{};
    for (int i = 0; i < width; ++i) values[static_cast<std::size_t>(i)] = codes[i];
    return lane::load<I>(values.data());
  }
}

}  // namespace repquant
