// SPDX-License-Identifier: MIT
/// Quantizes a model by every recipe at every width, and measures what is left of it.
#pragma once

#include "support/accuracy_evaluate.hpp"
#include "support/accuracy_recipe.hpp"
#include "support/float_sites.hpp"
#include "support/hold_out.hpp"
#include "support/site_tables.hpp"
#include <chrono>

namespace examples {

/// What is to be measured of a model.
struct measurement {
  std::vector<accuracy_recipe> recipes;
  std::vector<int> bits = {4, 6, 8};
  int weight_bits = 0;                   ///< of the weights where they differ; 0: as all else
  std::vector<std::string> float_sites;  ///< classes to leave in float, one at a time, of integer models
  int worst_sites = 0;                   ///< how many sites and layers the error report lists
  int samples = 0;                       ///< most samples to evaluate on, 0 for all
  bool hold_out = false;                 ///< on calibration samples alone (hold_out.hpp)
  int folds = 2;
  std::vector<int> seeds = {1};
  int calibration = 512;        ///< samples up to which variations fill the calibration set
  int refinement_steps = 2500;  ///< at most in a stage of refinement
  repquant::threads exec;
};

/// The rows of one model, the float model's first.
class measured_rows {
 public:
  measured_rows(const model_case& m, const measurement& what, progress& bar)
      : model_(m), what_(what), bar_(bar) {}

  /// Errors  those of the recipes and of the runs, with the recipe that they are of
  repquant::result<std::vector<accuracy_row>> measure() {
    if (repquant::failure f = add({.recipe = "float", .bits = 32, .engine = "float"},
                                  [&](const repquant::matrix<>& x) { return evaluate(model_.network, x); }))
      return f;
    for (const int bits : what_.bits) {
      for (const accuracy_recipe& recipe : what_.recipes) {
        if (repquant::failure f = add_recipe(recipe, bits)) return f.within(recipe.name);
      }
    }
    bar_.end();
    return std::move(rows_);
  }

 private:
  [[nodiscard]] std::string title(const accuracy_row& row) const {
    return model_.name + " " + row.recipe + " " + bits_text(row.bits, row.weight_bits);
  }

  repquant::failure add_recipe(const accuracy_recipe& recipe, int bits) {
    accuracy_row row{
        .recipe = recipe.name, .bits = bits, .weight_bits = what_.weight_bits, .engine = recipe.engine};
    bar_.begin(title(row) + ": quantize");
    const auto start = std::chrono::steady_clock::now();
    const auto made = recipe.quantize({model_, bits, what_.weight_bits > 0 ? what_.weight_bits : bits,
                                       what_.exec, [&](index done, index all) { return bar_(done, all); },
                                       what_.calibration, what_.refinement_steps});
    if (!made) return made.error();
    row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    row.calibration_samples = made->calibration_samples;
    if (what_.worst_sites > 0 && made->model != nullptr) {
      row.error_report = site_table(made->model->report(), what_.worst_sites).text() + "\n" +
                         layer_table(made->model->report(), what_.worst_sites).text();
    }
    if (repquant::failure f = add(row, made->run)) return f;
    if (made->model == nullptr) return {};
    for (const std::string& exact : what_.float_sites) {
      const float_sites_model partly(made->model, exact);
      if (partly.exact_sites() == 0) continue;
      accuracy_row other = row;
      other.recipe = recipe.name + ", float " + exact;
      other.engine = "simulated";
      other.error_report.clear();
      if (repquant::failure f =
              add(std::move(other), [&](const repquant::matrix<>& x) { return partly.run(x); }))
        return f;
    }
    return {};
  }

  repquant::failure add(accuracy_row row, const sample_runner& run) {
    bar_.begin(title(row) + ": " + row.engine + " run");
    auto logits = logits_of(model_, run, what_.exec, bar_);
    if (!logits) return logits.error();
    if (reference_.empty()) reference_ = *logits;
    row.model = model_.name;
    row.accuracy = model_.accuracy;
    row.scores = scores_of(model_, reference_, *logits, what_.exec);
    row.quality = quality_of(row.scores);
    rows_.push_back(std::move(row));
    return {};
  }

  const model_case& model_;
  const measurement& what_;
  progress& bar_;
  std::vector<repquant::matrix<>> reference_;  ///< logits of the float model
  std::vector<accuracy_row> rows_;
};

/// The rows of a model on its evaluation samples or, where `hold_out` is set, on its calibration samples, all
/// folds and splits together.
///
/// Errors  as measured_rows and hold_out
inline repquant::result<std::vector<accuracy_row>> measure(const model_case& m, const measurement& what,
                                                           progress& bar) {
  const auto rows_of = [&](model_case some) {
    const auto most = static_cast<std::size_t>(what.samples);
    if (most > 0 && most < some.evaluation.size()) some.evaluation.resize(most);
    return measured_rows(some, what, bar).measure();
  };
  if (!what.hold_out) return rows_of(m);
  std::vector<accuracy_row> all;
  for (const int seed : what.seeds) {
    auto cases = hold_out(m, what.folds, static_cast<std::uint64_t>(seed));
    if (!cases) return cases.error();
    for (held_out_case& c : *cases) {
      auto rows = rows_of(std::move(c.model));
      if (!rows) return rows.error();
      add_fold(all, *std::move(rows), c.measured, m.calibration.size());
    }
  }
  return all;
}

}  // namespace examples
