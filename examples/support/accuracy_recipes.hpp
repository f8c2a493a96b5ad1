// SPDX-License-Identifier: MIT
/// The recipes that examples/accuracy compares, as a table of names and functions. A further recipe is one
/// more entry of it.
#pragma once

#include <repquant/repquant.hpp>

#include "oracle/repq_vit.hpp"
#include "support/ablation.hpp"
#include "support/refined_recipe.hpp"
#include <memory>

namespace examples {

/// `varied`: on variations of the calibration samples, too.
template<class Recipe>
accuracy_recipe integer_recipe(const std::string& name, const Recipe& recipe, bool varied = true) {
  return {name, "integer", [recipe, varied](const recipe_task& task) {
            const std::size_t count = task.model.calibration.size();
            const auto samples = varied ? varied_inputs(task, count) : calibration_inputs(task.model);
            return integer_result(quantize_with(recipe, task, samples), count);
          }};
}

/// The published RepQ-ViT on 32 samples, as its authors calibrate it.
inline repquant::result<recipe_result> published_repq_vit(const recipe_task& task) {
  const std::vector<repquant::matrix<>> samples = calibration_inputs(task.model, 32);
  for (const repquant::matrix<>& x : samples) {
    const repquant::shape size{x.rows(), x.cols()};
    if (repquant::failure f = repquant::check_input(task.model.network, size, "calibration sample")) return f;
  }
  const auto model = std::make_shared<const oracle::repq_vit_model>(
      oracle::quantize_repq_vit(task.model.network, std::span<const repquant::matrix<>>(samples),
                                task.weight_bits, task.bits, task.exec));
  return recipe_result{
      [model](const repquant::matrix<>& x) -> repquant::result<repquant::matrix<>> { return model->run(x); },
      samples.size()};
}

/// The name of the baseline that shares are taken of.
inline constexpr const char* baseline_recipe = "repq_vit";

/// All recipes, in the order of the table.
///
/// `share_weights`: a layer that is called several times keeps one set of codes in this library's recipes;
/// else every call has its own. `feedback_block`: channels that make up for each other in repquant_feedback.
inline std::vector<accuracy_recipe> accuracy_recipes(
    bool share_weights = true, repquant::index feedback_block = repquant::feedback_recipe{}.feedback_block) {
  repquant::repquant_recipe recipe;
  recipe.share_weights = share_weights;
  repquant::repquant_recipe feedback = recipe;
  feedback.feedback_block = feedback_block;
  // accuracy first: errors reach as far as they can
  repquant::repquant_recipe refinable = recipe;
  refinable.feedback_block = repquant::error_feedback::most;
  return {
      integer_recipe("naive", repquant::naive_recipe{}, false),
      {baseline_recipe, "simulated", published_repq_vit},
      integer_recipe("repquant", recipe),
      integer_recipe("repquant_feedback", feedback),
      {"repquant_refined", "integer",
       [refinable](const recipe_task& task) { return refined(refinable, task); }},
  };
}

/// The recipes of the ablation of the recipe `name`: no ingredient, each of these alone that it has, all, all
/// but each.
inline std::vector<accuracy_recipe> ablation_recipes(const std::string& name,
                                                     std::vector<std::string> names) {
  const ablation_recipe whole = whole_recipe(name);
  if (whole.feedback_block == 0) std::erase(names, "feedback");
  std::vector<accuracy_recipe> all{integer_recipe("plain", recipe_with_only("", whole))};
  for (const std::string& n : names) all.push_back(integer_recipe("only " + n, recipe_with_only(n, whole)));
  all.push_back(integer_recipe(name, whole));
  for (const std::string& n : names) all.push_back(integer_recipe("without " + n, recipe_without(n, whole)));
  return all;
}

}  // namespace examples
