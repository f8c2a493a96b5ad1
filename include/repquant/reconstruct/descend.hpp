// SPDX-License-Identifier: MIT
/// descend: lowers the output error of given codes, one weight at a time, until none moves.
#pragma once

#include <repquant/core/check_fraction.hpp>
#include <repquant/parallel/inline_executor.hpp>
#include <repquant/reconstruct/concept.hpp>
#include <repquant/reconstruct/row_levels.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace repquant {

namespace detail {
/// d H d^T and d H_d d^T of one row.
struct row_loss {
  double plain = 0;
  double damped = 0;
};

/// One row on its way down. `error` is W - Q, `pull` is (W - Q) H_d, kept up to date with every move.
template<Codec C, Granularity G>
class row_descent {
 public:
  row_descent(const quantizer<C, G>& q, index row, shape size, const gram& h, double ridge)
      : levels_(q, row, size), h_(h), ridge_(ridge) {}

  /// Starts from the values nearest to w - error.
  void start(std::span<const float> w, std::span<const double> error, std::span<const double> product) {
    const auto n = w.size();
    at_.resize(n);
    error_.assign(error.begin(), error.end());
    pull_.resize(static_cast<index>(n));
    for (std::size_t j = 0; j < n; ++j) {
      const auto i = static_cast<index>(j);
      at_[j] = levels_.nearest(i, static_cast<double>(w[j]) - error[j]);
      pull_(i) = product[j] + ridge_ * error[j];
    }
  }
  /// Visits every column once. Returns how many weights moved.
  index sweep() {
    index moved = 0;
    const index n = h_.size();
    for (index j = 0; j < n; ++j) {
      if (!(h_.sum(j, j) > 0)) continue;
      const double step = best_step(j);
      if (step == 0) continue;
      error_[static_cast<std::size_t>(j)] -= step;
      pull_ -= step * h_.sum.row(j);
      pull_(j) -= step * ridge_;
      ++moved;
    }
    return moved;
  }
  [[nodiscard]] row_loss loss() const noexcept {
    row_loss sum;
    double square = 0;
    for (std::size_t j = 0; j < error_.size(); ++j) {
      sum.damped += error_[j] * pull_(static_cast<index>(j));
      square += error_[j] * error_[j];
    }
    sum.plain = sum.damped - ridge_ * square;
    return sum;
  }
  [[nodiscard]] std::int32_t code(index j) const noexcept {
    return levels_.of(j)[at_[static_cast<std::size_t>(j)]].code;
  }

 private:
  /// Moves column j to its best level; returns by how much its value rose. Adding x to the value changes the
  /// loss by x^2 H_jj - 2 x pull_j, convex in x, so the walk ends at the first neighbour that is no better.
  double best_step(index j) noexcept {
    const std::span<const level> all = levels_.of(j);
    const double curvature = h_.sum(j, j) + ridge_;
    const double pull = pull_(j);
    std::size_t& at = at_[static_cast<std::size_t>(j)];
    const double from = all[at].value;
    const bool up = pull > 0;
    double least = 0;
    while (up ? at + 1 < all.size() : at > 0) {
      const std::size_t next = up ? at + 1 : at - 1;
      const double x = all[next].value - from;
      const double change = x * (x * curvature - 2 * pull);
      if (!(change < least - margin * x * x * curvature)) break;
      least = change;
      at = next;
    }
    return all[at].value - from;
  }
  /// A move must lower the loss by more than rounding errors can, so that no two codes take turns.
  static constexpr double margin = 1e-9;

  row_levels<C, G> levels_;
  const gram& h_;
  double ridge_;
  std::vector<std::size_t> at_;
  std::vector<double> error_;
  Eigen::Matrix<double, 1, Eigen::Dynamic> pull_;
};

/// damping * mean(live diagonal), as gram_factor has it.
inline double ridge_of(const gram& h, double damping) noexcept {
  double sum = 0;
  index live = 0;
  for (index i = 0; i < h.size(); ++i) {
    sum += h.sum(i, i);
    live += h.sum(i, i) > 0 ? 1 : 0;
  }
  return live > 0 ? damping * sum / static_cast<double>(live) : 0;
}

}  // namespace detail

/// How coordinate descent goes about it.
struct descent_options {
  double damping = 0.01;  ///< fraction of the mean live diagonal added to H
  int sweeps = 32;        ///< at most so many visits of every column; a row ends when nothing moves
};

/// Lowers the loss of codes, one weight at a time.
///
///   while something moves:  for each column j of a row:
///                             q_j = the level that minimises (w - q) H_d (w - q)^T
///
/// The loss is tr((W - Q) H_d (W - Q)^T), H_d = H + damping * mean(live diagonal) * I; it falls with every
/// move. A row whose loss under H itself would rise keeps its codes, so neither loss is above the start's.
/// Dead columns are not touched. A logarithmic codec rounds logarithms, so even under the identity it is left
/// with other codes than `encode` gives: those of the nearest values.
///
/// Shapes    w and the codes [out x in], h [in x in]
/// Requires  codes made for a quantizer that serves w (quantized<> guards it)
/// Errors    shape_mismatch, bad_option (damping, sweeps), empty, non_finite, not_positive_definite
/// Cost      out in^2 multiply-adds once, in for each move, and out in comparisons a sweep; rows run on the
///           executor: the same bits for any number of threads
/// Precision double; a move must gain 1e-9 of its own curvature term, more than rounding errors do
/// Source    the exact line search in one coordinate; OBQ (arXiv 2208.11580) moves each weight once
template<Codec C, Granularity G, Executor E = inline_executor>
result<reconstruction<C, G>> descend(const quantized<C, G>& start, matrix_view w, const gram& h,
                                     const descent_options& options = {}, const E& exec = {}) {
  const quantizer<C, G>& q = start.quantizer();
  if (failure f = detail::check_problem(q, w, h)) return f;
  if (start.rows() != w.rows() || start.cols() != w.cols()) {
    return failure{errc::shape_mismatch, "descend: codes", start.rows() * start.cols(), w.rows() * w.cols()};
  }
  if (failure f = detail::check_fraction(options.damping, 0, 1e6, "descend: damping (millionths)")) return f;
  if (options.sweeps < 0) return failure{errc::bad_option, "descend: sweeps", options.sweeps, 0};

  const double ridge = detail::ridge_of(h, options.damping);
  const matrix<double> error = detail::rounding_error(start, w);
  matrix<code_type_t<C>> codes = start.codes();
  constexpr index width = 64;  // rows of one product, whatever the number of threads
  std::vector<detail::row_loss> losses(static_cast<std::size_t>(w.rows()));
  exec((w.rows() + width - 1) / width, [&](index t) {
    const index first = t * width;
    const index height = std::min(width, w.rows() - first);
    const matrix<double> product = error.middleRows(first, height) * h.sum;
    const auto n = static_cast<std::size_t>(w.cols());
    for (index r = 0; r < height; ++r) {
      const index i = first + r;
      detail::row_descent<C, G> row(q, i, w.size(), h, ridge);
      row.start(w.row(i), {error.row(i).data(), n}, {product.row(r).data(), n});
      const detail::row_loss before = row.loss();
      for (int sweep = 0; sweep < options.sweeps; ++sweep) {
        if (row.sweep() == 0) break;
      }
      const detail::row_loss after = row.loss();
      const bool better = after.damped < before.damped && after.plain <= before.plain;
      losses[static_cast<std::size_t>(i)] = better ? after : before;
      if (!better) continue;
      for (index j = 0; j < w.cols(); ++j) {
        if (h.sum(j, j) > 0) codes(i, j) = static_cast<code_type_t<C>>(row.code(j));
      }
    }
  });
  reconstruction_report report;
  report.damping = options.damping;
  for (const detail::row_loss& l : losses) {
    report.loss += std::fmax(l.plain, 0.0);
    report.damped_loss += l.damped;
  }
  report.dead_columns = h.dead();
  return reconstruction<C, G>{quantized<C, G>(q, std::move(codes)), report};
}

}  // namespace repquant
