// SPDX-License-Identifier: MIT
/// check_fraction: a setting that is no whole number, in the whole numbers of a failure.
#pragma once

#include <repquant/core/failure.hpp>

#include <cmath>
#include <cstdint>
#include <string_view>

namespace repquant::detail {

/// The ends of open ranges: of numbers above 0 and of numbers below 1.
inline constexpr double above_zero = 0x1p-1022;
inline constexpr double below_one = 1 - 0x1p-53;

/// Nothing where lowest <= x <= highest; else bad_option with x (NaN: -1) and the end that it is beyond, in
/// millionths, because a failure holds whole numbers. They are rounded apart, so that they always disagree;
/// the place says "(millionths)".
inline failure check_fraction(double x, double lowest, double highest, std::string_view place) noexcept {
  if (x >= lowest && x <= highest) return {};
  const auto whole = [](double v) { return static_cast<std::int64_t>(std::fmin(std::fmax(v, -1e15), 1e15)); };
  if (x > highest)
    return {errc::bad_option, place, whole(std::ceil(x * 1e6)), whole(std::floor(highest * 1e6))};
  const std::int64_t got = x == x ? whole(std::floor(x * 1e6)) : -1;
  return {errc::bad_option, place, got, whole(std::ceil(lowest * 1e6))};
}

}  // namespace repquant::detail
