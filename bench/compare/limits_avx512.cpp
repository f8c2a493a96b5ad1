// SPDX-License-Identifier: MIT
/// Loops of AVX-512 F, BW, VL and VNNI, and compiled for them.
#include "register_loop.hpp"
#include <immintrin.h>

namespace compare {
namespace {

struct fma_f32 {
  using value = __m512;
  static constexpr double multiply_adds = 16;
  static value zero() { return _mm512_setzero_ps(); }
  static void add(value& sum, value a, value b) { sum = _mm512_fmadd_ps(a, b, sum); }
};
struct dot_product {
  using value = __m512i;
  static constexpr double multiply_adds = 64;
  static value zero() { return _mm512_setzero_si512(); }
  static void add(value& sum, value a, value b) { sum = _mm512_dpbusd_epi32(sum, a, b); }
};

const limit_loop all[] = {loop_of<fma_f32>("f32 fma, 512 bits"),
                          loop_of<dot_product>("int8 dpbusd, 512 bits")};

}  // namespace

limit_loops avx512_loops() { return {all, sizeof all / sizeof all[0]}; }

}  // namespace compare
