// SPDX-License-Identifier: MIT
/// Codes whose errors are fed back, step by step as the definition has it: each operation in double, rounded
/// to float. Shares no code with the library.
#pragma once

#include "oracle/infer.hpp"
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

/// How a row's errors are fed back, as it is stored: the order of each block, one unit a step, and for each
/// step the integers of the later ones.
struct feedback {
  std::ptrdiff_t block;
  const std::uint8_t* order;
  const float* unit;
  const std::int8_t* reach;
};

/// What a row's values are moved to, and the codes of those.
struct fed_row {
  std::vector<float> moved;
  std::vector<int> code;
};

/// code(x, column) and value(code, column) say what a code means.
template<class Code, class Value>
fed_row feed_back(const feedback& f, const std::vector<float>& x, const Code& code, const Value& value) {
  const auto cols = static_cast<std::ptrdiff_t>(x.size());
  fed_row out{x, std::vector<int>(x.size())};
  std::vector<float> own = x;
  for (float& v : own) v = std::isnan(v) ? 0.0F : std::fmin(std::fmax(v, -0x1p120F), 0x1p120F);
  out.moved = own;
  const std::int8_t* reach = f.reach;
  for (std::ptrdiff_t left = 0; left < cols; left += f.block) {
    const std::ptrdiff_t end = left + f.block < cols ? left + f.block : cols;
    for (std::ptrdiff_t i = left; i < end; ++i) {
      const std::ptrdiff_t now = left + f.order[i];
      const auto at = static_cast<std::size_t>(now);
      out.code[at] = code(out.moved[at], now);
      const float error =
          rounded(static_cast<double>(value(out.code[at], now)) - static_cast<double>(own[at]));
      const float fed = rounded(static_cast<double>(f.unit[i]) * static_cast<double>(error));
      for (std::ptrdiff_t j = i + 1; j < end; ++j) {
        float& later = out.moved[static_cast<std::size_t>(left + f.order[j])];
        const float part = rounded(static_cast<double>(*reach++) * static_cast<double>(fed));
        later = rounded(static_cast<double>(later) - static_cast<double>(part));
      }
    }
  }
  return out;
}

/// A row of exact values that are known up to bounds, moved by the errors of codes that are given:
/// value(column) of each. The bounds become those of a float engine that gave these codes. It rounds the
/// difference of value and x, its product with the unit, that with an integer, and each difference: 2^-24 of
/// each, to first order.
template<class Value>
void move_near(const feedback& f, std::ptrdiff_t cols, double* x, double* error, const Value& value) {
  constexpr double u = 0x1p-24 * (1 + 0x1p-10);  // for what first order leaves out
  const std::vector<double> own(x, x + cols);
  const std::vector<double> own_error(error, error + cols);
  const std::int8_t* reach = f.reach;
  for (std::ptrdiff_t left = 0; left < cols; left += f.block) {
    const std::ptrdiff_t end = left + f.block < cols ? left + f.block : cols;
    for (std::ptrdiff_t i = left; i < end; ++i) {
      const std::ptrdiff_t now = left + f.order[i];
      const auto at = static_cast<std::size_t>(now);
      const auto unit = static_cast<double>(f.unit[i]);
      const double fed = unit * (static_cast<double>(value(now)) - own[at]);
      const double fed_error = std::fabs(unit) * own_error[at] + 2 * u * std::fabs(fed);
      for (std::ptrdiff_t j = i + 1; j < end; ++j) {
        const std::ptrdiff_t later = left + f.order[j];
        const double factor = *reach++;
        x[later] -= factor * fed;
        error[later] += std::fabs(factor) * (fed_error + u * std::fabs(fed)) + u * std::fabs(x[later]);
      }
    }
  }
}

}  // namespace oracle
