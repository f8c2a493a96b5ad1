// SPDX-License-Identifier: MIT
/// The instruction sets that integer products are written for, and which of them a build may use.
#pragma once

#include <repquant/core/lane.hpp>

#include <cstdint>
#include <type_traits>

namespace repquant {

/// An instruction set of integer products. The numbers are part of packed weights: never reused.
enum class instruction_set : std::uint8_t {
  scalar = 0,        ///< plain C++; the definition
  sse2 = 1,          ///< every x86-64: int16 pairs
  sse4 = 2,          ///< SSSE3 and SSE4.1
  avx2 = 3,          ///< AVX2
  avx_vnni = 4,      ///< AVX2 with AVX-VNNI
  avx512 = 5,        ///< AVX-512 F, BW, VL
  avx512_vnni = 6,   ///< AVX-512 F, BW, VL, VNNI
  neon = 7,          ///< every AArch64
  neon_dotprod = 8,  ///< AArch64 with dot products of bytes
  neon_i8mm = 9,     ///< AArch64 with mixed-sign dot products
};

/// Its name.
constexpr const char* name_of(instruction_set s) noexcept {
  constexpr const char* names[] = {"scalar", "sse2",        "sse4", "avx2",         "avx_vnni",
                                   "avx512", "avx512_vnni", "neon", "neon_dotprod", "neon_i8mm"};
  return static_cast<std::size_t>(s) < std::size(names) ? names[static_cast<std::size_t>(s)] : "unknown";
}

namespace detail {

#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
template<class Arch, class Base>
inline constexpr bool arch_has = std::is_base_of_v<Base, Arch>;

template<class Arch>
constexpr instruction_set widest_of() noexcept {
  using enum instruction_set;
  if constexpr (REPQUANT_X86_64 == 1) {
    if constexpr (arch_has<Arch, xsimd::avx512bw>) {
      return compiled_for::avx512_vnni ? avx512_vnni : compiled_for::avx512 ? avx512 : avx2;
    } else if constexpr (arch_has<Arch, xsimd::avx2> || arch_has<Arch, xsimd::avx512f>) {
      return compiled_for::avx_vnni ? avx_vnni : avx2;
    } else if constexpr (arch_has<Arch, xsimd::sse2> || arch_has<Arch, xsimd::avx>) {
      return compiled_for::sse4 ? sse4 : sse2;
    }
  } else if constexpr (REPQUANT_AARCH64 == 1) {
    if constexpr (arch_has<Arch, xsimd::neon64>) {
      return compiled_for::neon_i8mm ? neon_i8mm : compiled_for::neon_dotprod ? neon_dotprod : neon;
    }
  }
  return scalar;
}
#endif

}  // namespace detail

/// The widest instruction set of integer products that an architecture and the compiler's flags allow.
template<class Arch>
inline constexpr instruction_set instruction_set_of = [] {
#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  if constexpr (!std::is_same_v<Arch, scalar_arch>) return detail::widest_of<Arch>();
#endif
  return instruction_set::scalar;
}();

}  // namespace repquant
