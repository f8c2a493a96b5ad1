// SPDX-License-Identifier: MIT
/// quantize_weights: low-bit weights for all linear layers of a program whose activations stay float.
#pragma once

#include <repquant/block/weight_only_stream.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <algorithm>
#include <span>
#include <string>

namespace repquant {

namespace detail {
template<class Recipe>
failure check_weight_recipe(const Recipe& r) {
  if (failure f = check_codec(r.weight, "recipe: weight")) return f;
  if (r.group < 0) return {errc::bad_option, "recipe: group", r.group, 0};
  if (r.scale_rounds < 0) return {errc::bad_option, "recipe: scale_rounds", r.scale_rounds, 0};
  return {};
}
}  // namespace detail

/// Quantizes the weights of all linear layers of a program, one after the other: each on the inputs that the
/// layers before it, already quantized, give it. Activations, biases, norms and tables stay float.
///
/// Per group, a last group that the columns do not fill is a shorter group. A layer narrower than the group
/// has one set per row.
///
/// Shapes    samples: at least one matrix [tokens x input_cols]; the numbers of tokens may differ
/// Errors    bad_bits, bad_option (recipe); empty, shape_mismatch, non_finite (samples, with their number);
///           unknown_site (keep_float names no linear layer); what calibration and reconstruction say, with
///           the path of the layer
/// Cost      two float runs per sample, and the solver once per layer; fourteen times with try_ranges
/// Precision the same bits for any executor on one build
/// Example   examples/weight_only.cpp
template<class Recipe, Executor E = inline_executor>
result<weight_only_program> quantize_weights(const program& p, std::span<const matrix<>> samples,
                                             const Recipe& recipe, const E& exec = {}) {
  if (failure f = detail::check_weight_recipe(recipe)) return f;
  for (const std::string& path : recipe.keep_float) {
    const bool known = std::any_of(p.steps.begin(), p.steps.end(), [&](const step& s) {
      return s.kind == step_kind::linear && s.path == path;
    });
    if (!known) return failure{errc::unknown_site, path, 0, 1};
  }
  detail::weight_only_stream<Recipe, E> stream(p, recipe, exec);
  if (failure f = stream.start(samples)) return f;
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    if (failure f = stream.advance(i)) return f;
  }
  return stream.finish();
}

}  // namespace repquant
