// SPDX-License-Identifier: MIT
/// Lane and CodeLane: a float or an int32, or a SIMD register of them, and the operations that both
/// have. Every formula of the library is written once over a Lane; its scalar instantiation is its
/// definition, and every register gives the same bits.
///
/// This file and shuffle.hpp are the only ones that know what a register is: a register type other than
/// xsimd's is added by specialising `lane_traits`, `code_lane_traits` and the functions of namespace `lane`.
///
/// Rules that make results equal on every build (docs/decisions/0004):
///  - `lane::mul` is pinned: a product never fuses with the addition that follows.
///  - `min`, `max` are `a < b ? a : b` and `a > b ? a : b`: with a NaN the second operand comes back.
///  - `round_to_int` is round half to even and wants |x| < 2^31; clamp first.
///  - a comparison gives all ones (-1) or 0 in an int32 lane; `select` takes such a mask.
///
/// Length: one operation per line for two kinds of lane; splitting would hide that they pair up.
#pragma once

#include <repquant/core/config.hpp>

#include <xsimd/xsimd.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace repquant {

/// The architecture whose lanes are plain floats. Always there; the definition of every kernel.
struct scalar_arch {};

#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
/// The widest architecture that the compiler's flags allow.
using default_arch = scalar_arch;
#else
/// The widest architecture that the compiler's flags allow.
using default_arch = xsimd::default_arch;
#endif

/// Says which int32 lane belongs to a float lane, how many values it has, and its architecture.
template<class T>
struct lane_traits;
template<>
struct lane_traits<float> {
  using ints = std::int32_t;
  using arch = scalar_arch;
  static constexpr int width = 1;
};
/// Says which float lane belongs to an int32 lane.
template<class T>
struct code_lane_traits;
template<>
struct code_lane_traits<std::int32_t> {
  using reals = float;
};

namespace detail {
template<class Arch>
struct lanes_of {
  using reals = float;
  using ints = std::int32_t;
};
}  // namespace detail

#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
template<class A>
struct lane_traits<xsimd::batch<float, A>> {
  using ints = xsimd::batch<std::int32_t, A>;
  using arch = A;
  static constexpr int width = static_cast<int>(xsimd::batch<float, A>::size);
};
template<class A>
struct code_lane_traits<xsimd::batch<std::int32_t, A>> {
  using reals = xsimd::batch<float, A>;
};
namespace detail {
template<class Arch>
requires(!std::same_as<Arch, scalar_arch>) struct lanes_of<Arch> {
  using reals = xsimd::batch<float, Arch>;
  using ints = xsimd::batch<std::int32_t, Arch>;
};
}  // namespace detail
#endif

/// A float, or a register of floats.
template<class T>
concept Lane = requires {
  typename lane_traits<T>::ints;
};
/// An int32, or a register of them.
template<class T>
concept CodeLane = requires {
  typename code_lane_traits<T>::reals;
};

/// The int32 lane beside float lane V.
template<Lane V>
using ints_of = typename lane_traits<V>::ints;
/// The float lane beside int32 lane I.
template<CodeLane I>
using reals_of = typename code_lane_traits<I>::reals;
/// The float lane of an architecture.
template<class Arch>
using lane_of = typename detail::lanes_of<Arch>::reals;
/// How many values a float lane holds.
template<Lane V>
inline constexpr int lane_width = lane_traits<V>::width;

/// Operations on lanes. Call them qualified: argument-dependent lookup would also find xsimd's.
namespace lane {

// -- one value ------------------------------------------------------------------------------------

template<Lane V>
requires std::same_as<V, float>
inline V load(const float* p) noexcept { return *p; }
template<CodeLane I>
requires std::same_as<I, std::int32_t>
inline I load(const std::int32_t* p) noexcept { return *p; }
inline void store(float* p, float v) noexcept { *p = v; }
inline void store(std::int32_t* p, std::int32_t v) noexcept { *p = v; }

inline float add(float a, float b) noexcept { return a + b; }
inline float sub(float a, float b) noexcept { return a - b; }
inline float mul(float a, float b) noexcept {
  float r = a * b;
  REPQUANT_PIN(r);
  return r;
}
inline float add_signed(float a, float b, float sign) noexcept { return a + b * sign; }
inline float div(float a, float b) noexcept { return a / b; }
inline float sqrt(float a) noexcept { return std::sqrt(a); }
inline float min(float a, float b) noexcept { return a < b ? a : b; }
inline float max(float a, float b) noexcept { return a > b ? a : b; }
inline std::int32_t bits(float a) noexcept { return std::bit_cast<std::int32_t>(a); }
inline float from_bits(std::int32_t a) noexcept { return std::bit_cast<float>(a); }
inline std::int32_t round_to_int(float a) noexcept { return static_cast<std::int32_t>(std::nearbyint(a)); }
inline float real(std::int32_t a) noexcept { return static_cast<float>(a); }
inline std::int32_t greater(float a, float b) noexcept { return a > b ? -1 : 0; }
inline std::int32_t greater(std::int32_t a, std::int32_t b) noexcept { return a > b ? -1 : 0; }
inline std::int32_t equal(float a, float b) noexcept { return a == b ? -1 : 0; }
inline std::int32_t equal(std::int32_t a, std::int32_t b) noexcept { return a == b ? -1 : 0; }
inline float select(std::int32_t mask, float a, float b) noexcept { return mask != 0 ? a : b; }
inline std::int32_t select(std::int32_t mask, std::int32_t a, std::int32_t b) noexcept {
  return mask != 0 ? a : b;
}
inline float first(float a) noexcept { return a; }
inline float where_greater(float a, float b, float x, float y) noexcept { return a > b ? x : y; }
inline float where_equal(float a, float b, float x, float y) noexcept { return a == b ? x : y; }
inline std::int32_t min(std::int32_t a, std::int32_t b) noexcept { return a < b ? a : b; }
inline std::int32_t max(std::int32_t a, std::int32_t b) noexcept { return a > b ? a : b; }
/// The entry of a table that the lowest three bits of a number name.
inline std::int32_t look_up(const std::array<std::int32_t, 8>& table, std::int32_t number) noexcept {
  return table[static_cast<std::size_t>(number & 7)];
}

// -- a register of them ---------------------------------------------------------------------------

#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
template<Lane V>
requires(!std::same_as<V, float>) inline V load(const float* p) noexcept { return V::load_unaligned(p); }
template<CodeLane I>
requires(!std::same_as<I, std::int32_t>) inline I load(const std::int32_t* p) noexcept {
  return I::load_unaligned(p);
}
template<class T, class A>
inline void store(T* p, const xsimd::batch<T, A>& v) noexcept {
  v.store_unaligned(p);
}
template<class A>
inline xsimd::batch<float, A> add(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) noexcept {
  return a + b;
}
template<class A>
inline xsimd::batch<float, A> sub(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) noexcept {
  return a - b;
}
template<class A>
inline xsimd::batch<float, A> mul(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) noexcept {
  xsimd::batch<float, A> r = a * b;
  REPQUANT_PIN(r.data);
  return r;
}
/// a + b where sign is 1, a - b where it is -1: b times either is exact, so that it may be fused.
template<class A>
inline xsimd::batch<float, A> add_signed(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b,
                                         const xsimd::batch<float, A>& sign) noexcept {
  return xsimd::fma(b, sign, a);
}
template<class A>
inline xsimd::batch<float, A> div(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) noexcept {
#if XSIMD_WITH_NEON64
  return xsimd::batch<float, A>(vdivq_f32(a.data, b.data));  // xsimd 8 refines an estimate: not rounded right
#else
  return a / b;
#endif
}
template<class A>
inline xsimd::batch<float, A> sqrt(const xsimd::batch<float, A>& a) noexcept {
#if XSIMD_WITH_NEON64
  return xsimd::batch<float, A>(vsqrtq_f32(a.data));  // as div
#else
  return xsimd::sqrt(a);
#endif
}
template<class A>
inline xsimd::batch<std::int32_t, A> bits(const xsimd::batch<float, A>& a) noexcept {
  if constexpr (XSIMD_VERSION_MAJOR < 11) {  // from 11 on it is given the element, not the register
    return xsimd::bitwise_cast<xsimd::batch<std::int32_t, A>>(a);
  } else {
    return xsimd::bitwise_cast<std::int32_t>(a);
  }
}
template<class A>
inline xsimd::batch<float, A> from_bits(const xsimd::batch<std::int32_t, A>& a) noexcept {
  if constexpr (XSIMD_VERSION_MAJOR < 11) {  // from 11 on it is given the element, not the register
    return xsimd::bitwise_cast<xsimd::batch<float, A>>(a);
  } else {
    return xsimd::bitwise_cast<float>(a);
  }
}
template<class A>
inline xsimd::batch<std::int32_t, A> round_to_int(const xsimd::batch<float, A>& a) noexcept {
#if XSIMD_WITH_NEON64
  return xsimd::batch<std::int32_t, A>(vcvtnq_s32_f32(a.data));  // xsimd 8's for NEON is wrong at 2^22 + 1/2
#else
  return xsimd::nearbyint_as_int(a);
#endif
}
template<class A>
inline xsimd::batch<float, A> real(const xsimd::batch<std::int32_t, A>& a) noexcept {
  return xsimd::to_float(a);
}
namespace detail {
/// True where the result of a comparison is a register like its operands, all ones or all zeros, and not a
/// word of bits.
template<class T, class A>
inline constexpr bool truth_is_register =
    std::same_as<decltype(xsimd::batch_bool<T, A>::data), decltype(xsimd::batch<T, A>::data)>;
/// A comparison as an int32 lane.
template<class T, class A>
inline xsimd::batch<std::int32_t, A> as_ints(const xsimd::batch_bool<T, A>& truth) noexcept {
  using ints = xsimd::batch<std::int32_t, A>;
  if constexpr (!truth_is_register<T, A>) {
    return xsimd::select(xsimd::batch_bool<std::int32_t, A>(truth.data), ints(-1), ints(0));
  } else if constexpr (std::same_as<T, float>) {
    return bits(xsimd::batch<float, A>(truth.data));
  } else {
    return ints(truth.data);
  }
}
}  // namespace detail
template<class A>
inline xsimd::batch<std::int32_t, A> greater(const xsimd::batch<float, A>& a,
                                             const xsimd::batch<float, A>& b) noexcept {
  return detail::as_ints(a > b);
}
template<class A>
inline xsimd::batch<std::int32_t, A> equal(const xsimd::batch<float, A>& a,
                                           const xsimd::batch<float, A>& b) noexcept {
  return detail::as_ints(a == b);
}
template<class A>
inline xsimd::batch<std::int32_t, A> greater(const xsimd::batch<std::int32_t, A>& a,
                                             const xsimd::batch<std::int32_t, A>& b) noexcept {
  return detail::as_ints(a > b);
}
template<class A>
inline xsimd::batch<std::int32_t, A> equal(const xsimd::batch<std::int32_t, A>& a,
                                           const xsimd::batch<std::int32_t, A>& b) noexcept {
  return detail::as_ints(a == b);
}
template<class A>
inline xsimd::batch<std::int32_t, A> select(const xsimd::batch<std::int32_t, A>& mask,
                                            const xsimd::batch<std::int32_t, A>& a,
                                            const xsimd::batch<std::int32_t, A>& b) noexcept {
  return (mask & a) | (~mask & b);
}
template<class A>
inline xsimd::batch<float, A> select(const xsimd::batch<std::int32_t, A>& mask,
                                     const xsimd::batch<float, A>& a,
                                     const xsimd::batch<float, A>& b) noexcept {
  return from_bits(select(mask, bits(a), bits(b)));
}
/// Place 0 of a register.
template<class A>
inline float first(const xsimd::batch<float, A>& v) noexcept {
  return v.data[0];
}
/// x where a > b, else y: the same as select(greater(a, b), x, y), without a register for the comparison.
template<class A>
inline xsimd::batch<float, A> where_greater(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b,
                                            const xsimd::batch<float, A>& x,
                                            const xsimd::batch<float, A>& y) noexcept {
  return xsimd::select(a > b, x, y);
}
/// x where a == b, else y.
template<class A>
inline xsimd::batch<float, A> where_equal(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b,
                                          const xsimd::batch<float, A>& x,
                                          const xsimd::batch<float, A>& y) noexcept {
  return xsimd::select(a == b, x, y);
}
template<class A>
inline xsimd::batch<float, A> min(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) noexcept {
  if constexpr (is_x86) {
    return xsimd::min(a, b);
  } else {
    return where_greater(b, a, a, b);
  }
}
template<class A>
inline xsimd::batch<float, A> max(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b) noexcept {
  if constexpr (is_x86) {
    return xsimd::max(a, b);
  } else {
    return where_greater(a, b, a, b);
  }
}
template<class A>
inline xsimd::batch<std::int32_t, A> min(const xsimd::batch<std::int32_t, A>& a,
                                         const xsimd::batch<std::int32_t, A>& b) noexcept {
  return xsimd::min(a, b);
}
template<class A>
inline xsimd::batch<std::int32_t, A> max(const xsimd::batch<std::int32_t, A>& a,
                                         const xsimd::batch<std::int32_t, A>& b) noexcept {
  return xsimd::max(a, b);
}
/// The entries of a table that the lowest three bits of each number name.
template<class A>
inline xsimd::batch<std::int32_t, A> look_up(const std::array<std::int32_t, 8>& table,
                                             const xsimd::batch<std::int32_t, A>& numbers) noexcept {
  using ints = xsimd::batch<std::int32_t, A>;
#if XSIMD_WITH_AVX512F
  if constexpr (std::is_base_of_v<xsimd::avx512f, A>) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table.data()));
    return ints(_mm512_permutexvar_epi32(numbers.data, _mm512_broadcast_i64x4(half)));  // of four bits: twice
  } else
#endif
#if XSIMD_WITH_AVX2
      if constexpr (std::is_base_of_v<xsimd::avx2, A>) {
    const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table.data()));
    return ints(_mm256_permutevar8x32_epi32(all, numbers.data));
  } else
#endif
#if XSIMD_WITH_NEON64
      if constexpr (std::is_base_of_v<xsimd::neon64, A>) {
    const uint8x16x2_t bytes = {
        {vreinterpretq_u8_s32(vld1q_s32(table.data())), vreinterpretq_u8_s32(vld1q_s32(table.data() + 4))}};
    const uint32x4_t place = vandq_u32(vreinterpretq_u32_s32(numbers.data), vdupq_n_u32(7));
    const uint32x4_t at = vmlaq_u32(vdupq_n_u32(0x03020100), place, vdupq_n_u32(0x04040404));
    return ints(vreinterpretq_s32_u8(vqtbl2q_u8(bytes, vreinterpretq_u8_u32(at))));
  } else
#endif
  {
    std::array<std::int32_t, ints::size> places;
    numbers.store_unaligned(places.data());
    for (std::int32_t& p : places) p = look_up(table, p);
    return ints::load_unaligned(places.data());
  }
}
#endif

// -- both -----------------------------------------------------------------------------------------

/// `lo` where v < lo, `hi` where v > hi, else v; a NaN gives `lo`.
template<class T>
requires(Lane<T> || CodeLane<T>) inline T clamp(const T& v, const T& lo, const T& hi) noexcept {
  return min(max(v, lo), hi);
}

/// v, or 0 where v is NaN.
template<Lane V>
inline V zero_if_nan(const V& v) noexcept {
  return where_equal(v, v, v, V(0.0F));
}

}  // namespace lane
}  // namespace repquant
