// SPDX-License-Identifier: MIT
/// each: a loop that is written out while compiling.
#pragma once

#include <repquant/core/config.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

namespace repquant::detail {

/// f(0) ... f(Count - 1), of integral constants: registers in an array stay registers at every level of
/// optimization, where an array that a loop indexes goes through memory. (gemm_tile.inc has one of its own:
/// it compiles for instruction sets that this header is not compiled for.)
template<std::size_t Count, class F>
REPQUANT_ALWAYS_INLINE inline void each(F&& f) noexcept {
  [&f]<std::size_t... I>(std::index_sequence<I...>) REPQUANT_ALWAYS_INLINE {
    (f(std::integral_constant<std::size_t, I>{}), ...);
  }
  (std::make_index_sequence<Count>{});
}

}  // namespace repquant::detail
