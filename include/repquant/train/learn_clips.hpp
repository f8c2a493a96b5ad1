// SPDX-License-Identifier: MIT
/// learn_clips: ranges of channels by what they cost the layers that read them, all at once along the
/// gradient.
#pragma once

#include <repquant/calibrate/clip_position.hpp>
#include <repquant/core/check_fraction.hpp>
#include <repquant/train/adam.hpp>
#include <repquant/train/cosine_schedule.hpp>

#include <utility>
#include <vector>

namespace repquant {

/// How learn_clips goes about it.
struct clip_training {
  int steps = 60;
  float rate = 0.03F;  ///< of Adam, in octaves: about as far as an end moves in a step at first
  adam optimizer = {.beta2 = 0.99F};
};

/// Learned per-channel dual clipping: an upper and a lower end for every channel, moved by Adam on the
/// positions of both (clip_position) along the gradient of J over all tokens; no batches, so no chance. The
/// best of all ranges on the way is the result, the start among them: J never rises.
///
/// Requires  a problem and ranges of its channels
/// Errors    what check_ranges says; bad_option: steps < 0, a rate that is not positive
/// Cost      (steps + 1) tokens D^2 multiply-adds, on the executor: the same bits for any number of threads
/// Precision double, the positions in float
/// Source    RepQuant (arXiv 2402.05628) learns both clips of every channel behind LayerNorm; its loss, its
///           positions and its optimizer are not published: those here are ours
template<Executor E = inline_executor>
result<clipping_problem::solution> learn_clips(const clipping_problem& p, std::vector<range> start,
                                               const clip_training& options = {}, const E& exec = {}) {
  if (failure f = p.check_ranges(start)) return f;
  if (options.steps < 0) return failure{errc::bad_option, "learn_clips: steps", options.steps, 0};
  if (failure f = detail::check_fraction(static_cast<double>(options.rate), detail::above_zero, 1,
                                         "learn_clips: rate (millionths)"))
    return f;
  const std::vector<clip_position> positions = clip_positions(p, start);
  clipping_problem::solution best;
  std::vector<range> now = std::move(start);
  matrix<> at = matrix<>::Zero(2, p.channels());  // a and b
  adam_moments moments;
  for (int k = 0;; ++k) {
    const clipping_problem::gradient g = p.gradient_at(now, exec);
    if (k == 0) best.start = g.error;
    if (k == 0 || g.error < best.error) {
      best.ranges = now;
      best.error = g.error;
    }
    if (k == options.steps || !(best.start > 0)) return best;
    // in shares of the first J, so that Adam's epsilon has no unit
    matrix<> slope(2, p.channels());
    for (index d = 0; d < p.channels(); ++d) {
      const clip_position& c = positions[static_cast<std::size_t>(d)];
      slope(0, d) = static_cast<float>(g.hi(d) * c.slope_hi(static_cast<double>(at(0, d))) / best.start);
      slope(1, d) = static_cast<float>(g.lo(d) * c.slope_lo(static_cast<double>(at(1, d))) / best.start);
    }
    adam_step(options.optimizer, moments, options.rate * cosine_schedule(k, options.steps), slope, at);
    at = at.cwiseMax(static_cast<float>(clip_position::outermost))
             .cwiseMin(static_cast<float>(clip_position::innermost));
    for (index d = 0; d < p.channels(); ++d) {
      now[static_cast<std::size_t>(d)] = positions[static_cast<std::size_t>(d)].at(
          static_cast<double>(at(0, d)), static_cast<double>(at(1, d)));
    }
  }
}

}  // namespace repquant
