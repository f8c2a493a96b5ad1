// SPDX-License-Identifier: MIT
/// Divergence, cross-entropy, accuracy, their errors, and the bootstrap.
#include "support/metrics.hpp"

#include "catch.hpp"

namespace rq = repquant;
using examples::sample_score;

namespace {

rq::matrix<> row(std::initializer_list<float> values) {
  rq::matrix<> m(1, static_cast<rq::index>(values.size()));
  std::copy(values.begin(), values.end(), m.data());
  return m;
}
/// Samples of one row with these divergences.
std::vector<sample_score> scores(std::initializer_list<double> kl) {
  std::vector<sample_score> all;
  for (const double v : kl) all.push_back({1, v, 1, 2 * v, v > 2 ? 1.0 : 0.0});
  return all;
}

}  // namespace

TEST_CASE("metrics: divergence of known distributions", "[examples]") {
  // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2)
  const float three = std::log(3.0F);
  const double want = 0.75 * std::log(1.5) + 0.25 * std::log(0.5);
  const float p[] = {three, 0};
  const float shifted[] = {three + 50, 50};  // the same distribution
  const float q[] = {7, 7};
  CHECK(examples::kl_divergence(p, q) == Approx(want).epsilon(1e-6));
  CHECK(examples::kl_divergence(shifted, q) == Approx(want).epsilon(1e-5));  // log 3 + 50 is rounded
  CHECK(examples::kl_divergence(q, p) == Approx(0.5 * std::log(2.0 / 3) + 0.5 * std::log(2)).epsilon(1e-6));
  CHECK(examples::kl_divergence(p, p) == 0);
  const float far[] = {0, 1000};  // exp would leave double without the shift
  CHECK(examples::kl_divergence(q, far) == Approx(500 - std::log(2.0)));
  CHECK(examples::log_sum_exp(far) == Approx(1000));
}

TEST_CASE("metrics: a sample is scored row by row", "[examples]") {
  rq::matrix<> reference(3, 2);
  rq::matrix<> logits(3, 2);
  reference << std::log(3.0F), 0, 0, 0, 0, 5;
  logits << 0, 0, std::log(3.0F), 0, 0, 5;
  const std::vector<rq::index> labels{0, 1, -1};
  const sample_score s = examples::score(reference, logits, labels);
  CHECK(s.rows == 3);
  CHECK(s.labelled == 2);
  CHECK(s.cross_entropy == Approx(std::log(2.0) + std::log(4.0)));
  CHECK(s.hits == 1);  // of equal logits the first counts: row 0 hits, row 1 does not
  const double first = 0.75 * std::log(1.5) + 0.25 * std::log(0.5);
  const double second = 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0);
  CHECK(s.kl == Approx(first + second).epsilon(1e-6));
  const sample_score unlabelled = examples::score(reference, logits, {});
  CHECK(unlabelled.labelled == 0);
  CHECK(unlabelled.kl == s.kl);
  CHECK(std::isnan(examples::quality_of(std::vector<sample_score>{unlabelled}).accuracy.mean));
}

TEST_CASE("metrics: standard errors", "[examples]") {
  // 1, 2, 3, 6: mean 3, deviations 4 + 1 + 0 + 9 = 14, s^2 = 14 / 3, error sqrt(14 / 12)
  const std::vector<sample_score> four = scores({1, 2, 3, 6});
  const examples::model_quality q = examples::quality_of(four);
  CHECK(q.kl.mean == Approx(3));
  CHECK(q.kl.error == Approx(std::sqrt(14.0 / 12)));
  CHECK(q.cross_entropy.mean == Approx(6));
  CHECK(q.accuracy.mean == Approx(50));
  CHECK(q.accuracy.error == Approx(100 * std::sqrt(4 * 0.25 / 3 / 4)));

  // Samples of several rows count by their rows, and rows of one sample are not independent.
  const std::vector<sample_score> clusters{{2, 2, 0, 0, 0}, {2, 6, 0, 0, 0}};
  const examples::estimate e = examples::quality_of(clusters).kl;
  CHECK(e.mean == Approx(2));
  CHECK(e.error == Approx(std::sqrt(2 * (4 + 4)) / 4));
  CHECK(std::isnan(examples::quality_of(scores({1})).kl.error));
}

TEST_CASE("metrics: the share of a baseline that is removed", "[examples]") {
  const std::vector<sample_score> base = scores({4, 4, 4, 4});
  const std::vector<sample_score> ours = scores({1, 1, 3, 3});
  CHECK(examples::share_removed(base, ours) == Approx(0.5));
  CHECK(examples::share_removed(ours, base) == Approx(-1));
  const std::vector<double> shares = examples::bootstrap_shares(base, ours, 4000);
  CHECK(shares == examples::bootstrap_shares(base, ours, 4000));
  CHECK_FALSE(shares == examples::bootstrap_shares(base, ours, 4000, 2));
  double mean = 0;
  for (const double s : shares) mean += s / 4000;
  // k of the four draws are of the first two, k binomial: share (4 + 4 k / 2) / 16 = 1/4 + k/8, variance 1/64
  CHECK(mean == Approx(0.5).margin(4 * 0.125 / std::sqrt(4000.0)));
  const auto all = std::minmax_element(shares.begin(), shares.end());
  CHECK(*all.first == Approx(0.25));
  CHECK(*all.second == Approx(0.75));
  // Paired: a share that all samples agree on has no width.
  const auto [lo, hi] =
      examples::middle(examples::bootstrap_shares(scores({1, 10, 100}), scores({0.5, 5, 50}), 100));
  CHECK(lo == Approx(0.5));
  CHECK(hi == Approx(0.5));
}

TEST_CASE("metrics: the middle of values", "[examples]") {
  std::vector<double> values;
  for (int i = 200; i >= 0; --i) values.push_back(i);
  const auto [lo, hi] = examples::middle(values);
  CHECK(lo == Approx(5));
  CHECK(hi == Approx(195));
  CHECK(examples::middle({1, 2}, 0.5) == std::pair<double, double>(1.25, 1.75));
  CHECK(examples::middle({3}) == std::pair<double, double>(3, 3));
}

TEST_CASE("metrics: logits of embeddings are scaled cosines", "[examples]") {
  const std::vector<rq::matrix<>> embeddings{row({3, 4}), row({0, 2}), row({-4, 3})};
  const auto logits = examples::similarity_logits(embeddings, 10);
  REQUIRE(logits.size() == 3);
  CHECK(logits[0](0, 0) == Approx(10));
  CHECK(logits[0](0, 1) == Approx(8));
  CHECK(logits[0](0, 2) == Approx(0).margin(1e-6));
  CHECK(logits[2](0, 1) == Approx(6));
  CHECK(examples::similarity_logits(std::vector{row({0, 0})}, 10)[0](0, 0) == 0);
}

TEST_CASE("metrics: a change is of the same samples", "[examples]") {
  // rows, divergence, labelled rows, cross-entropy, hits
  const std::vector<examples::sample_score> before = {{1, 0, 1, 4, 1}, {1, 0, 1, 1, 0}, {2, 0, 2, 3, 1}};
  std::vector<examples::sample_score> after = before;
  after[0].cross_entropy += 1;
  after[1].cross_entropy += 3;
  after[1].hits += 1;
  const examples::model_change change = examples::change_of(before, after);
  // differences 1, 3, 0 of 1, 1, 2 rows: the mean is 1, the clusters are 0, 2 and 2 off it; float 8 / 4
  CHECK(change.cross_entropy.mean == Approx(50));
  CHECK(change.cross_entropy.error == Approx(50 * std::sqrt(1.5 * 8) / 4));
  CHECK(change.accuracy.mean == Approx(25));
  CHECK(examples::change_of(before, before).cross_entropy.error == 0);
  CHECK(std::isnan(examples::change_of(before, {after.data(), 2}).accuracy.mean));
}
