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

namespace repquant {

/// True on x86, where min and max return their second operand when one is NaN.
#if defined(__x86_64__) || defined(__i386__)
inline constexpr bool is_x86 = true;
#else
inline constexpr bool is_x86 = false;
#endif

}  // namespace repquant
