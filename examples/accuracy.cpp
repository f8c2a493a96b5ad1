// SPDX-License-Identifier: MIT
/// What is left of real transformers: every recipe at three widths on models of several kinds, measured by
/// the divergence of the output from the float model's, beside the published RepQ-ViT; and what shows why:
/// the ablation of the recipe, single classes of sites in float, the worst sites. See docs/accuracy.md.
#include "models/all.hpp"
#include "support/accuracy_measure.hpp"
#include "support/accuracy_recipes.hpp"
#include "support/accuracy_rows.hpp"
#include "support/fail.hpp"
#include "support/options.hpp"
#include "support/progress.hpp"
#include <limits>

namespace {

namespace rq = repquant;

constexpr const char* program = "accuracy";

/// The models that the mean is taken over: one of each kind.
const std::vector<std::string> mean_models = {"kwt1_audio", "fashion_mnist", "albert_smiles", "stories260k",
                                              "clip_tiny_multimodal"};

struct settings {
  std::string data;
  std::string report;
  std::vector<std::string> models = examples::model_names();
  std::vector<std::string> recipes;
  std::vector<std::string> ingredients = examples::ingredient_names();
  std::vector<std::string> shared_weights = {"one"};
  std::vector<std::string> ablation = {};
  int feedback_block = static_cast<int>(rq::feedback_recipe{}.feedback_block);
  int threads = 0;
  examples::measurement what;
};

/// Where the recipes come from.
std::vector<examples::accuracy_recipe> chosen_recipes(const settings& s) {
  if (!s.ablation.empty()) return examples::ablation_recipes(s.ablation.back(), s.ingredients);
  std::vector<examples::accuracy_recipe> all =
      examples::accuracy_recipes(s.shared_weights.back() == "one", s.feedback_block);
  std::erase_if(all, [&](const examples::accuracy_recipe& r) {
    return std::find(s.recipes.begin(), s.recipes.end(), r.name) == s.recipes.end();
  });
  return all;
}

/// What was measured of one model: the rows, and what they say when set beside each other.
void print(const examples::model_case& m, const settings& s,
           const std::vector<examples::accuracy_row>& rows) {
  const examples::measurement& what = s.what;
  if (what.hold_out) {
    std::printf("\n%s: %zu calibration samples, %d folds, %zu splits\n", m.name.c_str(), m.calibration.size(),
                what.folds, what.seeds.size());
  } else {
    std::printf("\n%s: %zu samples\n", m.name.c_str(), rows.front().scores.size());
  }
  examples::table table = examples::quality_table(what.hold_out);
  int bits = rows.front().bits;
  for (const examples::accuracy_row& r : rows) {
    if (r.bits != bits) table.rule();
    bits = r.bits;
    examples::add_quality(table, r, rows.front().scores);
  }
  table.print(stdout);
  for (const examples::accuracy_row& r : rows) {
    if (r.error_report.empty()) continue;
    std::printf("\n%s %s %s: the worst sites and layers\n%s", m.name.c_str(), r.recipe.c_str(),
                examples::bits_text(r.bits, r.weight_bits).c_str(), r.error_report.c_str());
  }
  for (const int width : what.bits) {
    if (s.ablation.empty()) continue;
    std::printf("\n%s %s: each ingredient alone and left out\n", m.name.c_str(),
                examples::bits_text(width, what.weight_bits).c_str());
    examples::ablation_table(rows, width, s.ingredients, s.ablation.back()).print(stdout);
  }
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
  o.add("bits", "LIST", "widths of weights and activations", s.what.bits, 2, 8);
  o.add("weight-bits", "N", "width of the weights where it is another one, 0 for none", s.what.weight_bits, 0,
        8);
  o.add("recipe", "LIST", "recipes", s.recipes, names);
  o.add("samples", "N", "samples to evaluate on, 0 for all", s.what.samples, 0,
        std::numeric_limits<int>::max());
  o.add("shared-weights", "WORD", "sets of codes for a layer that is called several times", s.shared_weights,
        {"one", "each"});
  o.add("feedback-block", "N", "channels that make up for each other in repquant_feedback", s.feedback_block,
        1, static_cast<int>(rq::error_feedback::most));
  o.add("float-site", "LIST", "classes of sites to leave in float, one at a time", s.what.float_sites,
        examples::site_classes());
  o.add("sites", "N", "list the N worst sites and layers", s.what.worst_sites, 0, 10000);
  o.add("ablation", "WORD", "measure each ingredient of this recipe alone and left out", s.ablation,
        examples::whole_recipes);
  o.add("ingredient", "LIST", "ingredients of the ablation", s.ingredients, examples::ingredient_names());
  o.add("calibration", "N", "samples up to which variations fill the calibration set, 0 for none of them",
        s.what.calibration, 0, std::numeric_limits<int>::max());
  o.add("refinement-steps", "N", "steps in a stage of refinement at most", s.what.refinement_steps, 1,
        std::numeric_limits<int>::max());
  o.flag("hold-out", "judge on calibration samples alone, each part by what the others made",
         s.what.hold_out);
  o.add("folds", "N", "parts of the calibration samples", s.what.folds, 2, 64);
  o.add("seed", "LIST", "a split of the calibration samples for each", s.what.seeds, 0,
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

  if (s.what.weight_bits == 1) return examples::fail(program, "--weight-bits: 0, or from 2 to 8");
  s.what.exec = {.count = s.threads};
  s.what.recipes = chosen_recipes(s);

  examples::progress bar(examples::plain_output::lines);
  examples::report report;
  report.set("program", program);
  report.set("shared_weights", s.shared_weights.back());
  report.set("hold_out", s.what.hold_out);
  std::vector<examples::removed_share> shares;
  for (const std::string& name : s.models) {
    const auto m = examples::load_model(name, s.data);
    if (!m) return examples::fail(program, m.error());
    const auto rows = examples::measure(*m, s.what, bar);
    bar.end();
    if (!rows) return examples::fail(program, rows.error().within(name));
    print(*m, s, *rows);
    for (const examples::accuracy_row& r : *rows) examples::add_report_rows(report, r, rows->front().quality);
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
