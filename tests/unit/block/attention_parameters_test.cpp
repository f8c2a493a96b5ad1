// SPDX-License-Identifier: MIT
/// What quantize_block does to channel-wise parameters before it encodes with them.
#include <repquant/block/encode_inputs.hpp>
#include <repquant/block/quantize_attention.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include "catch.hpp"
#include "networks.hpp"
#include <random>

namespace rq = repquant;

namespace {

constexpr rq::uniform four_bits{.bits = 4};

/// Parameters of channels whose sizes differ by `ratio` at most, ranges anywhere about zero.
std::vector<rq::affine> channels(rq::index n, double ratio, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> size(-0.5, 0.5);
  std::uniform_int_distribution<int> zero(-10, 25);
  std::vector<rq::affine> p;
  for (rq::index i = 0; i < n; ++i) {
    p.push_back({static_cast<float>(0.1 * std::pow(ratio, size(engine))), zero(engine)});
  }
  return p;
}
/// The range that codes of these parameters reach.
std::pair<double, double> reach(const rq::uniform& codec, const rq::affine& p) {
  const auto s = static_cast<double>(p.scale);
  return {-p.zero_point * s, (codec.levels() - 1 - p.zero_point) * s};
}
/// Checks that `after` is no narrower than `before`, about the same middle up to the rounding of its zero.
void check_wider(const rq::uniform& codec, const rq::affine& before, const rq::affine& after) {
  const auto [low, high] = reach(codec, before);
  const auto [lower, higher] = reach(codec, after);
  CHECK(higher - lower >= (high - low) * (1 - 1e-6));
  CHECK(std::fabs((lower + higher) - (low + high)) / 2 <= 0.5001 * static_cast<double>(after.scale));
}

}  // namespace

TEST_CASE("scales of queries and keys multiply to one number per head", "[block]") {
  struct heads {
    rq::index query, key, size;
  };
  const auto h = GENERATE(heads{1, 1, 8}, heads{4, 4, 8}, heads{4, 2, 8}, heads{6, 1, 3}, heads{2, 2, 1});
  const rq::uniform wide{.bits = 8};
  for (const rq::uniform& k_codec : {four_bits, wide}) {
    for (unsigned seed : {1U, 2U, 3U}) {
      rq::detail::attention_parameters p;
      p.query = channels(h.query * h.size, 30, seed);
      p.key = channels(h.key * h.size, 30, seed + 10);
      p.value = channels(h.key * h.size, 30, seed + 20);
      const rq::detail::attention_parameters before = p;
      rq::detail::equalize_scores({.heads = h.query, .kv_heads = h.key}, four_bits, k_codec, p);
      CAPTURE(h.query, h.key, h.size, k_codec.bits, seed);
      REQUIRE(p.score.size() == static_cast<std::size_t>(h.query));
      for (rq::index n = 0; n < h.query; ++n) {
        const rq::index g = n / (h.query / h.key);
        for (rq::index c = 0; c < h.size; ++c) {
          const auto q = static_cast<std::size_t>(n * h.size + c);
          const auto k = static_cast<std::size_t>(g * h.size + c);
          CHECK(static_cast<double>(p.query[q].scale) * static_cast<double>(p.key[k].scale) ==
                Approx(p.score[static_cast<std::size_t>(n)]).epsilon(1e-6));
          check_wider(four_bits, before.query[q], p.query[q]);
          check_wider(k_codec, before.key[k], p.key[k]);
        }
      }
      for (std::size_t i = 0; i < p.value.size(); ++i) {  // values have scales of their own
        CHECK(p.value[i].scale == before.value[i].scale);
        CHECK(p.value[i].zero_point == before.value[i].zero_point);
      }
    }
  }
}

TEST_CASE("one channel of a head keeps both its ranges", "[block]") {
  // heads of their own: the channel that asks for the largest product gets just that
  rq::detail::attention_parameters p;
  p.query = channels(16, 30, 5);
  p.key = channels(16, 30, 6);
  const rq::detail::attention_parameters before = p;
  rq::detail::equalize_scores({.heads = 2, .kv_heads = 2}, four_bits, four_bits, p);
  for (std::size_t h = 0; h < 2; ++h) {
    double largest = 0;
    double growth = 1e9;
    for (std::size_t c = 8 * h; c < 8 * h + 8; ++c) {
      largest = std::fmax(largest, static_cast<double>(before.query[c].scale * before.key[c].scale));
      growth = std::fmin(growth, static_cast<double>(p.query[c].scale / before.query[c].scale));
      // what a channel gets too much goes to both sides alike
      CHECK(p.query[c].scale / before.query[c].scale ==
            Approx(p.key[c].scale / before.key[c].scale).epsilon(1e-5));
    }
    CHECK(p.score[h] == Approx(largest).epsilon(1e-6));
    CHECK(growth == Approx(1).epsilon(1e-6));
  }
  // products that are equal stay as they are
  rq::detail::attention_parameters even;
  even.query = {{0.5F, 3}, {0.25F, 8}, {2, 7}, {1, -4}};
  even.key = {{0.5F, 3}, {1, 8}, {0.125F, 7}, {0.25F, 20}};
  rq::detail::attention_parameters same = even;
  rq::detail::equalize_scores({.heads = 1, .kv_heads = 1}, four_bits, four_bits, same);
  for (std::size_t c = 0; c < 4; ++c) {
    CHECK(same.query[c].scale == Approx(even.query[c].scale));
    CHECK(same.query[c].zero_point == even.query[c].zero_point);
    CHECK(same.key[c].zero_point == even.key[c].zero_point);
  }
}

TEST_CASE("channel-wise ranges of few tokens get a margin", "[block]") {
  const std::vector<rq::affine> before = channels(16, 10, 4);
  for (const rq::index tokens : {5, 20, 200}) {
    std::vector<rq::affine> wider = before;
    rq::detail::widen(four_bits, tokens, wider);
    const auto n = static_cast<double>(tokens);
    for (std::size_t c = 0; c < 16; ++c) {
      CAPTURE(tokens, c);
      CHECK(wider[c].scale == Approx(before[c].scale * (1 + 1 / std::sqrt(n) + 8 / n)).epsilon(1e-5));
      check_wider(four_bits, before[c], wider[c]);
    }
  }
}

TEST_CASE("channel scales of given ratios share one factor, chosen by their error", "[block]") {
  const rq::program p = networks::post_norm();  // q, k and v read value 0
  const rq::naive_recipe recipe;
  const rq::inline_executor exec;
  const rq::shared_weights none;
  rq::detail::quantization<rq::naive_recipe, rq::inline_executor> q(p, recipe, exec, none);
  const networks::samples x = networks::random_samples(6, 5, 16, 3);
  REQUIRE_FALSE(q.stream.start(x));
  std::vector<rq::affine> asked;
  for (rq::index c = 0; c < 16; ++c) {
    float low = 0;
    float high = 0;
    for (const rq::matrix<>& m : x) {
      low = std::fmin(low, m.col(c).minCoeff());
      high = std::fmax(high, m.col(c).maxCoeff());
    }
    asked.push_back(four_bits.fit({low, high}));
  }
  rq::column<double> ratios(16);
  for (rq::index c = 0; c < 16; ++c) ratios(c) = c % 2 == 0 ? 1.5 : 1 / 1.5;
  const auto chosen = rq::detail::with_ratios(q, 0, four_bits, asked, ratios);
  REQUIRE(chosen.params.size() == 16);
  CHECK(chosen.unit > 0);
  double importance[16] = {};
  for (std::size_t l = 0; l < 3; ++l) {
    for (rq::index c = 0; c < 16; ++c)
      importance[c] += p.linears[l].weight.col(c).cast<double>().squaredNorm();
  }
  // the error of ranges about the same middles, times a factor, computed apart
  const auto error = [&](double factor) {
    double sum = 0;
    for (std::size_t c = 0; c < 16; ++c) {
      const auto [low, high] = reach(four_bits, asked[c]);
      const double s = factor * ratios(static_cast<rq::index>(c));
      const double z = std::nearbyint(7.5 - (low + high) / 2 / s);
      for (const rq::matrix<>& m : x) {
        for (rq::index t = 0; t < m.rows(); ++t) {
          const auto value = static_cast<double>(m(t, static_cast<rq::index>(c)));
          const double code = std::fmin(std::fmax(std::nearbyint(value / s) + z, 0), 15);
          const double e = (code - z) * s - value;
          sum += importance[c] * e * e;
        }
      }
    }
    return sum;
  };
  double most = 0;
  double logs = 0;
  for (std::size_t c = 0; c < 16; ++c) {
    CAPTURE(c);
    const double ratio = ratios(static_cast<rq::index>(c));
    CHECK(static_cast<double>(chosen.params[c].scale) == Approx(chosen.unit * ratio).epsilon(1e-6));
    const double factor = static_cast<double>(asked[c].scale) / ratio;
    most = std::fmax(most, factor);
    logs += std::log(factor) / 16;
  }
  CHECK(chosen.unit <= most * (1 + 1e-9));
  CHECK(chosen.unit >= 0.7 * std::exp(logs) * (1 - 1e-9));
  CHECK(error(chosen.unit) <= error(most) * (1 + 1e-4));
  CHECK(error(chosen.unit) <= error(0.7 * std::exp(logs)) * (1 + 1e-4));
}
