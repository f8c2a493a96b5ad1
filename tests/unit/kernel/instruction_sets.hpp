// SPDX-License-Identifier: MIT
/// Runs a test on every instruction set of integer products that this CPU has, whatever the compiler's flags.
#pragma once

#include <repquant/kernel/cpu.hpp>
#include <repquant/kernel/gemm.hpp>

namespace instruction_sets {

namespace rq = repquant;

/// f.template operator()<Set>() for every instruction set that has kernels here and runs.
template<class F>
void for_each(F&& f) {
  for (rq::instruction_set s : rq::all_instruction_sets) {
    if (rq::runs_here(s)) rq::with_instruction_set(s, f);
  }
}

}  // namespace instruction_sets
