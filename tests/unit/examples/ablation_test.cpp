// SPDX-License-Identifier: MIT
/// The ablation of the recipe, and the measuring of recipes.
#include "support/ablation.hpp"

#include "catch.hpp"
#include "support/accuracy_measure.hpp"
#include "unit/block/networks.hpp"

namespace rq = repquant;

namespace {

using networks::samples;

/// A class token, a block whose heads look at few tokens, a block called twice, a last norm, and the token's
/// row: work for every ingredient (shared layers take no target correction, flat attention no logarithmic
/// code).
rq::program small_network() {
  rq::encoder_block first = networks::random_encoder(16, 32, 2, 60);
  first.q.weight *= 100;
  const rq::encoder_block b = networks::random_encoder(16, 32, 2, 50);
  const rq::matrix<> angles = networks::random_matrix(6, 4, 1, 77);
  const rq::matrix<> cosines = angles.array().cos().matrix();
  const rq::matrix<> sines = angles.array().sin().matrix();
  return rq::record(networks::block{[&](rq::trace& t, rq::value x) {
                      x = t.prepend_row("class", networks::random_matrix(1, 16, 1, 9), x);
                      {
                        const auto scope = t.scope("first");
                        x = first.forward(t, x);
                      }
                      for (rq::index i = 0; i < 2; ++i) {
                        const auto scope = t.scope("layer", i);
                        x = b.forward(t, x);
                      }
                      {
                        const auto scope = t.scope("turned");
                        const auto turned = [&](const std::string& name, unsigned seed) {
                          const rq::value v = t.linear(name, networks::random_linear(16, 16, seed), x);
                          return t.rotate("turn_" + name, cosines, sines, 2, v);
                        };
                        const rq::value q = turned("q", 31);
                        const rq::value k = turned("k", 32);
                        const rq::value v = t.linear("v", networks::random_linear(16, 16, 33), x);
                        const rq::value a = t.attention("attn", {.heads = 2}, q, k, v);
                        x = t.add(x, t.linear("out", networks::random_linear(16, 16, 34), a));
                      }
                      x = t.norm("norm", networks::random_norm(16, 8), x);
                      return t.linear("head", networks::random_linear(5, 16, 3), t.select_row(0, x));
                    }},
                    16)
      .value();
}
std::vector<std::byte> bytes_of(const rq::result<rq::quantized_model>& m) {
  REQUIRE(m);
  return {m->bytes().begin(), m->bytes().end()};
}
std::vector<std::byte> quantized(const examples::ablation_recipe& r) {
  static const rq::program p = small_network();
  static const samples x = networks::random_samples(24, 5, 16, 5);
  return bytes_of(rq::quantize_program(p, x, rq::with_bits(r, 4, 4), networks::executor{2}));
}

/// A case of four samples, and recipes that add a number to its second logit.
examples::model_case small_case() {
  examples::model_case m;
  m.name = "small";
  m.accuracy = "top1";
  m.network = rq::record(networks::block{[](rq::trace& t, rq::value x) {
                           return t.linear("head", networks::random_linear(3, 4, 3), x);
                         }},
                         4)
                  .value();
  for (unsigned i = 0; i < 4; ++i) {
    m.evaluation.push_back({networks::random_matrix(2, 4, 1, i), {0}, {1}});
    m.calibration.push_back({networks::random_matrix(2, 4, 1, 10 + i), {1}, {0}});
  }
  return m;
}
examples::accuracy_recipe shifted(const std::string& name, float by) {
  return {name, "simulated", [by](const examples::recipe_task& task) -> rq::result<examples::recipe_result> {
            const rq::program& p = task.model.network;
            const float step = by / static_cast<float>(task.bits * task.weight_bits);
            return examples::recipe_result{[&p, step](const rq::matrix<>& x) -> rq::result<rq::matrix<>> {
                                             rq::matrix<> y = *rq::evaluate(p, x);
                                             y.col(1).array() += step;
                                             return y;
                                           },
                                           task.model.calibration.size()};
          }};
}

}  // namespace

TEST_CASE("ablation: all ingredients are the recipe, none are plain rounding", "[examples]") {
  const rq::program p = small_network();
  const samples x = networks::random_samples(24, 5, 16, 5);
  CHECK(quantized(examples::recipe_without("")) == bytes_of(networks::quantize(p, x, "repquant", 4, 4)));
  CHECK(quantized(examples::recipe_with_only("")) == bytes_of(networks::quantize(p, x, "naive", 4, 4)));
  const examples::ablation_recipe fed = examples::whole_recipe("repquant_feedback");
  CHECK(quantized(fed) == bytes_of(rq::quantize_program(p, x, rq::with_bits(rq::feedback_recipe{}, 4, 4))));
  CHECK(quantized(examples::recipe_without("feedback", fed)) == quantized(examples::recipe_without("")));
}

TEST_CASE("ablation: each ingredient changes the model", "[examples]") {
  const examples::ablation_recipe all = examples::whole_recipe("repquant_feedback");
  const auto whole = quantized(all);
  const auto plain = quantized(examples::recipe_with_only("", all));
  for (const std::string& name : examples::ingredient_names()) {
    INFO(name);
    CHECK(quantized(examples::recipe_without(name, all)) != whole);
    // these change what others do: a correction, a range per channel, a least error, weights that differ by
    // call, or that are the same, and bases
    if (name == "residual_target" || name == "widen_ranges") continue;
    if (name == "selected_weight" || name == "share_weights" || name == "ratio_rounds" || name == "mix_heads")
      continue;
    CHECK(quantized(examples::recipe_with_only(name, all)) != plain);
  }
}

TEST_CASE("ablation: the table sets rows beside the plain and the whole recipe", "[examples]") {
  const auto row = [](const std::string& recipe, int bits, double kl) {
    examples::accuracy_row r;
    r.recipe = recipe;
    r.bits = bits;
    r.scores = {{1, kl, 0, 0, 0}, {1, kl, 0, 0, 0}};
    r.quality = examples::quality_of(r.scores);
    return r;
  };
  const std::vector<examples::accuracy_row> rows = {row("plain", 4, 8),    row("only a", 4, 6),
                                                    row("repquant", 4, 2), row("without a", 4, 3),
                                                    row("only a", 8, 100), row("plain", 8, 200)};
  const std::string text = examples::ablation_table(rows, 4, {"a", "b"}, "repquant").text();
  CHECK(text.find("25.0") != std::string::npos);
  CHECK(text.find("1.500") != std::string::npos);
  CHECK(text.find("100") == std::string::npos);
  CHECK(examples::ablation_table(rows, 8, {"a"}, "repquant").text().find("100") ==
        std::string::npos);  // no whole recipe
}

TEST_CASE("measure: the float model first, then every width and recipe", "[examples]") {
  const examples::model_case m = small_case();
  examples::progress bar(examples::plain_output::quiet, stderr, false);
  examples::measurement what;
  what.recipes = {shifted("none", 0), shifted("some", 16)};
  what.bits = {2, 4};
  what.exec = {.count = 2};
  const auto rows = examples::measure(m, what, bar);
  REQUIRE(rows);
  REQUIRE(rows->size() == 5);
  CHECK((*rows)[0].recipe == "float");
  CHECK((*rows)[0].quality.kl.mean == 0);
  CHECK((*rows)[1].quality.kl.mean == 0);
  CHECK((*rows)[2].bits == 2);
  CHECK((*rows)[4].bits == 4);
  CHECK((*rows)[2].quality.kl.mean > (*rows)[4].quality.kl.mean);  // 4 added to a logit, and 1
  CHECK((*rows)[4].quality.kl.mean > 0);
  CHECK((*rows)[4].scores.size() == 4);
  CHECK((*rows)[4].model == "small");
  CHECK((*rows)[4].calibration_samples == 4);

  // another width of the weights is the recipe's and the row's
  what.bits = {4};
  what.weight_bits = 8;
  const auto wide = examples::measure(m, what, bar);
  REQUIRE(wide);
  CHECK((*wide)[2].weight_bits == 8);
  CHECK((*wide)[2].quality.kl.mean < (*rows)[4].quality.kl.mean);
  examples::report report;
  examples::add_report_rows(report, (*wide)[2], (*wide)[0].quality);
  const auto json = nlohmann::ordered_json::parse(report.text());
  CHECK(json["rows"][0]["weight_bits"] == 8);
  CHECK(json["rows"][0]["activation_bits"] == 4);

  what.samples = 3;
  CHECK(examples::measure(m, what, bar)->front().scores.size() == 3);
}

TEST_CASE("measure: held out, every calibration sample is measured once in each split", "[examples]") {
  const examples::model_case m = small_case();
  examples::progress bar(examples::plain_output::quiet, stderr, false);
  examples::measurement what;
  what.recipes = {shifted("some", 16)};
  what.bits = {4};
  what.hold_out = true;
  what.seeds = {3, 4, 5};
  const auto rows = examples::measure(m, what, bar);
  REQUIRE(rows);
  REQUIRE(rows->size() == 2);
  CHECK((*rows)[1].kl_by_fold.size() == 6);
  CHECK((*rows)[1].calibration_samples == 2);
  REQUIRE((*rows)[1].scores.size() == 4);
  for (const examples::sample_score& s : (*rows)[1].scores) CHECK(s.rows == 3);
  // this recipe learns nothing, so that it is the same on the calibration samples without a split
  examples::model_case swapped = m;
  std::swap(swapped.calibration, swapped.evaluation);
  what.hold_out = false;
  CHECK((*rows)[1].quality.kl.mean == Approx(examples::measure(swapped, what, bar)->back().quality.kl.mean));

  what.hold_out = true;
  what.folds = 5;
  CHECK(examples::measure(m, what, bar).error().code == rq::errc::bad_option);
}

TEST_CASE("measure: a recipe that fails is named", "[examples]") {
  examples::progress bar(examples::plain_output::quiet, stderr, false);
  examples::measurement what;
  what.recipes = {
      {"broken", "integer", [](const examples::recipe_task&) -> rq::result<examples::recipe_result> {
         return rq::failure{rq::errc::bad_bits, "weight", 9, 8};
       }}};
  const auto rows = examples::measure(small_case(), what, bar);
  REQUIRE_FALSE(rows);
  CHECK(std::string(rows.error().where).find("broken") != std::string::npos);
  CHECK(rows.error().code == rq::errc::bad_bits);
}
