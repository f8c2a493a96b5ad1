// SPDX-License-Identifier: MIT
/// A loop on registers only: twelve independent accumulators, so that neither latency nor memory is seen. All
/// of it is in an unnamed namespace: files that are compiled for different instruction sets share nothing.
#pragma once

#include "limit_loop.hpp"
#include <utility>

namespace compare {
namespace {  // NOLINT(google-build-namespaces)

constexpr long limit_trips = 2048;

/// Runs Step::add(sum, a, b) on each sum in turn. Operands and sums are opaque to the compiler around every
/// step, so that it leaves nothing out; the indices are known to it, so that it keeps the sums in registers.
template<class Step, std::size_t... I>
void register_loop(std::index_sequence<I...> /*sums*/) {
  using V = typename Step::value;
  V a = Step::zero();
  V b = Step::zero();
  V sums[] = {(static_cast<void>(I), Step::zero())...};
  const auto step = [&](V& sum) {
    asm volatile("" : "+x"(a), "+x"(b));
    Step::add(sum, a, b);
    asm volatile("" : "+x"(sum));
  };
  for (long n = 0; n < limit_trips; ++n) (step(sums[I]), ...);
}
template<class Step>
void register_loop() {
  register_loop<Step>(std::make_index_sequence<12>{});
}
template<class Step>
constexpr limit_loop loop_of(const char* name) {
  return {name, register_loop<Step>, 12.0 * limit_trips * Step::multiply_adds};
}

}  // namespace
}  // namespace compare
