// SPDX-License-Identifier: MIT
/// The other libraries' contenders. Each is defined where its library is installed (peers_found.hpp says
/// which), so it is called in an `if constexpr` only. What a contender runs on must outlive it.
#pragma once

#include "peers_found.hpp"
#include "race.hpp"
#include "settings.hpp"
#include <cstdint>
#include <span>
#include <string_view>

namespace compare {

/// c[m x n] = a[m x k] w^T, w [n x k], all row-major.
struct float_product {
  extent size;
  const float* a;
  const float* w;
  float* c;
};
/// The same of u8 by s8 (a for those that read u8, a_signed = a - 128 for those that read s8).
struct code_product {
  extent size;
  const std::uint8_t* a;
  const std::int8_t* a_signed;
  const std::int8_t* w;
  const std::uint8_t* w_unsigned;  ///< w + 128
  std::int32_t* c;
  std::int8_t* c_codes;  ///< for those that requantize
};
/// Heads of attention in float: q, k, v, out [heads x tokens x width], scores and probabilities [heads x
/// tokens x tokens].
struct float_attention {
  index heads, tokens, width;
  const float *q, *k, *v;
  float *scores, *probabilities, *out;
};

contender eigen_gemm(const float_product& p, int threads);

contender openblas_gemm(const float_product& p, int threads);
/// The kernels that OpenBLAS chose.
std::string openblas_core();

contender onednn_gemm(const float_product& p);
contender onednn_gemm(const code_product& p);  ///< u8 x s8 to int32
contender onednn_values(const float_attention& a);
contender onednn_softmax(const float_attention& a);
contender onednn_attention(const float_attention& a);
contender onednn_encode(std::span<const float> x, index rows, std::span<std::uint8_t> out, float scale,
                        int zero);
/// The instruction set that oneDNN may use.
std::string onednn_isa();

/// Holds XNNPACK to sse4 or avx2, or to nothing ("native"); before its first contender.
void xnnpack_hold(std::string_view isa);
contender xnnpack_gemm(const code_product& p, int threads);  ///< s8 x s8 to s8, requantized by one scale
contender xnnpack_softmax(const float_attention& a, int threads);
contender xnnpack_encode(std::span<const float> x, index rows, std::span<std::uint8_t> out, float scale,
                         int zero, int threads);
contender xnnpack_decode(std::span<const std::uint8_t> q, index rows, std::span<float> out, float scale,
                         int zero, int threads);

contender gemmlowp_gemm(const code_product& p, int threads);  ///< u8 x u8 to int32

}  // namespace compare
