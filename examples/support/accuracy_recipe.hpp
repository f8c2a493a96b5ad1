// SPDX-License-Identifier: MIT
/// accuracy_recipe: a way from a float model to one that runs, as a value.
#pragma once

#include <repquant/block/quantize_block.hpp>
#include <repquant/parallel/threads.hpp>

#include "support/accuracy_evaluate.hpp"
#include <functional>
#include <memory>

namespace examples {

/// What a recipe is to do.
struct recipe_task {
  const model_case& model;
  int bits = 4;         ///< of activations
  int weight_bits = 4;  ///< of weights
  repquant::threads exec;
  repquant::progress_callback progress;
  index most_samples = 512;  ///< up to which variations fill the calibration set of this library's recipes
  index most_steps = 2500;   ///< in a stage of refinement
};

/// A quantized model, and how many samples it was made from.
struct recipe_result {
  sample_runner run;
  std::size_t calibration_samples = 0;
  std::shared_ptr<const repquant::quantized_model> model = {};  ///< null where none runs in integers
};

struct accuracy_recipe {
  std::string name;
  std::string engine;  ///< integer, or simulated
  std::function<repquant::result<recipe_result>(const recipe_task&)> quantize;
};

/// A model that runs in integers, as the result of a recipe.
inline repquant::result<recipe_result> integer_result(repquant::result<repquant::quantized_model> model,
                                                      std::size_t calibration_samples) {
  if (!model) return model.error();
  const auto shared = std::make_shared<const repquant::quantized_model>(std::move(*model));
  return recipe_result{[shared](const repquant::matrix<>& x) { return shared->run(x); }, calibration_samples,
                       shared};
}

/// A recipe of this library on these samples.
template<class Recipe>
repquant::result<repquant::quantized_model> quantize_with(const Recipe& recipe, const recipe_task& task,
                                                          const std::vector<repquant::matrix<>>& samples) {
  return repquant::quantize_program(task.model.network, std::span<const repquant::matrix<>>(samples),
                                    repquant::with_bits(recipe, task.weight_bits, task.bits), task.exec,
                                    task.progress);
}

}  // namespace examples
