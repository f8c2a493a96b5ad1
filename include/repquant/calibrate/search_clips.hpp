// SPDX-License-Identifier: MIT
/// search_clips: ranges of channels by what they cost the layers that read them, one channel at a time.
#pragma once

#include <repquant/calibrate/clip_position.hpp>
#include <repquant/core/check_fraction.hpp>

#include <array>
#include <utility>
#include <vector>

namespace repquant {

/// How search_clips goes about it.
struct clip_search {
  int sweeps = 4;             ///< at most so many visits of every channel for each step
  double coarsest = 1.0 / 2;  ///< first step of the positions, in octaves
  double finest = 1.0 / 32;   ///< last one; steps halve
};

namespace detail {
/// All ranges on their way down. `error_` is e, `pull_` is G e, kept up to date block by block.
class clip_descent {
 public:
  clip_descent(const clipping_problem& p, std::vector<range> start)
      : problem_(p),
        positions_(clip_positions(p, start)),
        at_(static_cast<std::size_t>(p.channels())),
        ranges_(std::move(start)) {}

  template<Executor E>
  void start(const E& exec) {
    error_ = problem_.errors_of(ranges_, exec);
    pull_ = problem_.pull_of(error_, exec);
  }
  /// Visits every channel once. Returns by how much J fell.
  template<Executor E>
  double sweep(double step, const E& exec) {
    double gained = 0;
    for (index first = 0; first < problem_.channels(); first += block) {
      const index count = std::min(block, problem_.channels() - first);
      const matrix<double> before = error_.middleRows(first, count);
      for (index d = first; d < first + count; ++d) gained += best_of(d, first, count, step);
      // the rows outside the block have not been told yet
      const matrix<double> moved = error_.middleRows(first, count) - before;
      const index tiles = (problem_.channels() + block - 1) / block;
      exec(tiles, [&](index k) {
        const index top = k * block;
        if (top == first) return;
        const index rows = std::min(block, problem_.channels() - top);
        pull_.middleRows(top, rows).noalias() += problem_.readers().block(top, first, rows, count) * moved;
      });
    }
    return gained;
  }
  [[nodiscard]] const std::vector<range>& ranges() const noexcept { return ranges_; }

 private:
  static constexpr index block = 64;
  struct position {
    double a = 0;
    double b = 0;
  };

  /// Moves channel d to the best of its 25 positions in steps around where it is; returns by how much J fell.
  /// Another error u of the channel changes J by
  ///
  ///   G_dd (u u^T - e_d e_d^T) + 2 (u - e_d) ((G e)_d - G_dd e_d)^T
  double best_of(index d, index first, index count, double step) {
    const auto n = static_cast<std::size_t>(d);
    const double curvature = problem_.readers()(d, d);
    if (!(curvature > 0)) return 0;
    const auto own = error_.row(d).array();
    const clipping_problem::row_of_tokens others = pull_.row(d).array() - curvature * own;
    const auto cost = [&](const clipping_problem::row_of_tokens& u) {
      return (u * (curvature * u + 2 * others)).sum();
    };
    const double now = cost(own);
    double least = now;
    const position from = at_[n];
    clipping_problem::row_of_tokens tried;
    clipping_problem::row_of_tokens best;
    for (int i = -2; i <= 2; ++i) {
      for (int k = -2; k <= 2; ++k) {
        const position p{from.a + i * step, from.b + k * step};
        if (std::fmin(p.a, p.b) < clip_position::outermost || std::fmax(p.a, p.b) > clip_position::innermost)
          continue;
        const range r = positions_[n].at(p.a, p.b);
        problem_.error_of(d, r, tried);
        const double c = cost(tried);
        // a move must gain more than rounding errors can, so that no two ranges take turns
        if (!(c < least - 1e-9 * curvature * own.square().sum())) continue;
        least = c;
        best = tried;
        at_[n] = p;
        ranges_[n] = r;
      }
    }
    if (!(least < now)) return 0;
    const clipping_problem::row_of_tokens change = best - own;
    pull_.middleRows(first, count).noalias() +=
        problem_.readers().block(first, d, count, 1) * change.matrix();
    error_.row(d) = best.matrix();
    return now - least;
  }

  const clipping_problem& problem_;
  std::vector<clip_position> positions_;
  std::vector<position> at_;
  std::vector<range> ranges_;
  matrix<double> error_;
  matrix<double> pull_;
};
}  // namespace detail

/// Lowers J by coordinate search: channels in turn, each to the best of 25 pairs of ends around where it is,
/// all other ranges held; sweep after sweep until none moves, then in half the step.
///
/// Every move is judged exactly, with what the errors of other channels have to do with it, so J never rises.
///
/// Requires  a problem and ranges of its channels
/// Errors    what check_ranges says; bad_option: sweeps < 0, steps that are not positive
/// Cost      a sweep takes 24 codings of all tokens and tokens D^2 multiply-adds; the products run on the
///           executor: the same bits for any number of threads
/// Precision double; of `error` that of a sum anew over the result
/// Source    ours; OmniQuant and RepQuant learn the same numbers by gradients (learn_clips)
template<Executor E = inline_executor>
result<clipping_problem::solution> search_clips(const clipping_problem& p, std::vector<range> start,
                                                const clip_search& options = {}, const E& exec = {}) {
  if (failure f = p.check_ranges(start)) return f;
  if (options.sweeps < 0) return failure{errc::bad_option, "search_clips: sweeps", options.sweeps, 0};
  if (failure f = detail::check_fraction(options.coarsest, detail::above_zero, 1,
                                         "search_clips: coarsest (millionths)"))
    return f;
  if (failure f = detail::check_fraction(options.finest, detail::above_zero, options.coarsest,
                                         "search_clips: finest (millionths)"))
    return f;
  clipping_problem::solution s{start, p.error(start, exec), 0};
  detail::clip_descent descent(p, std::move(start));
  descent.start(exec);
  for (double step = options.coarsest; step >= options.finest; step /= 2) {
    for (int sweep = 0; sweep < options.sweeps; ++sweep) {
      if (!(descent.sweep(step, exec) > 0)) break;
    }
  }
  s.error = p.error(descent.ranges(), exec);
  if (s.error < s.start) {
    s.ranges = descent.ranges();
  } else {
    s.error = s.start;
  }
  return s;
}

}  // namespace repquant
