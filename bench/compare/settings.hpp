// SPDX-License-Identifier: MIT
/// What all cases are told.
#pragma once

#include <repquant/core/shape.hpp>

#include "race.hpp"
#include <string>
#include <string_view>
#include <vector>

namespace compare {

using repquant::index;

/// Rows, depth and columns of a product.
struct extent {
  index m = 0;
  index k = 0;
  index n = 0;
  [[nodiscard]] std::string text() const {
    return std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n);
  }
  [[nodiscard]] double operations() const { return 2.0 * static_cast<double>(m * k * n); }
};

struct settings {
  std::vector<std::string> cases;
  int threads = 1;
  bool brief = false;  ///< small shapes, to see that it works
  race_rules rules;

  [[nodiscard]] bool wants(std::string_view name) const {
    return std::find(cases.begin(), cases.end(), name) != cases.end();
  }
};

}  // namespace compare
