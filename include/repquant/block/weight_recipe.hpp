// SPDX-License-Identifier: MIT
/// Recipes of quantize_weights: what it decides, as plain structs of values. Change a policy by deriving and
/// redeclaring a member with another type; quantize_weights reads the members by name.
#pragma once

#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/reconstruct/fit_rows_to_gram.hpp>
#include <repquant/reconstruct/gptq.hpp>
#include <repquant/reconstruct/round_to_nearest.hpp>

#include <string>
#include <vector>

namespace repquant {

/// Min-max ranges, rounding to nearest: needs no samples, but they are what the report is measured on.
struct rounding_weight_recipe {
  uniform weight{.bits = 4};
  index group = 0;                  ///< consecutive inputs that share parameters; 0: a whole row
  min_max range;                    ///< an observer, or range_options to search by the output's error
  round_to_nearest solver;          ///< a reconstructor
  bool try_ranges = false;          ///< with range_options: each range by the loss the solver reaches with it
  int scale_rounds = 0;             ///< turns of refit_scales and descend after the solver
  double alpha = 0;                 ///< of pre_correct: takes back the error of the inputs
  double alpha_residual = 0;        ///< of pre_correct_residual, where the output is added to a residual
  double correction_damping = 0.1;  ///< of both
  bool correct_bias = false;        ///< the mean error of the output into the bias, where there is one
  std::vector<std::string> keep_float;  ///< paths of linear layers that stay as they are
};

/// GPTQ as published: min-max ranges, the columns one after the other.
struct gptq_weight_recipe : rounding_weight_recipe {
  gptq solver;
};

/// What this library does best with weights: GPTQ with the ranges that suit it, codes and scales by turns,
/// and half of the error that earlier layers brought into inputs and residual taken back.
struct weight_recipe : rounding_weight_recipe {
  range_options range;
  gptq solver;
  bool try_ranges = true;
  int scale_rounds = 8;
  double alpha = 0.5;
  double alpha_residual = 0.5;
  bool correct_bias = true;
};

/// The recipe with another width and group.
template<class Recipe>
Recipe with_weights(Recipe recipe, int bits, index group) {
  recipe.weight.bits = bits;
  recipe.group = group;
  return recipe;
}

}  // namespace repquant
