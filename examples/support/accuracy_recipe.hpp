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

}  // namespace examples
