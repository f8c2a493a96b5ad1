// SPDX-License-Identifier: MIT
#include <repquant/block/quantize_weights.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "networks.hpp"
#include <set>

namespace rq = repquant;

namespace {

/// Mean squared error of a program's output beside another's, over samples.
double distance(const rq::program& a, const rq::program& b, const networks::samples& inputs) {
  double sum = 0;
  double count = 0;
  for (const rq::matrix<>& x : inputs) {
    const rq::matrix<> d = rq::evaluate(a, x).value() - rq::evaluate(b, x).value();
    sum += d.cast<double>().squaredNorm();
    count += static_cast<double>(d.size());
  }
  return sum / count;
}
template<class Recipe>
rq::weight_only_program quantized(const rq::program& p, const networks::samples& s, const Recipe& r) {
  return rq::quantize_weights(p, std::span<const rq::matrix<>>(s), r).value();
}
/// The most different values that one row, or one group of it, has.
std::size_t most_levels(const rq::matrix<>& w, rq::index group) {
  std::size_t most = 0;
  for (rq::index i = 0; i < w.rows(); ++i) {
    for (rq::index j = 0; j < w.cols(); j += group) {
      const auto part = w.row(i).segment(j, std::min(group, w.cols() - j));
      most = std::max(most, std::set<float>(part.begin(), part.end()).size());
    }
  }
  return most;
}

}  // namespace

TEST_CASE("quantize_weights gives weights of few levels and nothing else", "[block]") {
  const rq::program p = networks::decoder_program();
  const networks::samples s = networks::random_samples(6, 12, 16, 1);
  for (const rq::index group : {0, 8, 32}) {
    const auto q = quantized(p, s, rq::with_weights(rq::weight_recipe{}, 3, group));
    REQUIRE(q.layers.size() == p.linears.size());
    for (std::size_t k = 0; k < p.linears.size(); ++k) {
      const rq::matrix<>& w = q.network.linears[k].weight;
      REQUIRE(w.rows() == p.linears[k].weight.rows());
      REQUIRE(w.cols() == p.linears[k].weight.cols());
      CHECK(most_levels(w, group == 0 ? w.cols() : group) <= 8);
      CHECK(q.layers[k].bits == 3);
      CHECK(q.layers[k].group == (group == 0 ? w.cols() : std::min(group, w.cols())));
      CHECK(q.layers[k].error > 0);
      CHECK(q.layers[k].error < 0.2);
    }
  }
}

TEST_CASE("a layer of zeros is quantized without a change", "[block]") {
  rq::program p = networks::encoder_program();
  p.linears[0].weight.setZero();
  const auto q = quantized(p, networks::random_samples(4, 8, 16, 1), rq::weight_recipe{});
  CHECK(q.layers[0].correction == 0);
  CHECK(q.layers[0].error == 0);
  CHECK(q.network.linears[0].weight.isZero(0));
}

TEST_CASE("plain rounding of weights is rounding under min-max ranges", "[block]") {
  const rq::program p = networks::encoder_program();
  const networks::samples s = networks::random_samples(3, 12, 16, 2);
  const auto q = quantized(p, s, rq::rounding_weight_recipe{});
  for (std::size_t k = 0; k < p.linears.size(); ++k) {
    const rq::matrix<>& w = p.linears[k].weight;
    for (rq::index i = 0; i < w.rows(); ++i) {
      const double lo = static_cast<double>(w.row(i).minCoeff());
      const double scale = (static_cast<double>(w.row(i).maxCoeff()) - lo) / 15;
      const double zero = std::nearbyint(-lo / scale);
      for (rq::index j = 0; j < w.cols(); ++j) {
        const double code =
            std::clamp(std::nearbyint(static_cast<double>(w(i, j)) / scale) + zero, 0.0, 15.0);
        CHECK(static_cast<double>(q.network.linears[k].weight(i, j)) ==
              Approx((code - zero) * scale).margin(1e-6));
      }
    }
    CHECK(q.network.linears[k].bias == p.linears[k].bias);
    CHECK(q.layers[k].correction == 0);
  }
}

TEST_CASE("a last group that the columns do not fill has ranges of its own", "[block]") {
  const rq::program p = networks::decoder_program();  // down has 48 inputs
  const networks::samples s = networks::random_samples(3, 12, 16, 3);
  const auto q = quantized(p, s, rq::with_weights(rq::rounding_weight_recipe{}, 4, 32));
  const rq::matrix<>& w = p.linears.back().weight;
  REQUIRE(w.cols() == 48);
  const auto alone = rq::fit(rq::uniform{4}, rq::per_row{}, rq::min_max{}, w.rightCols(16).eval()).value();
  const rq::matrix<> last = rq::dequantize(rq::quantize(alone, w.rightCols(16).eval()).value());
  CHECK(q.network.linears.back().weight.rightCols(16) == last);
}

TEST_CASE("quantize_weights on outputs beats gptq, gptq beats rounding, on other samples too", "[block]") {
  const rq::program p = networks::encoder_program();
  const networks::samples s = networks::random_samples(24, 12, 16, 4);
  const networks::samples others = networks::random_samples(24, 12, 16, 9000);
  for (const int bits : {3, 4}) {
    const auto error = [&](const auto& recipe, const networks::samples& on) {
      return distance(quantized(p, s, rq::with_weights(recipe, bits, 0)).network, p, on);
    };
    const double rounded = error(rq::rounding_weight_recipe{}, others);
    const double solved = error(rq::gptq_weight_recipe{}, others);
    const double best = error(rq::weight_recipe{}, others);
    INFO(bits << " bits: " << rounded << " " << solved << " " << best);
    CHECK(solved < rounded);
    CHECK(best < 0.9 * solved);
  }
}

TEST_CASE("layers that are to stay float do", "[block]") {
  const rq::program p = networks::encoder_program();
  const networks::samples s = networks::random_samples(3, 12, 16, 5);
  rq::weight_recipe r;
  r.keep_float = {"fc2", "attn.q"};
  const auto q = quantized(p, s, r);
  CHECK(q.layers.size() == p.linears.size() - 2);
  for (const rq::step& step : p.steps) {
    if (step.kind != rq::step_kind::linear) continue;
    const auto k = static_cast<std::size_t>(step.layer);
    const bool same = q.network.linears[k].weight == p.linears[k].weight;
    CHECK(same == (step.path == "fc2" || step.path == "attn.q"));
  }
}

TEST_CASE("quantize_weights corrects the mean of the output in a bias that is there", "[block]") {
  const rq::program p = networks::encoder_program();
  const networks::samples s = networks::random_samples(8, 12, 16, 6);
  const auto mean_error = [&](bool correct) {
    rq::gptq_weight_recipe r;
    r.weight.bits = 2;
    r.correct_bias = correct;
    const auto q = quantized(p, s, r);
    rq::column<double> sum = rq::column<double>::Zero(16);
    for (const rq::matrix<>& x : s) {
      sum += (rq::evaluate(q.network, x).value() - rq::evaluate(p, x).value())
                 .cast<double>()
                 .colwise()
                 .sum()
                 .transpose();
    }
    return sum.norm();
  };
  CHECK(mean_error(true) < 1e-3 * mean_error(false));
}

TEST_CASE("quantize_weights gives the same bits for any number of threads", "[block]") {
  const rq::program p = networks::decoder_program();
  const networks::samples s = networks::random_samples(7, 40, 16, 7);
  const auto one = quantized(p, s, rq::with_weights(rq::weight_recipe{}, 3, 8));
  const auto three = rq::quantize_weights(p, std::span<const rq::matrix<>>(s),
                                          rq::with_weights(rq::weight_recipe{}, 3, 8), rq::threads{3})
                         .value();
  for (std::size_t k = 0; k < p.linears.size(); ++k) {
    CHECK(one.network.linears[k].weight == three.network.linears[k].weight);
  }
}

TEST_CASE("quantize_weights refuses what it cannot do, with the place", "[block]") {
  const rq::program p = networks::encoder_program();
  const networks::samples s = networks::random_samples(2, 12, 16, 8);
  const auto refused = [&](const rq::weight_recipe& r, std::span<const rq::matrix<>> samples) {
    return rq::quantize_weights(p, samples, r).error();
  };
  CHECK(refused({}, {}).code == rq::errc::empty);
  CHECK(refused(rq::with_weights(rq::weight_recipe{}, 1, 0), s).code == rq::errc::bad_bits);
  CHECK(refused(rq::with_weights(rq::weight_recipe{}, 4, -1), s).code == rq::errc::bad_option);
  rq::weight_recipe r;
  r.keep_float = {"fc3"};
  CHECK(refused(r, s).code == rq::errc::unknown_site);
  networks::samples bad = s;
  bad[1](2, 3) = std::numeric_limits<float>::quiet_NaN();
  CHECK(refused({}, bad).code == rq::errc::non_finite);
  CHECK(std::string_view(refused({}, bad).where) == "calibration sample 1");
}
