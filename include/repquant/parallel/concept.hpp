// SPDX-License-Identifier: MIT
/// Executor: how independent pieces of work are run. The other files of this folder are models of it.
///
/// The library starts no thread of its own accord: whoever wants threads passes an executor that has them.
#pragma once

#include <repquant/core/shape.hpp>

#include <concepts>

namespace repquant {

namespace detail {
/// What a piece of work looks like, for the concept below.
struct probe_work {
  void operator()(index) const noexcept {}
};
}  // namespace detail

/// exec(n, f) calls f(0), ..., f(n-1), each once, in any order and on any threads, and returns when all have
/// returned. f is called through a const reference, perhaps by several threads at once, and must not throw.
/// Everything that f wrote is visible to the caller afterwards. n <= 0 calls nothing.
///
/// Results do not depend on the executor: callers let piece i write to place i and combine the places in
/// order.
template<class E>
concept Executor = std::copyable<E> && requires(const E exec, index n, detail::probe_work f) {
  exec(n, f);
};

}  // namespace repquant
