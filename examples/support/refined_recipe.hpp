// SPDX-License-Identifier: MIT
/// The refined recipe of examples/accuracy: a quantized model trained by stages of gradients, each judged by
/// samples that it did not see.
#pragma once

#include <repquant/repquant.hpp>

#include "support/calibration_samples.hpp"
#include <algorithm>
#include <cmath>

namespace examples {

/// How many calibration samples are learnt from, the first ones; the others judge.
inline index learnt_from(const model_case& m) {
  return std::max<index>(1, static_cast<index>(m.calibration.size()) * 3 / 4);
}

/// The mean number of rows of its result that a calibration sample is compared by.
inline double result_rows(const model_case& m) {
  const std::vector<index>& some = m.calibration.front().rows;
  const repquant::matrix<>& input = m.calibration.front().input;
  if (some.empty()) return static_cast<double>(repquant::evaluate(m.network, input).value().rows());
  double sum = 0;
  for (const model_sample& s : m.calibration) sum += static_cast<double>(s.rows.size());
  return sum / static_cast<double>(m.calibration.size());
}

/// Multiply-adds of a float run of a program on a sample of that many rows: the linear layers', and each
/// query with each key and each probability with each value.
inline double run_multiply_adds(const repquant::program& p, index rows) {
  double sum = multiply_adds(p, rows);
  for (const repquant::step& s : p.steps) {
    if (s.kind != repquant::step_kind::attention) continue;
    const auto width = static_cast<double>(p.value_cols[static_cast<std::size_t>(s.out)]);
    sum += 2 * static_cast<double>(rows * rows) * width;
  }
  return sum;
}

/// A stage of refinement: what moves, how far, and what is looked at.
struct refinement_stage {
  double work;         ///< multiply-adds of float runs
  std::uint64_t seed;  ///< of the samples
  float average;
  float weight_rate, scale_rate, zero_rate, offset_rate, hidden_weight;
};

/// How refinement trains a model in a stage: on its first calibration samples and on variations of them; on
/// the samples alone where the model has no variations. `most_steps`: however little work they are.
inline repquant::refinement refinement_of(const model_case& m, const refinement_stage& stage,
                                          index most_steps) {
  repquant::refinement o;
  o.seed = stage.seed;
  o.average = stage.average;
  o.weight_rate = stage.weight_rate;
  o.scale_rate = stage.scale_rate;
  o.zero_rate = stage.zero_rate;
  o.offset_rate = stage.offset_rate;
  o.hidden_weight = stage.hidden_weight;
  o.block_steps = 0;
  o.warm_up = 0.03F;
  o.step_back = 1;
  o.checks = 15;
  o.certainty = 2;
  // samples that say much make small batches
  const double rows = result_rows(m);
  o.batch = std::clamp<index>(std::lround(128 / rows), 4, 32);
  // classifiers are all but certain of most samples
  if (rows == 1 && m.output == output_kind::logits) o.temperature = 4;
  double work = 0;
  for (const model_sample& s : m.calibration) work += run_multiply_adds(m.network, s.input.rows());
  const double step = work / static_cast<double>(m.calibration.size()) * static_cast<double>(o.batch);
  o.end_to_end_steps = std::min(most_steps, std::max<index>(100, static_cast<index>(stage.work / step)));
  o.source = [&m, among = numbers_of(0, learnt_from(m)), seed = stage.seed](std::uint64_t number) {
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

/// Large steps first, which need many samples: the hidden values have to be right, too, so that each sample
/// says some thousand numbers and not only its result. Then small steps without the codes of weights, few
/// numbers on which much depends and little can be learnt by heart, then small steps of all: where large ones
/// led nowhere, from the start. In this order, because a judge of few samples takes the luckiest of several
/// models: after small steps its luck would stand in the way of large ones.
inline constexpr refinement_stage refinement_stages[] = {{1.7e12, 1, 0.98F, 3, 0.01F, 0.2F, 0.01F, 2},
                                                         {4e11, 2, 0.95F, 0, 5e-3F, 0.1F, 5e-3F, 0},
                                                         {4e11, 3, 0.95F, 0.15F, 5e-3F, 0.1F, 5e-3F, 0}};

/// `recipe` on three quarters of the calibration samples, then refine() on these, by stages. By the
/// divergence of the logits, or of an embedding's similarities to those of the calibration samples. The last
/// quarter, which no stage saw, judges each of them, with variations of it: if it finds none clearly better
/// than what it started from, the recipe on all samples is the result.
inline repquant::result<recipe_result> refined(const repquant::repquant_recipe& recipe,
                                               const recipe_task& task) {
  const model_case& m = task.model;
  const auto all = static_cast<index>(m.calibration.size());
  const index learnt = learnt_from(m);
  auto model = quantize_with(recipe, task, varied_inputs(task, static_cast<std::size_t>(learnt)));
  if (!model) return model.error();
  std::vector<model_sample> samples = m.calibration;
  const index judges = std::max<index>(all - learnt, std::min<index>(256, 4 * (all - learnt)));
  const std::vector<index> held_back = numbers_of(learnt, all);
  for (model_sample& s :
       variations(m, judges - (all - learnt), 2, task.exec, [&](index) { return std::span(held_back); }))
    samples.push_back(std::move(s));
  std::vector<repquant::matrix<>> inputs;
  std::vector<std::vector<index>> rows;
  for (model_sample& s : samples) {
    inputs.push_back(std::move(s.input));
    rows.push_back(std::move(s.rows));
  }
  const auto count = static_cast<double>(inputs.size());
  bool better = false;
  for (const refinement_stage& stage : refinement_stages) {
    repquant::refinement o = refinement_of(m, stage, task.most_steps);
    o.held_back = static_cast<float>((count - static_cast<double>(learnt)) / count);
    auto trained = repquant::refine(m.network, *model, inputs, rows, o, task.exec,
                                    [&](const repquant::refinement_status& s) {
                                      return !task.progress || task.progress(s.done, s.steps);
                                    });
    if (!trained) return trained.error();
    better = better || !std::ranges::equal(trained->bytes(), model->bytes());
    model = std::move(trained);
  }
  if (!better) {
    model = quantize_with(recipe, task, varied_inputs(task, m.calibration.size()));
  }
  return integer_result(std::move(model), m.calibration.size());
}

}  // namespace examples
