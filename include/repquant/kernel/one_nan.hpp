// SPDX-License-Identifier: MIT
/// One bit pattern for every NaN that a float step of the running model makes. Linear layers and attentions
/// make none while their scales are finite and nothing overflows.
#pragma once

#include <repquant/core/lane.hpp>

#include <limits>

namespace repquant {

/// v, and 0x7FC00000 where it is NaN: the sign and the payload that processors give differ, and so do those
/// that two orders of the same commutative operands give.
template<Lane V>
inline V one_nan(const V& v) noexcept {
  return lane::where_equal(v, v, v, V(std::numeric_limits<float>::quiet_NaN()));
}

}  // namespace repquant
