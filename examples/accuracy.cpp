// SPDX-License-Identifier: MIT
/// What is left of real transformers: every recipe at three widths on models of several kinds, measured by
/// the divergence of the output from the float model's, beside the published RepQ-ViT. See docs/accuracy.md.
#include "models/all.hpp"
#include "support/accuracy_evaluate.hpp"
#include "support/accuracy_recipes.hpp"
#include "support/accuracy_rows.hpp"
#include "support/fail.hpp"
#include "support/hold_out.hpp"
#include "support/options.hpp"
#include "support/progress.hpp"
#include <chrono>
#include <limits>

namespace {

namespace rq = repquant;
using clock_type = std::chrono::steady_clock;

constexpr const char* program = "accuracy";

/// The models that the mean is taken over: one of each kind.
const std::vector<std::string> mean_models = {"kwt1_audio", "fashion_mnist", "albert_smiles", "stories260k",
                                              "clip_tiny_multimodal"};

struct settings {
  std::string data;
  std::string report;
  std::vector<std::string> models = examples::model_names();
  std::vector<std::string> recipes;
  std::vector<int> bits = {4, 6, 8};
  int samples = 0;
  int threads = 0;
  bool hold_out = false;
  int folds = 2;
  std::vector<int> seeds = {1};
};

double seconds_since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

void limit_evaluation(examples::model_case& m, const settings& s) {
  const auto most = static_cast<std::size_t>(s.samples);
  if (s.samples > 0 && most < m.evaluation.size()) m.evaluation.resize(most);
}

/// All rows of a model, the float one first.
rq::result<std::vector<examples::accuracy_row>> measure(const examples::model_case& m, const settings& s,
                                                        examples::progress& bar) {
  const rq::threads exec{.count = s.threads};
  std::vector<examples::accuracy_row> rows;
  bar.begin(m.name + " float");
  const auto reference = examples::logits_of(
      m, [&](const rq::matrix<>& x) { return rq::evaluate(m.network, x); }, exec, bar);
  if (!reference) return reference.error().within(m.name);
  const auto add = [&](examples::accuracy_row row, const std::vector<rq::matrix<>>& logits) {
    row.model = m.name;
    row.accuracy = m.accuracy;
    row.scores = examples::scores_of(m, *reference, logits, exec);
    row.quality = examples::quality_of(row.scores);
    rows.push_back(std::move(row));
  };
  add({.recipe = "float", .bits = 32, .engine = "float"}, *reference);
  for (const int bits : s.bits) {
    for (const examples::accuracy_recipe& recipe : examples::accuracy_recipes()) {
      if (std::find(s.recipes.begin(), s.recipes.end(), recipe.name) == s.recipes.end()) continue;
      const std::string title = m.name + " " + recipe.name + " " + examples::bits_text(bits);
      bar.begin(title + ": quantize");
      const auto start = clock_type::now();
      const auto model =
          recipe.quantize({m, bits, exec, [&](rq::index done, rq::index all) { return bar(done, all); }});
      if (!model) return model.error().within(title);
      const double seconds = seconds_since(start);
      bar.begin(title + ": " + recipe.engine + " run");
      const auto logits = examples::logits_of(m, model->run, exec, bar);
      if (!logits) return logits.error().within(title);
      add({.recipe = recipe.name,
           .bits = bits,
           .engine = recipe.engine,
           .calibration_samples = model->calibration_samples,
           .seconds = seconds},
          *logits);
    }
  }
  bar.end();
  return rows;
}

/// The same on calibration samples alone: each fold of each split measured, and all taken together.
rq::result<std::vector<examples::accuracy_row>> measure_held_out(const examples::model_case& m,
                                                                 const settings& s, examples::progress& bar) {
  std::vector<examples::accuracy_row> all;
  for (const int seed : s.seeds) {
    auto cases = examples::hold_out(m, s.folds, static_cast<std::uint64_t>(seed));
    if (!cases) return cases.error();
    for (examples::held_out_case& c : *cases) {
      limit_evaluation(c.model, s);
      auto rows = measure(c.model, s, bar);
      if (!rows) return rows.error();
      examples::add_fold(all, *std::move(rows), c.measured, m.calibration.size());
    }
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  std::vector<std::string> names;
  for (const examples::accuracy_recipe& r : examples::accuracy_recipes()) names.push_back(r.name);
  s.recipes = names;
  examples::options o(program, "quantizes trained transformers and says what is left of them.");
  o.add("data", "DIR", "the folders of the models (docs/accuracy.md)", s.data);
  o.add("model", "LIST", "models", s.models, examples::model_names());
  o.add("bits", "LIST", "widths of weights and activations", s.bits, 2, 8);
  o.add("recipe", "LIST", "recipes", s.recipes, names);
  o.add("samples", "N", "samples to evaluate on, 0 for all", s.samples, 0, std::numeric_limits<int>::max());
  o.flag("hold-out", "judge on calibration samples alone, each part by what the others made", s.hold_out);
  o.add("folds", "N", "parts of the calibration samples", s.folds, 2, 64);
  o.add("seed", "LIST", "a split of the calibration samples for each", s.seeds, 0,
        std::numeric_limits<int>::max());
  o.add("threads", "N", "threads, 0 for all cores", s.threads, 0, 256);
  o.add("report", "FILE", "where to write the rows as JSON", s.report);
  if (const auto code = o.parse(argc, argv)) return *code;
  if (s.data.empty()) {
    return examples::fail(
        program, "needs --data DIR, a directory with the trained models that docs/accuracy.md lists");
  }
  if (!s.report.empty()) {
    if (rq::failure f = examples::check_writable(s.report)) return examples::fail(program, f);
  }

  examples::progress bar(examples::plain_output::lines);
  examples::report report;
  report.set("program", program);
  std::vector<examples::removed_share> shares;
  for (const std::string& name : s.models) {
    auto m = examples::load_model(name, s.data);
    if (!m) return examples::fail(program, m.error());
    limit_evaluation(*m, s);
    const auto rows = s.hold_out ? measure_held_out(*m, s, bar) : measure(*m, s, bar);
    bar.end();
    if (!rows) return examples::fail(program, rows.error());
    examples::table table = examples::quality_table(s.hold_out);
    int bits = rows->front().bits;
    for (const examples::accuracy_row& r : *rows) {
      if (r.bits != bits) table.rule();
      bits = r.bits;
      examples::add_quality(table, r);
      examples::add_report_rows(report, r, rows->front().quality);
    }
    if (s.hold_out) {
      std::printf("\n%s: %zu calibration samples, %d folds, %zu splits\n", name.c_str(),
                  m->calibration.size(), s.folds, s.seeds.size());
    } else {
      std::printf("\n%s: %zu samples\n", name.c_str(), m->evaluation.size());
    }
    table.print(stdout);
    for (examples::removed_share& share : examples::removed_shares(*rows, examples::baseline_recipe)) {
      shares.push_back(std::move(share));
    }
  }
  if (!shares.empty()) {
    std::printf("\nShare of %s's divergence from the float model that is removed\n",
                examples::baseline_recipe);
    examples::share_table(shares, examples::mean_shares(shares, mean_models)).print(stdout);
  }
  if (!s.report.empty()) {
    if (rq::failure f = report.write(s.report)) return examples::fail(program, f);
  }
  return 0;
}
