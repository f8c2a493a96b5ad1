// SPDX-License-Identifier: MIT
/// check_recipe: settings of a recipe that no model can be made with.
#pragma once

#include <repquant/block/recipe.hpp>

#include <string_view>

namespace repquant::detail {

inline failure check_bits(int bits, std::string_view place) {
  return bits >= 2 && bits <= 8 ? failure{} : failure{errc::bad_bits, place, bits, 8};
}

template<class Recipe>
failure check_recipe(const Recipe& r) {
  if (failure f = check_bits(r.weight.bits, "recipe: weight")) return f;
  if (failure f = check_bits(r.activation.bits, "recipe: activation")) return f;
  if (failure f = check_bits(r.input_bits, "recipe: input_bits")) return f;
  for (const site_bits& o : r.overrides) {
    if (failure f = check_bits(o.bits, o.path)) return f;
  }
  if (r.probability_depth < 0 || r.probability_depth > 30) {
    return {errc::bad_option, "recipe: probability_depth", r.probability_depth, 30};
  }
  if (!(r.spread_below >= 0)) return {errc::bad_option, "recipe: spread_below", -1, 0};
  if (r.clip_steps < 0) return {errc::bad_option, "recipe: clip_steps", r.clip_steps, 0};
  if (r.clip_sweeps < 0) return {errc::bad_option, "recipe: clip_sweeps", r.clip_sweeps, 0};
  const bool some = r.probability.uniform || r.probability.log2 || r.probability.log_sqrt2;
  return some ? failure{} : failure{errc::bad_option, "recipe: codecs of probabilities", 0, 1};
}

}  // namespace repquant::detail
