// SPDX-License-Identifier: MIT
/// Runs a test on every instruction set of integer products that this CPU has, whatever the compiler's flags.
#pragma once

#include <repquant/kernel/gemm.hpp>

#if REPQUANT_X86_64
#include <cpuid.h>
#elif REPQUANT_AARCH64
#include <sys/auxv.h>
#endif

namespace instruction_sets {

namespace rq = repquant;

/// True where this CPU can run the kernels of an instruction set.
inline bool runs_here(rq::instruction_set s) {
  using enum rq::instruction_set;
  if (s == scalar) return true;
#if REPQUANT_X86_64
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  const bool avx_vnni_bit = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 16U) != 0;
  const bool avx2_runs = __builtin_cpu_supports("avx2") != 0;
  const bool avx512_runs = __builtin_cpu_supports("avx512f") != 0 &&
                           __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  switch (s) {
    case sse2:
      return true;
    case sse4:
      return __builtin_cpu_supports("ssse3") != 0 && __builtin_cpu_supports("sse4.1") != 0;
    case avx2:
      return avx2_runs;
    case avx_vnni:
      return avx2_runs && avx_vnni_bit;
    case avx512:
      return avx512_runs;
    case avx512_vnni:
      return avx512_runs && __builtin_cpu_supports("avx512vnni") != 0;
    default:
      return false;
  }
#elif REPQUANT_AARCH64
  if (s == neon_dotprod) return (getauxval(AT_HWCAP) & (1UL << 20U)) != 0;
  if (s == neon_i8mm) return (getauxval(AT_HWCAP2) & (1UL << 13U)) != 0;
  return s == neon;
#else
  return false;
#endif
}

/// f.template operator()<Set>() for every instruction set that has kernels here and runs.
template<class F>
void for_each(F&& f) {
  using enum rq::instruction_set;
  f.template operator()<scalar>();
#if REPQUANT_X86_64
  f.template operator()<sse2>();
  if (runs_here(sse4)) f.template operator()<sse4>();
  if (runs_here(avx2)) f.template operator()<avx2>();
  if (runs_here(avx_vnni)) f.template operator()<avx_vnni>();
  if (runs_here(avx512)) f.template operator()<avx512>();
  if (runs_here(avx512_vnni)) f.template operator()<avx512_vnni>();
#endif
#if REPQUANT_AARCH64
  f.template operator()<neon>();
#endif
#if REPQUANT_NEON_DOTPROD
  if (runs_here(neon_dotprod)) f.template operator()<neon_dotprod>();
#endif
#if REPQUANT_NEON_I8MM
  if (runs_here(neon_i8mm)) f.template operator()<neon_i8mm>();
#endif
}

}  // namespace instruction_sets
