// SPDX-License-Identifier: MIT
/// The triangular factor of a damped Gram matrix, with the ladder of dampings that makes it exist. Layers
/// that share an input (q, k, v) may share it.
#pragma once

#include <repquant/reconstruct/gram.hpp>

#include <Eigen/Cholesky>

#include <algorithm>
#include <array>
#include <vector>

namespace repquant {

/// In which order a reconstructor visits the columns of a weight.
enum class column_order : std::uint8_t {
  natural,     ///< from left to right
  activation,  ///< from the largest diagonal entry of H to the smallest, equal ones from left to right
};

/// lower^T lower = H[order, order] + ridge I.
///
/// Columns whose diagonal is zero are dead: no input ever reached them. They are in no order, and the
/// mean of the diagonal that damping refers to leaves them out.
struct gram_factor {
  matrix<double> lower;      ///< [live x live]; empty where no damping sufficed
  std::vector<index> order;  ///< the live columns in the order of the rows of `lower`
  double damping = 0;        ///< the fraction of the mean live diagonal that was added
  double ridge = 0;          ///< what was added, damping * mean
  std::vector<index> dead;   ///< columns with a zero diagonal
  [[nodiscard]] bool usable() const noexcept { return lower.rows() == static_cast<index>(order.size()); }
};

namespace detail {
/// Tries one damping; true where every pivot is clearly above the rounding error of the elimination.
inline bool try_factor(const gram& h, gram_factor& f) {
  const auto n = static_cast<index>(f.order.size());
  // The factor wanted has H = R R^T with R upper, the Cholesky factor of the reversed matrix.
  matrix<double> reversed(n, n);
  for (index i = 0; i < n; ++i) {
    const index from = f.order[static_cast<std::size_t>(n - 1 - i)];
    for (index j = 0; j <= i; ++j) {
      reversed(i, j) = h.sum(from, f.order[static_cast<std::size_t>(n - 1 - j)]);
    }
    reversed(i, i) += f.ridge;
  }
  const column<double> diagonal = reversed.diagonal();
  const Eigen::LLT<Eigen::Ref<matrix<double>>, Eigen::Lower> in_place(reversed);
  if (in_place.info() != Eigen::Success) return false;
  for (index i = 0; i < n; ++i) {
    const double pivot = reversed(i, i) * reversed(i, i);
    if (!(pivot > static_cast<double>(n) * 0x1p-52 * diagonal(i))) return false;
  }
  f.lower = matrix<double>::Zero(n, n);
  for (index j = 0; j < n; ++j) {
    for (index k = 0; k <= j; ++k) f.lower(j, k) = reversed(n - 1 - k, n - 1 - j);
  }
  return true;
}
}  // namespace detail

/// Factors h + damping * mean(live diagonal) * I, with the first damping of the ladder
/// (the one asked for, 1 %, 2 %, 5 %, 10 %, 100 %) that gives clearly positive pivots.
///
/// Requires  check(h, ...) passed; damping >= 0
/// Errors    none: where no step of the ladder suffices, the factor returned is not usable()
/// Cost      in^3 / 3 multiply-adds a step (one step, except for a broken matrix); 2 in^2 doubles
/// Precision double
/// Source    GPTQ (arXiv 2210.17323) factors the inverse; this is the same factor without one:
///           H = R R^T with R upper gives H^-1 = U^T U with U = R^-1 (docs of gptq.hpp)
inline gram_factor factor(const gram& h, double damping, column_order order) {
  gram_factor f;
  double sum = 0;
  for (index i = 0; i < h.size(); ++i) {
    (h.sum(i, i) > 0 ? f.order : f.dead).push_back(i);
    sum += h.sum(i, i);
  }
  if (f.order.empty()) return f;
  if (order == column_order::activation) {
    std::stable_sort(f.order.begin(), f.order.end(),
                     [&](index a, index b) { return h.sum(a, a) > h.sum(b, b); });
  }
  const double mean = sum / static_cast<double>(f.order.size());
  for (const double step : std::array{damping, 0.01, 0.02, 0.05, 0.1, 1.0}) {
    if (step < damping) continue;
    f.damping = step;
    f.ridge = step * mean;
    if (detail::try_factor(h, f)) return f;
  }
  f.damping = 0;
  f.ridge = 0;
  return f;
}

}  // namespace repquant
