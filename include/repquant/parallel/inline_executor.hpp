// SPDX-License-Identifier: MIT
/// inline_executor: everything on the calling thread, in order. What functions use when no executor is
/// passed.
#pragma once

#include <repquant/parallel/concept.hpp>

namespace repquant {

/// Runs f(0), f(1), ... one after the other on the calling thread.
struct inline_executor {
  template<class F>
  void operator()(index n, const F& f) const {
    for (index i = 0; i < n; ++i) f(i);
  }
};
static_assert(Executor<inline_executor>);

}  // namespace repquant
