// SPDX-License-Identifier: MIT
// Compiled for AVX-VNNI.
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

}  // namespace

std::vector<limit_loop> avx_vnni_loops() { return {loop_of<dot_product>("int8 dpbusd, 256 bits")}; }

}  // namespace compare
