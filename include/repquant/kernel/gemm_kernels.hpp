// SPDX-License-Identifier: MIT
/// The product kernels of each instruction set that can be compiled here, by its name.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_avx2.hpp>
#include <repquant/kernel/gemm_avx512.hpp>
#include <repquant/kernel/gemm_avx512_vnni.hpp>
#include <repquant/kernel/gemm_avx_vnni.hpp>
#include <repquant/kernel/gemm_neon.hpp>
#include <repquant/kernel/gemm_neon_dotprod.hpp>
#include <repquant/kernel/gemm_neon_i8mm.hpp>
#include <repquant/kernel/gemm_scalar.hpp>
#include <repquant/kernel/gemm_sse2.hpp>
#include <repquant/kernel/gemm_sse4.hpp>

namespace repquant::detail {

template<instruction_set Set>
struct kernels_of;
template<>
struct kernels_of<instruction_set::scalar> {
  using type = gemm_scalar::kernels;
};
#if REPQUANT_X86_64
template<>
struct kernels_of<instruction_set::sse2> {
  using type = gemm_sse2::kernels;
};
template<>
struct kernels_of<instruction_set::sse4> {
  using type = gemm_sse4::kernels;
};
template<>
struct kernels_of<instruction_set::avx2> {
  using type = gemm_avx2::kernels;
};
template<>
struct kernels_of<instruction_set::avx_vnni> {
  using type = gemm_avx_vnni::kernels;
};
template<>
struct kernels_of<instruction_set::avx512> {
  using type = gemm_avx512::kernels;
};
template<>
struct kernels_of<instruction_set::avx512_vnni> {
  using type = gemm_avx512_vnni::kernels;
};
#endif
#if REPQUANT_AARCH64
template<>
struct kernels_of<instruction_set::neon> {
  using type = gemm_neon::kernels;
};
#endif
#if REPQUANT_NEON_DOTPROD
template<>
struct kernels_of<instruction_set::neon_dotprod> {
  using type = gemm_neon_dotprod::kernels;
};
#endif
#if REPQUANT_NEON_I8MM
template<>
struct kernels_of<instruction_set::neon_i8mm> {
  using type = gemm_neon_i8mm::kernels;
};
#endif

}  // namespace repquant::detail
