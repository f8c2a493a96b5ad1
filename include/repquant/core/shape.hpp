// SPDX-License-Identifier: MIT
/// Words for sizes and ranges.
#pragma once

#include <cstddef>

namespace repquant {

/// Counts and positions. Signed, as Eigen's.
using index = std::ptrdiff_t;

/// Rows and columns of a row-major matrix.
struct shape {
  index rows = 0;
  index cols = 0;
  friend constexpr bool operator==(const shape&, const shape&) = default;
};

/// A closed interval of real values, lo <= hi.
struct range {
  float lo = 0;
  float hi = 0;
  friend constexpr bool operator==(const range&, const range&) = default;
};

}  // namespace repquant
