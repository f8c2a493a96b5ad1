// SPDX-License-Identifier: MIT
/// The softmax of the running model, over a row.
#pragma once

#include <repquant/kernel/elementary.hpp>
#include <repquant/kernel/map.hpp>
#include <repquant/kernel/reduce.hpp>

namespace repquant {

/// out[i] = e^(x[i] - max) / sum_j e^(x[j] - max), by a true division, the sum in the order of
/// kernel/reduce.hpp: the same bits on every architecture.
///
/// A score of -infinity is masked and gives 0; a row where all are masked gives zeros. A NaN or +infinity
/// anywhere makes the whole row NaN (0x7FC00000). Trailing -infinities do not change the other results.
///
/// Shapes     scores, out [n]; `out` may be `scores`
/// Requires   the two sizes agree
/// Cost       four passes, one exponential per value
/// Precision  relative error <= 4 2^-24 + 2^-24 |x - max| + (n / 16) 2^-24; 0 below 2^-126
template<class Arch = default_arch>
inline void softmax_row(std::span<const float> scores, std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  const float top = reduce::largest<Arch>(scores);
  // where nothing is above -infinity, subtracting it would make NaN of the masked places
  const float shift = top == -std::numeric_limits<float>::infinity() ? 0.0F : top;
  map_row<Arch>(
      out, [shift](const V& v) { return elementary::exp(lane::sub(v, V(shift))); }, scores.data());
  const float total = reduce::sum<Arch>(out);
  const float divisor = total == 0.0F ? 1.0F : total;
  map_row<Arch>(
      out, [divisor](const V& v) { return one_nan(lane::div(v, V(divisor))); }, out.data());
}

}  // namespace repquant
