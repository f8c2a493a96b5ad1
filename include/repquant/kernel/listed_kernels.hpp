// SPDX-License-Identifier: MIT
/// The kernels for rows of which only some places are listed (listed_row.inc): of instruction sets that sum
/// products of bytes in int16.
#pragma once

#include <repquant/kernel/gemm_avx2.hpp>
#include <repquant/kernel/gemm_avx512.hpp>
#include <repquant/kernel/gemm_sse4.hpp>

namespace repquant::detail {

/// `type` are the kernels of an instruction set; none where it sums bytes in int32, or multiplies int16 only.
template<instruction_set Set>
struct listed_kernels_of {};
#if REPQUANT_X86_64
template<>
struct listed_kernels_of<instruction_set::sse4> {
  using type = gemm_sse4::listed_kernels;
};
template<>
struct listed_kernels_of<instruction_set::avx2> {
  using type = gemm_avx2::listed_kernels;
};
template<>
struct listed_kernels_of<instruction_set::avx512> {
  using type = gemm_avx512::listed_kernels;
};
#endif

/// True where there are such kernels.
template<instruction_set Set>
concept ListsRows = requires {
  typename listed_kernels_of<Set>::type;
};

}  // namespace repquant::detail
