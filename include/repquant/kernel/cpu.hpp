// SPDX-License-Identifier: MIT
/// Which instruction sets this CPU runs, asked at run time and whatever the compiler's flags; which one is
/// chosen; and from that choice to a constant that templates take.
///
///   rq::with_instruction_set(rq::chosen_instruction_set(), [&]<rq::instruction_set Set>() {
///     rq::gemm<Set>(weights, x, rows, stride, 0, panels, scratch, epilogue);
///   });
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/kernel/instruction_set.hpp>

#include <atomic>

#if REPQUANT_X86_64
#include <cpuid.h>
#elif REPQUANT_AARCH64
#include <sys/auxv.h>
#endif

namespace repquant {

/// Every instruction set, each behind those that it is wider than.
inline constexpr instruction_set all_instruction_sets[] = {
    instruction_set::scalar,      instruction_set::sse2,     instruction_set::sse4,
    instruction_set::avx2,        instruction_set::avx_vnni, instruction_set::avx512,
    instruction_set::avx512_vnni, instruction_set::neon,     instruction_set::neon_dotprod,
    instruction_set::neon_i8mm,
};

/// True where this build has kernels of an instruction set.
constexpr bool has_kernels(instruction_set s) noexcept {
  using enum instruction_set;
  if (s == scalar) return true;
  if (s == neon) return REPQUANT_AARCH64 == 1;
  if (s == neon_dotprod) return REPQUANT_NEON_DOTPROD == 1;
  if (s == neon_i8mm) return REPQUANT_NEON_I8MM == 1;
  return REPQUANT_X86_64 == 1;
}

/// True where this build has kernels of an instruction set, and this CPU and its system run them.
///
/// Cost  a few instructions; on x86-64 cpuid, which is slow under a hypervisor: ask once, not per row
inline bool runs_here(instruction_set s) noexcept {
  using enum instruction_set;
  if (!has_kernels(s)) return false;
#if REPQUANT_X86_64
  __builtin_cpu_init();
  const auto avx_vnni_bit = [] {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 16U) != 0;
  };
  const auto avx512_runs = [] {  // what every CPU with BW has
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0;
  };
  switch (s) {
    case sse4:
      return __builtin_cpu_supports("ssse3") != 0 && __builtin_cpu_supports("sse4.1") != 0;
    case avx2:
      return __builtin_cpu_supports("avx2") != 0;
    case avx_vnni:
      return __builtin_cpu_supports("avx2") != 0 && avx_vnni_bit();
    case avx512:
      return avx512_runs();
    case avx512_vnni:
      return avx512_runs() && __builtin_cpu_supports("avx512vnni") != 0;
    default:
      return true;
  }
#elif REPQUANT_AARCH64
  if (s == neon_dotprod) return (getauxval(AT_HWCAP) & (1UL << 20U)) != 0;
  if (s == neon_i8mm) return (getauxval(AT_HWCAP2) & (1UL << 13U)) != 0;
  return true;
#else
  return true;
#endif
}

/// The widest instruction set that runs here.
inline instruction_set detected_instruction_set() noexcept {
  instruction_set widest = instruction_set::scalar;
  for (instruction_set s : all_instruction_sets) {
    if (runs_here(s)) widest = s;
  }
  return widest;
}

namespace detail {
/// The chosen instruction set plus one; 0 until somebody asks.
inline std::atomic<int> chosen_set = 0;
}  // namespace detail

/// The instruction set that is used where nobody names one: the widest that runs here, or what
/// choose_instruction_set said.
inline instruction_set chosen_instruction_set() noexcept {
  int s = detail::chosen_set.load(std::memory_order_relaxed);
  if (s == 0) {
    s = static_cast<int>(detected_instruction_set()) + 1;
    int nobody = 0;
    if (!detail::chosen_set.compare_exchange_strong(nobody, s)) s = nobody;
  }
  return static_cast<instruction_set>(s - 1);
}

/// Makes chosen_instruction_set() say `s` from now on, for all threads. What was packed before stays as it
/// is.
///
/// Errors  bad_option (it does not run here; got `s`, want the widest that does)
inline failure choose_instruction_set(instruction_set s) noexcept {
  if (!runs_here(s)) {
    return {errc::bad_option, "instruction set", static_cast<std::int64_t>(s),
            static_cast<std::int64_t>(detected_instruction_set())};
  }
  detail::chosen_set.store(static_cast<int>(s) + 1);
  return {};
}

/// The instruction set of that name, into `s`; false where none has it.
constexpr bool parse_instruction_set(std::string_view name, instruction_set& s) noexcept {
  for (instruction_set one : all_instruction_sets) {
    if (name == name_of(one)) {
      s = one;
      return true;
    }
  }
  return false;
}

/// f.template operator()<Set>() where Set is the value of `s`; the scalar one where this build has no kernels
/// of it.
///
/// Requires  runs_here(s), where f uses its kernels
template<class F>
decltype(auto) with_instruction_set(instruction_set s, F&& f) {
  using enum instruction_set;
  switch (s) {
#if REPQUANT_X86_64
    case sse2:
      return f.template operator()<sse2>();
    case sse4:
      return f.template operator()<sse4>();
    case avx2:
      return f.template operator()<avx2>();
    case avx_vnni:
      return f.template operator()<avx_vnni>();
    case avx512:
      return f.template operator()<avx512>();
    case avx512_vnni:
      return f.template operator()<avx512_vnni>();
#endif
#if REPQUANT_AARCH64
    case neon:
      return f.template operator()<neon>();
#endif
#if REPQUANT_NEON_DOTPROD
    case neon_dotprod:
      return f.template operator()<neon_dotprod>();
#endif
#if REPQUANT_NEON_I8MM
    case neon_i8mm:
      return f.template operator()<neon_i8mm>();
#endif
    default:
      return f.template operator()<scalar>();
  }
}

}  // namespace repquant
