// SPDX-License-Identifier: MIT
/// check_recipe: settings of a recipe that no model can be made with.
#pragma once

#include <repquant/block/recipe.hpp>
#include <repquant/codec/check.hpp>
#include <repquant/core/check_fraction.hpp>
#include <repquant/kernel/error_feedback.hpp>

#include <limits>

namespace repquant::detail {

template<class Recipe>
failure check_recipe(const Recipe& r) {
  if (failure f = check_codec(r.weight, "recipe: weight")) return f;
  if (failure f = check_codec(r.activation, "recipe: activation")) return f;
  if (failure f = check(uniform{.bits = r.input_bits}, "recipe: input_bits")) return f;
  for (const site_bits& o : r.overrides) {
    if (failure f = check(uniform{.bits = o.bits}, o.path)) return f;
  }
  if (r.probability_depth < 0 || r.probability_depth > 30) {
    return {errc::bad_option, "recipe: probability_depth", r.probability_depth, 30};
  }
  if (failure f = check_fraction(r.spread_below, 0, std::numeric_limits<double>::max(),
                                 "recipe: spread_below (millionths)"))
    return f;
  if (r.clip_steps < 0) return {errc::bad_option, "recipe: clip_steps", r.clip_steps, 0};
  if (r.clip_sweeps < 0) return {errc::bad_option, "recipe: clip_sweeps", r.clip_sweeps, 0};
  if (r.scale_rounds < 0) return {errc::bad_option, "recipe: scale_rounds", r.scale_rounds, 0};
  if (r.ratio_rounds < 0) return {errc::bad_option, "recipe: ratio_rounds", r.ratio_rounds, 0};
  if (r.selected_weight < 0) return {errc::bad_option, "recipe: selected_weight", r.selected_weight, 0};
  if (r.feedback_block < 0 || r.feedback_block > error_feedback::most)
    return {errc::bad_option, "recipe: feedback_block", r.feedback_block, error_feedback::most};
  if (failure f = check_fraction(r.feedback_damping, above_zero, std::numeric_limits<double>::max(),
                                 "recipe: feedback_damping (millionths)"))
    return f;
  const bool some = r.probability.uniform || r.probability.log2 || r.probability.log_sqrt2;
  return some ? failure{} : failure{errc::bad_option, "recipe: codecs of probabilities", 0, 1};
}

}  // namespace repquant::detail
