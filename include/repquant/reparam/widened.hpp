// SPDX-License-Identifier: MIT
/// widened: the parameters of another scale about the middle of the same range.
#pragma once

#include <repquant/codec/uniform.hpp>

#include <algorithm>
#include <cmath>

namespace repquant {

/// Parameters whose scale is `scale`, about the middle of the range that `own` covers.
inline affine widened(const uniform& codec, const affine& own, double scale) {
  const double half = (codec.levels() - 1) / 2.0;
  const double middle = (half - own.zero_point) * static_cast<double>(own.scale);
  const double zero = std::nearbyint(half - middle / scale);
  return {static_cast<float>(scale),
          static_cast<std::int32_t>(std::clamp(zero, -static_cast<double>(uniform::largest_zero_point),
                                               static_cast<double>(uniform::largest_zero_point)))};
}

}  // namespace repquant
