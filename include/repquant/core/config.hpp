// SPDX-License-Identifier: MIT
/// What the compiler is and what it was told. The only file that looks at compiler macros and the
/// only one that defines any.
#pragma once

#if defined(__FAST_MATH__) && !defined(REPQUANT_ACCEPT_FAST_MATH)
#error \
    "repquant: -ffast-math removes NaN and infinity checks and reorders sums, so codes would differ between builds. Build without it."
#endif

#if !defined(__GNUC__)
#error "repquant: needs g++ 12 or later, or clang 14 or later."
#endif

/// 1 where exceptions are on: `result<T>::value()` then throws, otherwise it aborts.
#if defined(__cpp_exceptions)
#define REPQUANT_EXCEPTIONS 1
#else
#define REPQUANT_EXCEPTIONS 0
#endif

/// Checks a precondition in debug builds. Define it before the first include to replace it.
#if !defined(REPQUANT_ASSERT)
#if defined(NDEBUG)
#define REPQUANT_ASSERT(condition) static_cast<void>(0)
#else
#include <cassert>
#define REPQUANT_ASSERT(condition) assert(condition)
#endif
#endif

/// Makes the value of a register opaque to the optimizer at no cost, so that a product cannot be
/// contracted with the sum that follows into a fused multiply-add (docs/decisions/0004).
#if defined(__x86_64__) || defined(__i386__)
#define REPQUANT_PIN(value) asm("" : "+x"(value))
#elif defined(__aarch64__)
#define REPQUANT_PIN(value) asm("" : "+w"(value))
#else
#define REPQUANT_PIN(value) asm("" : "+m"(value))
#endif

/// 1 where the integer kernels of x86-64 or AArch64 can be compiled, whatever the flags.
#if defined(__x86_64__)
#define REPQUANT_X86_64 1
#else
#define REPQUANT_X86_64 0
#endif
#if defined(__aarch64__)
#define REPQUANT_AARCH64 1
#else
#define REPQUANT_AARCH64 0
#endif

/// 1 where the compiler offers dot products of bytes on AArch64: clang hides them without the flag.
#if defined(__aarch64__) && (!defined(__clang__) || defined(__ARM_FEATURE_DOTPROD))
#define REPQUANT_NEON_DOTPROD 1
#else
#define REPQUANT_NEON_DOTPROD 0
#endif
#if defined(__aarch64__) && (!defined(__clang__) || defined(__ARM_FEATURE_MATMUL_INT8))
#define REPQUANT_NEON_I8MM 1
#else
#define REPQUANT_NEON_I8MM 0
#endif

/// Functions between the two, templates and lambdas included, may use the named instruction sets without any
/// flag, and only they: REPQUANT_TARGET_BEGIN("avx2") ... REPQUANT_TARGET_END. Nothing is included between
/// them that may be included elsewhere too. A caller of these functions has made sure that the CPU has the
/// instructions.
#define REPQUANT_AS_TEXT(x) #x
#if defined(__clang__)
#define REPQUANT_TARGET_BEGIN(features) \
  _Pragma(REPQUANT_AS_TEXT(clang attribute push(__attribute__((target(features))), apply_to = function)))
#define REPQUANT_TARGET_END _Pragma("clang attribute pop")
#else
#define REPQUANT_TARGET_BEGIN(features) \
  _Pragma("GCC push_options") _Pragma(REPQUANT_AS_TEXT(GCC target(features)))
#define REPQUANT_TARGET_END _Pragma("GCC pop_options")
#endif

/// For what a kernel's inner loop is made of (a lambda takes it behind its parameter list): sums stay in
/// registers only where all of it is inlined.
#define REPQUANT_ALWAYS_INLINE __attribute__((always_inline))

namespace repquant {

/// True where the compiler re-associates sums of integer registers: it makes all products before the first
/// sum, runs out of registers and keeps the sums in memory. There the addition is written as an instruction.
#if defined(__clang__)
inline constexpr bool reassociates_registers = false;
#else
inline constexpr bool reassociates_registers = true;
#endif

/// True on x86, where min and max return their second operand when one is NaN.
#if defined(__x86_64__) || defined(__i386__)
inline constexpr bool is_x86 = true;
#else
inline constexpr bool is_x86 = false;
#endif

/// The instruction sets of integer products that the compiler's flags allow.
struct compiled_for {
#if defined(__SSSE3__) && defined(__SSE4_1__)
  static constexpr bool sse4 = true;
#else
  static constexpr bool sse4 = false;
#endif
#if defined(__AVX2__)
  static constexpr bool avx2 = true;
#else
  static constexpr bool avx2 = false;
#endif
#if defined(__AVXVNNI__)
  static constexpr bool avx_vnni = true;
#else
  static constexpr bool avx_vnni = false;
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  static constexpr bool avx512 = true;
#else
  static constexpr bool avx512 = false;
#endif
#if defined(__AVX512VNNI__)
  static constexpr bool avx512_vnni = avx512;
#else
  static constexpr bool avx512_vnni = false;
#endif
#if defined(__ARM_FEATURE_DOTPROD)
  static constexpr bool neon_dotprod = true;
#else
  static constexpr bool neon_dotprod = false;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
  static constexpr bool neon_i8mm = true;
#else
  static constexpr bool neon_i8mm = false;
#endif
};

}  // namespace repquant
