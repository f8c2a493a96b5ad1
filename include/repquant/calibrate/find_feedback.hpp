// SPDX-License-Identifier: MIT
/// find_feedback: in which order the channels of a value are coded, and how their errors move each other, so
/// that what layers read from the codes errs least.
#pragma once

#include <repquant/kernel/error_feedback.hpp>
#include <repquant/matrix/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace repquant {

/// An error_feedback with its numbers.
struct found_feedback {
  index block = 0;
  std::vector<std::uint8_t> order;
  std::vector<float> unit;
  std::vector<std::int8_t> reach;

  [[nodiscard]] error_feedback view() const { return {block, order, unit, reach}; }
};

/// The feedback under which errors e of the codes leave least of e^T G e, the squared error of the readers'
/// outputs. In a block,
///
///   G = L^T D L,   e^T G e = sum over i of D_i (e_i + sum over j < i of L_ij e_j)^2
///
/// with L unit lower triangular in the order of coding: a code that is rounded to x_i - sum L_ij e_j leaves
/// D_i s_i^2 / 12 of it, where plain rounding leaves G_ii s_i^2 / 12. unit_j reach(j, i) is L_ij, with
/// integers up to 127: what that rounding adds is a thousandth of the rest. The product of the
/// D is what G says, whatever the order; their sum is small where they are alike, so that the last channel is
/// the one of the smallest G_ii s_i^2, the one before it that of the smallest of what is left of these, and
/// so on. Errors between blocks are left as they are.
///
/// Shapes    importance G [cols x cols], symmetric, not negative: sum over readers of W^T W; steps [cols]
///           or [1], the scales s
/// Requires  1 <= block <= error_feedback::most; damping > 0: this share of the mean G_ii s_i^2 is added to
///           all of them, about what the rounding of low-bit weights adds to G; it bounds how far errors
///           move where readers do not see them
/// Cost      cols block^2
/// Source    the ordering of V-BLAST detection (Wolniansky et al. 1998); the factors of GPTQ (arXiv
/// 2210.17323)
inline found_feedback find_feedback(const matrix<double>& importance, const column<double>& steps,
                                    index block, double damping) {
  const index cols = importance.cols();
  found_feedback f{std::min(block, cols), std::vector<std::uint8_t>(static_cast<std::size_t>(cols)), {}, {}};
  column<double> s(cols);
  for (index j = 0; j < cols; ++j) s(j) = steps(steps.size() > 1 ? j : 0);
  const double mean = importance.diagonal().cwiseProduct(s.cwiseAbs2()).sum() / static_cast<double>(cols);
  for (index first = 0; first < cols; first += f.block) {
    const index n = std::min(f.block, cols - first);
    const auto of = s.segment(first, n).asDiagonal();
    matrix<double> g = of * importance.block(first, first, n, n) * of;
    const double added = std::fmax(damping * mean, std::numeric_limits<double>::min());
    g.diagonal().array() += added;
    std::vector<index> left;  // channels that are not yet placed
    for (index j = 0; j < n; ++j) left.push_back(j);
    matrix<double> factors = matrix<double>::Zero(n, n);  // L, by channel
    for (index i = n; i-- > 0;) {
      const auto last =
          std::min_element(left.begin(), left.end(), [&](index a, index b) { return g(a, a) < g(b, b); });
      const index c = *last;
      left.erase(last);
      f.order[static_cast<std::size_t>(first + i)] = static_cast<std::uint8_t>(c);
      for (index j : left) factors(c, j) = g(c, j) / std::fmax(g(c, c), added);
      for (index a : left) {
        for (index b : left) g(a, b) -= factors(c, a) * g(c, b);
      }
    }
    const auto channel = [&](index i) -> index { return f.order[static_cast<std::size_t>(first + i)]; };
    for (index i = 0; i < n; ++i) {
      std::vector<double> reach;
      for (index j = i + 1; j < n; ++j)
        reach.push_back(factors(channel(j), channel(i)) * s(first + channel(j)) / s(first + channel(i)));
      double largest = 0;
      for (const double r : reach) largest = std::fmax(largest, std::fabs(r));
      const auto unit = static_cast<float>(largest / 127);
      f.unit.push_back(unit);
      for (const double r : reach)
        f.reach.push_back(unit > 0 ? static_cast<std::int8_t>(std::nearbyint(r / static_cast<double>(unit)))
                                   : 0);
    }
  }
  return f;
}

}  // namespace repquant
