// SPDX-License-Identifier: MIT
/// Where a float division crosses a boundary: the inverse of "divide, round, compare".
#pragma once

#include <repquant/core/config.hpp>

#include <bit>
#include <cstdint>

namespace repquant {

/// The least float x whose float quotient x / d, rounded half to even, is at least q.
///
/// Every x from there on passes the boundary q and no x below it does, so comparisons with the result give
/// what dividing would. x / d rounds to q or above exactly where x / d is above the middle between q and the
/// float before it, or on it, if q is the even of the two. That middle times d is exact in double (25 bits
/// times 24): nothing here is rounded but the last step, which is checked.
///
/// Requires  q > 0 and d > 0, both finite; q d is a float's magnitude (at most its largest)
/// Precision exact, on every architecture
inline float least_dividend(float q, float d) noexcept {
  const std::int32_t bits = std::bit_cast<std::int32_t>(q);
  const auto before = static_cast<double>(std::bit_cast<float>(bits - 1));
  const double least = (static_cast<double>(q) + before) * 0.5 * static_cast<double>(d);
  const auto x = static_cast<float>(least);
  // in integers: which it is cannot be foreseen, and a branch would be taken wrong half the time
  const int beyond = static_cast<double>(x) > least ? 1 : 0;
  const int on_even = (static_cast<double>(x) == least ? 1 : 0) & (~bits & 1);
  return std::bit_cast<float>(std::bit_cast<std::int32_t>(x) + 1 - (beyond | on_even));
}

}  // namespace repquant
