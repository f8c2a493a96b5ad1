// SPDX-License-Identifier: MIT
/// Splits of calibration samples, and rows taken together over their folds.
#include "support/hold_out.hpp"

#include "catch.hpp"
#include <algorithm>
#include <numeric>
#include <set>
namespace rq = repquant;

namespace {

/// A case whose calibration sample i is the 1 x 1 matrix i.
examples::model_case numbered(int count) {
  examples::model_case m;
  m.name = "numbered";
  m.accuracy = "top1";
  m.similarity_scale = 3;
  for (int i = 0; i < count; ++i) {
    m.calibration.push_back({rq::matrix<>::Constant(1, 1, static_cast<float>(i)), {}, {i}});
  }
  m.evaluation.push_back({rq::matrix<>::Constant(1, 1, -1), {}, {-1}});
  return m;
}
float number(const examples::model_sample& s) { return s.input(0, 0); }

}  // namespace

TEST_CASE("hold out: each sample is measured once and calibrates elsewhere", "[examples]") {
  for (const int folds : {2, 3, 10}) {
    const examples::model_case m = numbered(10);
    const auto cases = examples::hold_out(m, folds, 7);
    REQUIRE(cases);
    REQUIRE(cases->size() == static_cast<std::size_t>(folds));
    std::vector<int> measured(10, 0);
    for (const examples::held_out_case& c : *cases) {
      CHECK(c.model.name == m.name);
      CHECK(c.model.accuracy == m.accuracy);
      CHECK(c.model.similarity_scale == m.similarity_scale);
      CHECK(c.model.calibration.size() + c.model.evaluation.size() == 10);
      CHECK(c.model.evaluation.size() >= 10U / static_cast<std::size_t>(folds));
      CHECK(c.model.evaluation.size() <= 10U / static_cast<std::size_t>(folds) + 1);
      REQUIRE(c.measured.size() == c.model.evaluation.size());
      for (std::size_t i = 0; i < c.measured.size(); ++i) {
        ++measured[c.measured[i]];
        CHECK(number(c.model.evaluation[i]) == static_cast<float>(c.measured[i]));
        CHECK(c.model.evaluation[i].labels == m.calibration[c.measured[i]].labels);
      }
      for (const examples::model_sample& s : c.model.calibration) {
        const auto at = static_cast<std::size_t>(number(s));
        CHECK(std::find(c.measured.begin(), c.measured.end(), at) == c.measured.end());
      }
      CHECK(std::is_sorted(c.measured.begin(), c.measured.end()));
    }
    CHECK(measured == std::vector<int>(10, 1));
  }
}

TEST_CASE("hold out: variations are made from samples that calibrate", "[examples]") {
  examples::model_case m = numbered(10);
  m.vary = [&](std::span<const rq::index> among, rq::splitmix64& random) {
    return m.calibration[static_cast<std::size_t>(
        among[static_cast<std::size_t>(random.below(static_cast<rq::index>(among.size())))])];
  };
  const auto cases = examples::hold_out(m, 2, 7);
  REQUIRE(cases);
  for (const examples::held_out_case& c : *cases) {
    std::vector<rq::index> all(c.model.calibration.size());
    std::iota(all.begin(), all.end(), rq::index{0});
    std::set<float> made;
    std::set<float> from;
    for (const examples::model_sample& s : c.model.calibration) from.insert(number(s));
    rq::splitmix64 random{3};
    for (int i = 0; i < 100; ++i) made.insert(number(c.model.vary(all, random)));
    CHECK(made == from);
    const rq::index first[] = {0};
    CHECK(number(c.model.vary(first, random)) == number(c.model.calibration.front()));
  }
}

TEST_CASE("hold out: the seed decides the split", "[examples]") {
  const examples::model_case m = numbered(64);
  const auto split = [&](std::uint64_t seed) { return examples::hold_out(m, 2, seed)->front().measured; };
  CHECK(split(1) == split(1));
  CHECK(split(1) != split(2));
  CHECK(split(0) != split(1));
}

TEST_CASE("hold out: needs a sample for each part", "[examples]") {
  CHECK(examples::hold_out(numbered(3), 3, 1));
  const auto none = examples::hold_out(numbered(3), 4, 1);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == rq::errc::bad_option);
  CHECK(none.error().got == 3);
  CHECK(none.error().want == 4);
}

TEST_CASE("hold out: folds of two splits make one row", "[examples]") {
  const auto fold = [](std::vector<double> kl, double seconds, std::size_t calibration) {
    examples::accuracy_row r;
    r.model = "m";
    r.recipe = "ours";
    r.bits = 4;
    r.seconds = seconds;
    r.calibration_samples = calibration;
    for (const double v : kl) r.scores.push_back({1, v, 1, 2 * v, v < 2 ? 1.0 : 0.0});
    r.quality = examples::quality_of(r.scores);
    return r;
  };
  std::vector<examples::accuracy_row> all;
  const std::vector<std::size_t> ends{0, 2};
  const std::vector<std::size_t> middle{1};
  examples::add_fold(all, {fold({1, 3}, 4, 1)}, ends, 3);
  examples::add_fold(all, {fold({5}, 2, 2)}, middle, 3);
  examples::add_fold(all, {fold({2, 2}, 4, 1)}, ends, 3);
  examples::add_fold(all, {fold({1}, 2, 2)}, middle, 3);
  REQUIRE(all.size() == 1);
  const examples::accuracy_row& r = all.front();
  REQUIRE(r.scores.size() == 3);
  CHECK(r.scores[0].rows == 2);  // in both splits, and one sample all the same
  CHECK(r.scores[0].kl == 3);
  CHECK(r.scores[1].kl == 6);
  CHECK(r.scores[2].kl == 5);
  CHECK(r.quality.kl.mean == Approx(14.0 / 6));
  // clusters of two rows, means 1.5, 3, 2.5: sqrt(3/2 ((-5/3)^2 + (4/3)^2 + (1/3)^2)) / 6
  CHECK(r.quality.kl.error == Approx(std::sqrt(1.5 * 42 / 9) / 6));
  CHECK(r.quality.accuracy.mean == Approx(100.0 / 3));
  CHECK(r.kl_by_fold == std::vector<double>{2, 5, 2, 1});
  CHECK(examples::deviation(r.kl_by_fold) == Approx(std::sqrt(3.0)));
  CHECK(r.seconds == Approx(3));
  CHECK(r.calibration_samples == 1);

  examples::report report;
  examples::add_report_rows(report, r, {});
  const auto json = nlohmann::ordered_json::parse(report.text());
  CHECK(json["rows"][0]["by_fold"] == std::vector<double>{2, 5, 2, 1});
  CHECK_FALSE(json["rows"][1].contains("by_fold"));
  examples::table t = examples::quality_table(true);
  examples::add_quality(t, r, {});
  CHECK(t.text().find("1.73205") != std::string::npos);
}

TEST_CASE("hold out: a deviation needs two values", "[examples]") {
  CHECK(std::isnan(examples::deviation(std::vector<double>{1})));
  CHECK(std::isnan(examples::deviation({})));
  CHECK(examples::deviation(std::vector<double>{1, 4}) == Approx(std::sqrt(4.5)));
}
