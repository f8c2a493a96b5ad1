// SPDX-License-Identifier: MIT
/// Runs a test on every instruction set of integer products that this CPU has, whatever the compiler's flags.
#pragma once

#include <repquant/kernel/cpu.hpp>
#include <repquant/kernel/gemm.hpp>

#include "sanitized.hpp"

namespace instruction_sets {

namespace rq = repquant;

/// f.template operator()<Set>() for every instruction set that has kernels here and runs. Under a sanitizer
/// for two of them: the kernels are one text, and the sanitized code of each takes the compiler a minute.
template<class F>
void for_each(F&& f) {
#if defined(REPQUANT_TEST_SANITIZED)
  f.template operator()<rq::instruction_set::scalar>();
#if REPQUANT_X86_64
  if (rq::runs_here(rq::instruction_set::avx2)) f.template operator()<rq::instruction_set::avx2>();
#endif
#else
  for (rq::instruction_set s : rq::all_instruction_sets) {
    if (rq::runs_here(s)) rq::with_instruction_set(s, f);
  }
#endif
}

}  // namespace instruction_sets
