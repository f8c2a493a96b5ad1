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

/// Multiply-adds of the linear layers of a program on a sample of that many rows.
inline double multiply_adds(const repquant::program& p, index rows) {
  double sum = 0;
  for (const repquant::linear& l : p.linears) sum += static_cast<double>(l.weight.size() * rows);
  return sum;
}

/// The numbers first .. last - 1.
inline std::vector<index> numbers_of(index first, index last) {
  std::vector<index> all;
  for (index i = first; i < last; ++i) all.push_back(i);
  return all;
}

/// `count` variations, number k of one of the calibration samples with the numbers among(k).
///
/// Cost  one m.vary for each, in parallel
template<class F>
std::vector<model_sample> variations(const model_case& m, index count, std::uint64_t seed,
                                     const repquant::threads& exec, const F& among) {
  std::vector<model_sample> all(static_cast<std::size_t>(m.vary ? std::max<index>(count, 0) : 0));
  exec(static_cast<index>(all.size()), [&](index k) {
    auto random = repquant::splitmix64::of(seed, static_cast<std::uint64_t>(k));
    all[static_cast<std::size_t>(k)] = m.vary(among(k), random);
  });
  return all;
}

/// What this library's recipes calibrate on: the first `count` calibration samples, then variations of these,
/// until there are task.most_samples samples or a float run of all takes 3e10 multiply-adds. Variations of
/// even samples stand in even places: what the recipe tries on one half of the places, the other half has not
/// seen.
inline std::vector<repquant::matrix<>> varied_inputs(const recipe_task& task, std::size_t count) {
  std::vector<repquant::matrix<>> all = calibration_inputs(task.model, count);
  double rows = 0;
  for (const repquant::matrix<>& x : all) rows += static_cast<double>(x.rows());
  const double of_a_row = multiply_adds(task.model.network, 1);
  const double affordable = 3e10 / of_a_row * static_cast<double>(all.size()) / rows;
  std::array<std::vector<index>, 2> halves;
  for (std::size_t i = 0; i < count; ++i) halves[i % 2].push_back(static_cast<index>(i));
  const index wanted =
      std::min(task.most_samples, static_cast<index>(affordable)) - static_cast<index>(count);
  const auto half = [&](index k) -> std::span<const index> {
    const std::vector<index>& same = halves[(count + static_cast<std::size_t>(k)) % 2];
    return same.empty() ? halves[0] : same;
  };
  for (model_sample& s : variations(task.model, wanted, 1, task.exec, half))
    all.push_back(std::move(s.input));
  return all;
}

/// A recipe of this library on these samples.
template<class Recipe>
repquant::result<repquant::quantized_model> quantize_with(const Recipe& recipe, const recipe_task& task,
                                                          const std::vector<repquant::matrix<>>& samples) {
  return repquant::quantize_program(task.model.network, std::span<const repquant::matrix<>>(samples),
                                    repquant::with_bits(recipe, task.weight_bits, task.bits), task.exec,
                                    task.progress);
}
/// `varied`: on variations of the calibration samples, too.
template<class Recipe>
accuracy_recipe integer_recipe(const std::string& name, const Recipe& recipe, bool varied = true) {
  return {name, "integer", [recipe, varied](const recipe_task& task) {
            const std::size_t count = task.model.calibration.size();
            const auto samples = varied ? varied_inputs(task, count) : calibration_inputs(task.model);
            return integer_result(quantize_with(recipe, task, samples), count);
          }};
}

/// How refinement trains a model: on its first `learnt` calibration samples and on variations of them; on the
/// samples alone where the model has no variations. `work`: multiply-adds of the float runs of all samples.
inline repquant::refinement refinement_of(const model_case& m, index learnt, double work,
                                          std::uint64_t seed) {
  repquant::refinement o;
  o.seed = seed;
  o.block_steps = 0;
  o.warm_up = 0.03F;
  o.step_back = 1;
  o.checks = 15;
  // long sequences hold many rows to learn from: few of them make a step
  const index length = std::max<index>(1, m.calibration.front().input.rows());
  o.batch = std::clamp<index>(2048 / length, 4, 32);
  const double step = static_cast<double>(o.batch) * multiply_adds(m.network, length);
  o.end_to_end_steps = static_cast<index>(std::clamp(work / step, 60.0, 5000.0));
  o.source = [&m, among = numbers_of(0, learnt), seed](std::uint64_t number) {
    auto random = repquant::splitmix64::of(seed, number);
    if (!m.vary || !chance(random, 0.75F)) {
      const model_sample& s = m.calibration[static_cast<std::size_t>(any(random, std::span(among)))];
      return repquant::refinement_sample{s.input, s.rows};
    }
    model_sample s = m.vary(among, random);
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

/// A stage of refinement: what moves, how far, and what is looked at.
struct refinement_stage {
  double work;         ///< multiply-adds of float runs
  std::uint64_t seed;  ///< of the samples
  float average;
  float weight_rate, scale_rate, zero_rate, offset_rate, hidden_weight;
};
/// Large steps first, which need many samples: the hidden values have to be right, too, so that each sample
/// says some thousand numbers and not only its result. Then small steps without the codes of weights, few
/// numbers on which much depends and little can be learnt by heart, then small steps of all: where large ones
/// led nowhere, from the start. In this order, because a judge of few samples takes the luckiest of several
/// models: after small steps its luck would stand in the way of large ones.
inline constexpr refinement_stage refinement_stages[] = {{8e11, 1, 0.98F, 3, 0.01F, 0.2F, 0.01F, 2},
                                                         {1.5e11, 2, 0.95F, 0, 5e-3F, 0.1F, 5e-3F, 0},
                                                         {1.5e11, 3, 0.95F, 0.15F, 5e-3F, 0.1F, 5e-3F, 0}};

/// What refinement is given: the first `learnt` calibration samples train; where that is not all, the others
/// and variations of them judge.
struct refinement_samples {
  index learnt = 0;
  std::vector<repquant::matrix<>> inputs;
  std::vector<std::vector<index>> rows;
};
inline refinement_samples refinement_samples_of(const recipe_task& task, index learnt) {
  std::vector<model_sample> samples = task.model.calibration;
  const index others = static_cast<index>(samples.size()) - learnt;
  const std::vector<index> judges = numbers_of(learnt, learnt + others);
  const index varied = std::max<index>(0, std::min<index>(256, 4 * others) - others);
  const auto any_judge = [&](index) { return std::span(judges); };
  for (model_sample& s : variations(task.model, varied, 2, task.exec, any_judge))
    samples.push_back(std::move(s));
  refinement_samples all{learnt, {}, {}};
  for (model_sample& s : samples) {
    all.inputs.push_back(std::move(s.input));
    all.rows.push_back(std::move(s.rows));
  }
  return all;
}

/// The model after a stage, whose work is multiplied by `share`; the same model where that is no better.
inline repquant::result<repquant::quantized_model> after_stage(const refinement_stage& stage, double share,
                                                               const repquant::quantized_model& model,
                                                               const refinement_samples& samples,
                                                               const recipe_task& task) {
  repquant::refinement o = refinement_of(task.model, samples.learnt, share * stage.work, stage.seed);
  const auto count = static_cast<double>(samples.inputs.size());
  o.held_back = static_cast<float>((count - static_cast<double>(samples.learnt)) / count);
  o.average = stage.average;
  o.weight_rate = stage.weight_rate;
  o.scale_rate = stage.scale_rate;
  o.zero_rate = stage.zero_rate;
  o.offset_rate = stage.offset_rate;
  o.hidden_weight = stage.hidden_weight;
  return repquant::refine(
      task.model.network, model, samples.inputs, samples.rows, o, task.exec,
      [&](const repquant::refinement_status& s) { return !task.progress || task.progress(s.done, s.steps); });
}

/// First a trial: `recipe` on three quarters of the calibration samples, then refine() on these, by stages.
/// By the divergence of the logits, or of an embedding's similarities to those of the calibration samples.
/// The last quarter, which no stage saw, and variations of it say which stages help. Those then refine the
/// model of `recipe` on all samples, with more steps; where none helps, that is the result.
inline repquant::result<recipe_result> refined(const repquant::repquant_recipe& recipe,
                                               const recipe_task& task) {
  constexpr double trial = 0.35;
  const auto all = static_cast<index>(task.model.calibration.size());
  std::vector<bool> helps(std::size(refinement_stages), true);
  repquant::result<repquant::quantized_model> model = repquant::failure{repquant::errc::empty, "refined"};
  for (const index learnt : {std::max<index>(1, all * 3 / 4), all}) {
    model = quantize_with(recipe, task, varied_inputs(task, static_cast<std::size_t>(learnt)));
    if (!model) return model.error();
    const refinement_samples samples = refinement_samples_of(task, learnt);
    for (std::size_t k = 0; k < helps.size(); ++k) {
      if (!helps[k]) continue;
      auto trained = after_stage(refinement_stages[k], learnt < all ? trial : 1, *model, samples, task);
      if (!trained) return trained.error();
      helps[k] = !std::ranges::equal(trained->bytes(), model->bytes());
      model = std::move(trained);
    }
  }
  return integer_result(std::move(model), task.model.calibration.size());
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
      integer_recipe("naive", repquant::naive_recipe{}, false),
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
