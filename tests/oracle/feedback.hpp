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

}  // namespace oracle
