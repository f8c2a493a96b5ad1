// SPDX-License-Identifier: MIT
/// The rows and shares of examples/accuracy.
#include "support/accuracy_rows.hpp"

#include "catch.hpp"
#include "models/model_case.hpp"
#include "support/accuracy_evaluate.hpp"

namespace rq = repquant;

namespace {

examples::accuracy_row row(const std::string& model, const std::string& recipe, int bits,
                           const std::vector<double>& kl) {
  examples::accuracy_row r;
  r.model = model;
  r.accuracy = "top1";
  r.recipe = recipe;
  r.bits = bits;
  r.engine = "integer";
  r.calibration_samples = 32;
  r.seconds = 1.5;
  for (const double v : kl) r.scores.push_back({1, v, 1, 2 * v, 1});
  r.quality = examples::quality_of(r.scores);
  return r;
}
/// A runner that fails.
rq::result<rq::matrix<>> nothing(const rq::matrix<>& /*input*/) {
  return rq::failure{rq::errc::empty, "nothing", 0, 1};
}

}  // namespace

TEST_CASE("accuracy: one JSON row per metric", "[examples]") {
  examples::report report;
  const examples::accuracy_row reference = row("kwt1_audio", "float", 32, {0, 0});
  examples::accuracy_row r = row("kwt1_audio", "repquant", 4, {1, 3});
  examples::add_report_rows(report, r, reference.quality);
  const auto json = nlohmann::ordered_json::parse(report.text());
  REQUIRE(json["rows"].size() == 3);
  const auto& first = json["rows"][0];
  std::vector<std::string> keys;
  for (const auto& [key, value] : first.items()) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"model", "metric", "higher_is_better", "recipe", "weight_bits",
                                         "activation_bits", "engine", "value", "float_value",
                                         "calibration_samples", "seconds"});
  CHECK(first["metric"] == "kl");
  CHECK(first["higher_is_better"] == false);
  CHECK(first["value"] == 2.0);
  CHECK(first["float_value"] == 0.0);
  CHECK(json["rows"][1]["metric"] == "cross_entropy");
  CHECK(json["rows"][1]["value"] == 4.0);
  CHECK(json["rows"][2]["metric"] == "top1");
  CHECK(json["rows"][2]["higher_is_better"] == true);
  CHECK(json["rows"][2]["value"] == 100.0);

  // A model without labels has its divergence only.
  for (examples::sample_score& s : r.scores) s.labelled = s.cross_entropy = s.hits = 0;
  r.quality = examples::quality_of(r.scores);
  examples::report short_report;
  examples::add_report_rows(short_report, r, reference.quality);
  CHECK(nlohmann::ordered_json::parse(short_report.text())["rows"].size() == 1);
}

TEST_CASE("accuracy: shares compare the same model and width", "[examples]") {
  std::vector<examples::removed_share> shares;
  for (const std::string model : {"a", "b", "c"}) {
    const double half = model == "b" ? 0.25 : 0.5;
    std::vector<examples::accuracy_row> rows{row(model, "float", 32, {0, 0}), row(model, "base", 4, {2, 6}),
                                             row(model, "ours", 4, {2 * half, 6 * half}),
                                             row(model, "base", 8, {1, 1})};
    if (model != "c") rows.push_back(row(model, "ours", 8, {1, 0.5}));
    for (const auto& s : examples::removed_shares(rows, "base")) shares.push_back(s);
  }
  REQUIRE(shares.size() == 5);
  CHECK(shares[0].value == Approx(0.5));
  CHECK(shares[1].bits == 8);
  CHECK(shares[1].value == Approx(0.25));
  const auto of_two = examples::mean_shares(shares, {"a", "b"});
  REQUIRE(of_two.size() == 2);
  CHECK(of_two[0].value == Approx(0.625));
  CHECK(of_two[0].resampled.size() == shares[0].resampled.size());
  CHECK(of_two[0].resampled[7] == Approx(0.625));
  CHECK(of_two[1].value == Approx(0.25));
  CHECK(examples::mean_shares(shares, {"a", "b", "c"}).size() == 1);  // c has no row at 8 bits
  CHECK(examples::mean_shares(shares, {"a", "d"}).empty());
  const std::string text = examples::share_table(shares, of_two).text();
  CHECK(text.find("mean of 2") != std::string::npos);
  CHECK(text.find("62.5") != std::string::npos);
}

TEST_CASE("accuracy: numbers in the table", "[examples]") {
  CHECK(examples::with_error({1.25, 0.5}, 2) == "1.25 ± 0.50");
  CHECK(examples::with_error({1.25, std::nan("")}, 2) == "1.25");
  CHECK(examples::with_error({}, 2) == "-");
  examples::table t = examples::quality_table();
  const examples::accuracy_row before = row("m", "float", 32, {0.5, 2});
  examples::add_quality(t, before, before.scores);
  examples::add_quality(t, row("m", "ours", 4, {1, 3}), before.scores);
  CHECK(t.text().find("W4A4") != std::string::npos);
  CHECK(t.text().find("60.0 ± 20.0") != std::string::npos);
}

TEST_CASE("accuracy: the rows that count are scored, failures are told", "[examples]") {
  examples::model_case m;
  for (int i = 0; i < 3; ++i) m.evaluation.push_back({rq::matrix<>::Constant(4, 2, 1), {2, 0}, {1, 0}});
  const rq::threads exec{.count = 2};
  examples::progress bar(examples::plain_output::quiet, stderr, false);
  const auto rows = [](const rq::matrix<>& x) -> rq::result<rq::matrix<>> {
    rq::matrix<> y = x;
    for (rq::index i = 0; i < y.rows(); ++i) y(i, 0) = static_cast<float>(i);
    return y;
  };
  const auto logits = examples::logits_of(m, rows, exec, bar);
  REQUIRE(logits);
  REQUIRE((*logits)[1].rows() == 2);
  CHECK((*logits)[1](0, 0) == 2);
  CHECK((*logits)[1](1, 0) == 0);
  const auto scores = examples::scores_of(m, *logits, *logits, exec);
  CHECK(scores[2].rows == 2);
  CHECK(scores[2].kl == 0);
  CHECK(scores[2].hits == 0);  // row 2 says class 0, row 0 says class 1: labels are 1 and 0

  CHECK(examples::logits_of(m, nothing, exec, bar).error().code == rq::errc::empty);
  const auto endless = [](const rq::matrix<>& x) -> rq::result<rq::matrix<>> {
    return rq::matrix<>(x * std::numeric_limits<float>::infinity());
  };
  CHECK(examples::logits_of(m, endless, exec, bar).error().code == rq::errc::non_finite);

  for (examples::model_sample& s : m.evaluation) s = {rq::matrix<>::Constant(1, 2, 1), {}, {}};
  m.output = examples::output_kind::embedding;
  m.similarity_scale = 5;
  const auto same = [](const rq::matrix<>& x) -> rq::result<rq::matrix<>> { return x; };
  const auto similarities = examples::logits_of(m, same, exec, bar);
  REQUIRE(similarities);
  CHECK((*similarities)[0].cols() == 3);
  CHECK((*similarities)[0](0, 2) == Approx(5));
}
