// SPDX-License-Identifier: MIT
/// Loops of AVX-VNNI, and compiled for it.
#include "register_loop.hpp"
#include <immintrin.h>

namespace compare {
namespace {

struct dot_product {
  using value = __m256i;
  static constexpr double multiply_adds = 32;
  static value zero() { return _mm256_setzero_si256(); }
  static void add(value& sum, value a, value b) { sum = _mm256_dpbusd_avx_epi32(sum, a, b); }
};

const limit_loop all[] = {loop_of<dot_product>("int8 dpbusd, 256 bits")};

}  // namespace

limit_loops avx_vnni_loops() { return {all, sizeof all / sizeof all[0]}; }

}  // namespace compare
