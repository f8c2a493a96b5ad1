// SPDX-License-Identifier: MIT
#include <repquant/block/quantize_attention.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "networks.hpp"

namespace rq = repquant;

namespace {

constexpr rq::uniform score_codec{.bits = 4};

/// The value of a code of x, from the definition alone.
double coded(double x, const rq::affine& p) {
  const auto s = static_cast<double>(p.scale);
  const double code = std::nearbyint(x / s) + p.zero_point;
  return (std::fmin(std::fmax(code, 0), 15) - p.zero_point) * s;
}

/// The oracle: what coding costs the heads of key/value head g, entry by entry.
double cost(const rq::attention_options& o, const rq::detail::attention_parameters& p, const rq::matrix<>& q,
            const rq::matrix<>& k, rq::index g) {
  const rq::index d = q.cols() / o.heads;
  const rq::index share = o.heads / o.kv_heads;
  double sum = 0;
  for (rq::index h = g * share; h < (g + 1) * share; ++h) {
    for (rq::index i = 0; i < q.rows(); ++i) {
      std::vector<double> score;
      std::vector<double> error;
      double total = 0;
      for (rq::index j = 0; j < k.rows(); ++j) {
        if (o.causal && j > i + k.rows() - q.rows()) break;
        double exact = 0;
        double rounded = 0;
        for (rq::index c = 0; c < d; ++c) {
          const double x = static_cast<double>(q(i, h * d + c));
          const double y = static_cast<double>(k(j, g * d + c));
          exact += x * y;
          rounded += coded(x, p.query[static_cast<std::size_t>(h * d + c)]) *
                     coded(y, p.key[static_cast<std::size_t>(g * d + c)]);
        }
        score.push_back(std::exp(static_cast<double>(o.scale) * exact));
        error.push_back(static_cast<double>(o.scale) * (rounded - exact));
        total += score.back();
      }
      double mean = 0;
      for (std::size_t j = 0; j < score.size(); ++j) mean += score[j] / total * error[j];
      for (std::size_t j = 0; j < score.size(); ++j)
        sum += score[j] / total * (error[j] - mean) * (error[j] - mean);
    }
  }
  return sum;
}

/// Range of each column.
std::vector<rq::affine> ranges(const rq::matrix<>& x) {
  std::vector<rq::affine> p;
  for (rq::index c = 0; c < x.cols(); ++c)
    p.push_back(score_codec.fit({x.col(c).minCoeff(), x.col(c).maxCoeff()}));
  return p;
}

}  // namespace

TEST_CASE("the error of scores is that of its definition", "[block]") {
  for (const rq::index tokens : {rq::index{1}, rq::index{9}, rq::index{40}}) {
    for (const bool causal : {false, true}) {
      const rq::matrix<> q = 2 * networks::random_samples(1, tokens, 24, 5).front();
      const rq::matrix<> k = 2 * networks::random_samples(1, 40, 12, 6).front();
      const rq::attention_options o{.heads = 4, .kv_heads = 2, .scale = 0.4F, .causal = causal};
      rq::detail::attention_parameters p{ranges(q), ranges(k), {}, {}};
      rq::detail::equalize_scores(o, score_codec, score_codec, p);
      for (rq::index g = 0; g < 2; ++g) {
        std::vector<rq::detail::score_sample> samples;
        for (rq::index h = 2 * g; h < 2 * g + 2; ++h) samples.push_back(rq::detail::scores_of(o, q, k, h, g));
        const double e = rq::detail::coded_score_cost(o, score_codec, score_codec, p, g, samples);
        CAPTURE(tokens, causal, g);
        CHECK(e > 0);
        CHECK(e == Approx(cost(o, p, q, k, g)).epsilon(1e-3));  // codes are float's, sums are float's
      }
    }
  }
}

TEST_CASE("a smaller product of scales narrows both sides alike", "[block]") {
  const rq::matrix<> q = networks::random_samples(1, 30, 8, 5).front();
  const rq::attention_options o{.heads = 2, .kv_heads = 2, .scale = 1};
  rq::detail::attention_parameters whole{ranges(q), ranges(q), {}, {}};
  rq::detail::attention_parameters less = whole;
  rq::detail::equalize_scores(o, score_codec, score_codec, whole);
  rq::detail::equalize_scores(o, score_codec, score_codec, less, 0.49);
  for (std::size_t c = 0; c < 8; ++c) {
    CHECK(static_cast<double>(less.query[c].scale) ==
          Approx(0.7 * static_cast<double>(whole.query[c].scale)).epsilon(1e-5));
    CHECK(static_cast<double>(less.key[c].scale) ==
          Approx(0.7 * static_cast<double>(whole.key[c].scale)).epsilon(1e-5));
  }
  for (std::size_t h = 0; h < 2; ++h) CHECK(less.score[h] == Approx(0.49 * whole.score[h]));
}

TEST_CASE("chosen score ranges cost no more than those that clip nothing", "[block]") {
  // one channel of each head has outliers, so that all others get steps that they need not have
  const rq::program p = networks::post_norm();
  const rq::step* attention = nullptr;
  for (const rq::step& s : p.steps) attention = s.kind == rq::step_kind::attention ? &s : attention;
  REQUIRE(attention != nullptr);
  const rq::naive_recipe recipe;
  const rq::shared_weights none;
  const auto chosen = [&](const auto& exec) {
    rq::detail::quantization<rq::naive_recipe, std::remove_cvref_t<decltype(exec)>> state(p, recipe, exec,
                                                                                          none);
    const networks::samples x = networks::random_samples(20, 9, 16, 3);
    REQUIRE_FALSE(state.stream.start(x));
    rq::step s = *attention;  // queries and keys are the input itself
    s.a = s.b = 0;
    rq::matrix<> all(0, 16);
    for (const rq::matrix<>& m : x) {
      all.conservativeResize(all.rows() + m.rows(), 16);
      all.bottomRows(m.rows()) = m;
    }
    rq::detail::attention_parameters given{ranges(all), ranges(all), {}, {}};
    for (std::size_t c = 0; c < 16; c += 4) given.query[c].scale *= 6;
    rq::detail::attention_parameters whole = given;
    rq::detail::equalize_scores(s.attention, score_codec, score_codec, whole);
    rq::detail::choose_score_ranges(state, s, score_codec, score_codec, given);
    double before = 0;
    double after = 0;
    for (rq::index n = 0; n < 16; ++n) {  // the samples that it looks at
      const rq::matrix<>& m = x[static_cast<std::size_t>(n * 20 / 16)];
      for (rq::index g = 0; g < s.attention.kv_heads; ++g) {
        before += cost(s.attention, whole, m, m, g);
        after += cost(s.attention, given, m, m, g);
      }
    }
    CHECK(after < 0.9 * before);
    std::vector<double> numbers = given.score;
    for (const rq::affine& a : given.query) numbers.push_back(static_cast<double>(a.scale));
    for (const rq::affine& a : given.key) numbers.push_back(a.zero_point);
    return numbers;
  };
  const std::vector<double> one = chosen(rq::inline_executor{});
  CHECK(one == chosen(rq::threads{.count = 3}));
}
