// SPDX-License-Identifier: MIT
/// The sets of samples of the trained models: what is in them, and that nothing is measured on what was
/// calibrated on.
#include <repquant/block/evaluate.hpp>

#include "models/all.hpp"
#include "unit/models/data.hpp"
#include <cstring>

namespace rq = repquant;

namespace {

std::string bytes_of(const rq::matrix<>& m) {
  return {reinterpret_cast<const char*>(m.data()), static_cast<std::size_t>(m.size()) * sizeof(float)};
}

struct expected {
  std::size_t calibration;
  std::size_t evaluation;
  const char* accuracy;
};

const std::map<std::string, expected> sets{
    {"vit_mnist", {256, 2000, "top1"}},
    {"fashion_mnist", {256, 0, "top1"}},  // 2,000 or 10,000, as they are installed
    {"fashion_mnist_unbalanced", {256, 0, "top1"}},
    {"kwt1_audio", {128, 250, "top1"}},
    {"albert_smiles", {100, 400, "masked_accuracy"}},
    {"stories260k", {64, 64, "next_token_accuracy"}},
    {"gpt_char4k", {22, 25, "next_token_accuracy"}},
    {"clip_tiny_multimodal", {96, 45, ""}},
};

/// The names of the models whose folders are there.
std::vector<std::string> present_models() {
  std::vector<std::string> all;
  for (const std::string& name : examples::model_names()) {
    if (!models::lacks(name.find("fashion") == 0 ? "fashion_mnist" : name)) all.push_back(name);
  }
  return all;
}

}  // namespace

TEST_CASE("every model has a name, and only those are known", "[models]") {
  const std::vector<std::string> names = examples::model_names();
  REQUIRE(names.size() == sets.size());
  for (const std::string& name : names) {
    CHECK(sets.count(name) == 1);
    const auto m = examples::load_model(name, "no such directory");
    REQUIRE_FALSE(m);
    CHECK(m.error().code == rq::errc::io);
  }
  CHECK(examples::load_model("vit", "no such directory").error().code == rq::errc::bad_option);
}

TEST_CASE("the samples of every model fit it, and the two sets have none in common", "[models]") {
  for (const std::string& name : present_models()) {
    CAPTURE(name);
    const auto loaded = examples::load_model(name, models::data_dir());
    REQUIRE(loaded);
    const examples::model_case& m = *loaded;
    const bool fashion = name.find("fashion") == 0;
    const expected want = sets.at(name);
    CHECK(m.name == name);
    CHECK(m.accuracy == want.accuracy);
    CHECK(m.calibration.size() == want.calibration);
    if (fashion) {
      CHECK((m.evaluation.size() == 2000 || m.evaluation.size() == 10000));
    } else {
      CHECK(m.evaluation.size() == want.evaluation);
    }
    CHECK((m.output == examples::output_kind::embedding) == (want.accuracy[0] == '\0'));
    std::set<std::string> known;
    rq::index wrong = 0;
    for (const auto* samples : {&m.calibration, &m.evaluation}) {
      for (const examples::model_sample& s : *samples) {
        wrong += rq::check_input(m.network, {s.input.rows(), s.input.cols()}, name) ? 1 : 0;
        wrong += rq::check_finite(s.input, name) ? 1 : 0;
        const bool labelled = want.accuracy[0] != '\0';
        const std::size_t rows = !s.rows.empty()        ? s.rows.size()
                                 : m.accuracy == "top1" ? 1
                                                        : static_cast<std::size_t>(s.input.rows());
        wrong += s.labels.size() == (labelled ? rows : 0) ? 0 : 1;
        for (const rq::index r : s.rows) wrong += r < 0 || r >= s.input.rows() ? 1 : 0;
        for (const rq::index l : s.labels) wrong += l < 0 || l >= m.network.output_cols() ? 1 : 0;
        if (samples == &m.calibration) {
          known.insert(bytes_of(s.input));
        } else {
          wrong += known.contains(bytes_of(s.input)) ? 1 : 0;
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("ALBERT calls one block twelve times", "[models]") {
  if (models::lacks("albert_smiles")) return;
  const auto model =
      examples::load_albert_weights(models::data_dir() + "/albert_smiles/weights.safetensors").value();
  const rq::program p = rq::record(model, 128).value();
  std::map<std::string, const rq::linear*> layers;
  for (const rq::step& s : p.steps) {
    if (s.kind == rq::step_kind::linear) layers[s.path] = &p.linears[static_cast<std::size_t>(s.layer)];
  }
  CHECK(layers.size() == 12 * 6 + 3);
  CHECK(layers.at("block.0.fc1")->weight == layers.at("block.11.fc1")->weight);
  CHECK(layers.at("block.0.attn.q")->weight != layers.at("block.0.attn.k")->weight);
}

TEST_CASE("the masks of ALBERT's calibration hide what they should", "[models]") {
  if (models::lacks("albert_smiles")) return;
  const std::string folder = models::data_dir() + "/albert_smiles";
  const auto measured = examples::read_masked_reactions(folder + "/mlm_dev.tsv").value();
  const auto vocabulary = examples::read_vocabulary(folder + "/vocab.txt").value();
  const std::string text = examples::read_text(folder + "/reactions_dev.txt").value();
  const auto spare = examples::spare_reactions(text, vocabulary, measured);
  REQUIRE(spare.size() == 100);
  std::size_t tokens = 0;
  std::size_t masked = 0;
  for (const examples::masked_reaction& r : spare) {
    CHECK((r.ids.front() == 12 && r.ids.back() == 13));
    CHECK((r.masked.front() >= 1 && r.masked.back() < static_cast<rq::index>(r.ids.size()) - 1));
    CHECK(std::count(r.ids.begin(), r.ids.end(), examples::smiles_vocabulary::unknown) == 0);
    tokens += r.ids.size() - 2;
    masked += r.masked.size();
  }
  CHECK(static_cast<double>(masked) / static_cast<double>(tokens) == Approx(0.15).margin(0.002));
}

TEST_CASE("captions to calibrate on are others than those to measure on", "[models]") {
  const std::string text = examples::read_text(examples::clip_captions).value();
  const auto captions = examples::split(text, '\n');
  const std::set<std::string_view> different(captions.begin(), captions.end());
  CHECK(captions.size() == 96);
  CHECK(different.size() == captions.size());
  for (const std::string_view c : captions) CHECK((!c.empty() && c.size() <= 30));
  if (models::lacks("clip_tiny_multimodal")) return;
  const std::string measured =
      examples::read_text(models::data_dir() + "/clip_tiny_multimodal/captions.txt").value();
  for (const std::string_view c : examples::split(measured, '\n')) CHECK_FALSE(different.contains(c));
}

TEST_CASE("variations of samples fit the model and depend on the generator alone", "[models]") {
  for (const std::string& name : present_models()) {
    CAPTURE(name);
    const examples::model_case m = examples::load_model(name, models::data_dir()).value();
    REQUIRE(m.vary);
    std::set<std::string> measured;
    for (const examples::model_sample& s : m.evaluation) measured.insert(bytes_of(s.input));
    const std::size_t training = m.calibration.size() / 2;
    std::vector<rq::index> among(training);
    std::iota(among.begin(), among.end(), rq::index{0});
    std::set<std::string> held_back;
    for (std::size_t k = training; k < m.calibration.size(); ++k)
      held_back.insert(bytes_of(m.calibration[k].input));
    std::set<std::string> seen;
    for (std::uint64_t number = 0; number < 40; ++number) {
      rq::splitmix64 random = rq::splitmix64::of(7, number);
      rq::splitmix64 again = rq::splitmix64::of(7, number);
      const examples::model_sample s = m.vary(among, random);
      const examples::model_sample t = m.vary(among, again);
      CHECK(bytes_of(s.input) == bytes_of(t.input));
      CHECK(s.rows == t.rows);
      CHECK(s.input.allFinite());
      REQUIRE(s.input.cols() == m.network.input_cols());
      if (name != "albert_smiles") CHECK(s.input.rows() == m.calibration.front().input.rows());
      CHECK(s.rows.empty() == m.calibration.front().rows.empty());
      for (const rq::index r : s.rows) CHECK((r >= 0 && r < s.input.rows()));
      CHECK(measured.count(bytes_of(s.input)) == 0);
      CHECK(held_back.count(bytes_of(s.input)) == 0);
      seen.insert(bytes_of(s.input));
      if (number == 0) CHECK(rq::evaluate(m.network, s.input));
    }
    CHECK(seen.size() > 30);
  }
}
