// SPDX-License-Identifier: MIT
/// Loops of AVX2 and FMA, and compiled for them.
#include "register_loop.hpp"
#include <immintrin.h>

namespace compare {
namespace {

struct fma_f32 {
  using value = __m256;
  static constexpr double multiply_adds = 8;
  static value zero() { return _mm256_setzero_ps(); }
  static void add(value& sum, value a, value b) { sum = _mm256_fmadd_ps(a, b, sum); }
};
struct on_integers {
  using value = __m256i;
  static value zero() { return _mm256_setzero_si256(); }
};
/// Two products per 16-bit lane before they are widened.
struct two_products : on_integers {
  static constexpr double multiply_adds = 32;
  static void add(value& sum, value a, value b) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), b));
  }
};
/// One product per 16-bit lane: operands of 16 bits.
struct one_product : on_integers {
  static constexpr double multiply_adds = 16;
  static void add(value& sum, value a, value b) { sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
};
struct four_products : on_integers {
  static constexpr double multiply_adds = 64;
  static void add(value& sum, value a, value b) {
    value c = b;
    asm volatile("" : "+x"(c));
    const value pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a, b), _mm256_maddubs_epi16(a, c));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, b));
  }
};
/// Never widened: what any number of products per 16-bit lane stays below.
struct many_products : on_integers {
  static constexpr double multiply_adds = 32;
  static void add(value& sum, value a, value b) { sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b)); }
};

const limit_loop all[] = {loop_of<fma_f32>("f32 fma, 256 bits"), loop_of<one_product>("int16 madd, 256 bits"),
                          loop_of<two_products>("int8 maddubs+madd, 256 bits"),
                          loop_of<four_products>("int8 2 maddubs+madd, 256 bits"),
                          loop_of<many_products>("int8 maddubs, 256 bits")};

}  // namespace

limit_loops avx2_loops() { return {all, sizeof all / sizeof all[0]}; }

}  // namespace compare
