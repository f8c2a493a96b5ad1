// SPDX-License-Identifier: MIT
/// The recipes that examples/accuracy compares, as a table of names and functions. A further recipe is one
/// more entry of it.
#pragma once

#include <repquant/repquant.hpp>

#include "models/vary.hpp"
#include "oracle/repq_vit.hpp"
#include "support/ablation.hpp"
#include "support/accuracy_recipe.hpp"
#include <algorithm>
#include <memory>

namespace examples {

/// The inputs of at most `limit` calibration samples.
inline std::vector<repquant::matrix<>> calibration_inputs(
    const model_case& m, std::size_t limit = std::numeric_limits<std::size_t>::max()) {
  std::vector<repquant::matrix<>> all;
  for (const model_sample& s : m.calibration) {
    if (all.size() < limit) all.push_back(s.input);
  }
  return all;
}

/// A model that runs in integers, as the result of a recipe.
inline repquant::result<recipe_result> integer_result(repquant::result<repquant::quantized_model> model,
                                                      std::size_t calibration_samples) {
  if (!model) return model.error();
  const auto shared = std::make_shared<const repquant::quantized_model>(std::move(*model));
  return recipe_result{[shared](const repquant::matrix<>& x) { return shared->run(x); }, calibration_samples,
                       shared};
}

/// A recipe of this library on all calibration samples.
template<class Recipe>
repquant::result<repquant::quantized_model> quantize_with(const Recipe& recipe, const recipe_task& task) {
  const std::vector<repquant::matrix<>> samples = calibration_inputs(task.model);
  return repquant::quantize_program(task.model.network, std::span<const repquant::matrix<>>(samples),
                                    repquant::with_bits(recipe, task.weight_bits, task.bits), task.exec,
                                    task.progress);
}
template<class Recipe>
accuracy_recipe integer_recipe(const std::string& name, const Recipe& recipe) {
  return {name, "integer", [recipe](const recipe_task& task) {
            return integer_result(quantize_with(recipe, task), task.model.calibration.size());
          }};
}

/// About the multiply-adds of a program on a sample of that many rows: those of its linear layers.
inline double multiply_adds(const repquant::program& p, index rows) {
  double sum = 0;
  for (const repquant::linear& l : p.linears) sum += static_cast<double>(l.weight.size() * rows);
  return sum;
}

/// How refinement trains a model: on its first calibration samples and on variations of them, half and half,
/// judged by the last ones; on the samples alone where the model has no variations. As many steps as 1e12
/// multiply-adds forward are, which is minutes of two cores, but 300 to 1,500.
inline repquant::refinement refinement_of(const model_case& m) {
  repquant::refinement o;
  o.block_steps = 0;
  o.warm_up = 0.03F;
  o.average = 0.95F;
  o.step_back = 1;
  o.checks = 15;
  o.held_back = 0.25F;
  // long sequences hold many rows to learn from: few of them make a step
  const index length = std::max<index>(1, m.calibration.front().input.rows());
  o.batch = std::clamp<index>(2048 / length, 4, 32);
  const double step = static_cast<double>(o.batch) * multiply_adds(m.network, length);
  o.end_to_end_steps = static_cast<index>(std::clamp(1e12 / step, 300.0, 1500.0));
  const auto training =
      static_cast<std::size_t>(repquant::training_samples(o, static_cast<index>(m.calibration.size())));
  o.source = [&m, training, seed = o.seed](std::uint64_t number) {
    auto random = repquant::splitmix64::of(seed, number);
    if (!m.vary || !chance(random, 0.5F)) {
      const model_sample& s =
          m.calibration[static_cast<std::size_t>(random.below(static_cast<index>(training)))];
      return repquant::refinement_sample{s.input, s.rows};
    }
    model_sample s = m.vary(training, random);
    return repquant::refinement_sample{std::move(s.input), std::move(s.rows)};
  };
  if (m.output != output_kind::embedding) return o;
  o.loss = repquant::refinement_loss::similarity;
  o.references.resize(static_cast<index>(m.calibration.size()), m.network.output_cols());
  for (std::size_t i = 0; i < m.calibration.size(); ++i) {
    const repquant::matrix<> y = repquant::evaluate(m.network, m.calibration[i].input).value();
    o.references.row(static_cast<index>(i)) = y.row(0) * (m.similarity_scale / y.row(0).norm());
  }
  return o;
}

/// `recipe`, then refine() on the same calibration samples, twice: first with the codes of weights as they
/// are, few numbers on which much depends and little can be learnt by heart, then with all. By the divergence
/// of the logits, or of an embedding's similarities to those of the calibration samples.
inline repquant::result<recipe_result> refined(const repquant::repquant_recipe& recipe,
                                               const recipe_task& task) {
  auto model = quantize_with(recipe, task);
  if (!model) return model.error();
  const repquant::program network = repquant::select_early(task.model.network);
  const std::vector<repquant::matrix<>> samples = calibration_inputs(task.model);
  std::vector<std::vector<index>> rows;
  for (const model_sample& s : task.model.calibration) rows.push_back(s.rows);
  repquant::refinement options = refinement_of(task.model);
  for (const float weight_rate : {0.0F, options.weight_rate}) {
    options.weight_rate = weight_rate;
    model = repquant::refine(network, *model, samples, rows, options, task.exec,
                             [&](const repquant::refinement_status& s) {
                               return !task.progress || task.progress(s.done, s.steps);
                             });
    if (!model) return model.error();
    ++options.seed;
  }
  return integer_result(std::move(model), samples.size());
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
/// else every call has its own.
inline std::vector<accuracy_recipe> accuracy_recipes(bool share_weights = true) {
  repquant::repquant_recipe recipe;
  recipe.share_weights = share_weights;
  return {
      integer_recipe("naive", repquant::naive_recipe{}),
      {baseline_recipe, "simulated", published_repq_vit},
      integer_recipe("repquant", recipe),
      {"repquant_refined", "integer", [recipe](const recipe_task& task) { return refined(recipe, task); }},
  };
}

/// The recipes of the ablation of these ingredients: none, each alone, all, all but each.
inline std::vector<accuracy_recipe> ablation_recipes(const std::vector<std::string>& names) {
  std::vector<accuracy_recipe> all{integer_recipe("plain", recipe_with_only(""))};
  for (const std::string& n : names) all.push_back(integer_recipe("only " + n, recipe_with_only(n)));
  all.push_back(integer_recipe("repquant", recipe_without("")));
  for (const std::string& n : names) all.push_back(integer_recipe("without " + n, recipe_without(n)));
  return all;
}

}  // namespace examples
