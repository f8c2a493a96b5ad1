// SPDX-License-Identifier: MIT
/// The published RepQ-ViT baseline: its quantizers on cases worked by hand, its fold, and what it makes of
/// small blocks and of the vision transformer.
#include "oracle/repq_vit.hpp"

#include "catch.hpp"
#include "oracle/samples.hpp"
#include "unit/block/vit.hpp"
#include <set>

namespace rq = repquant;

namespace {

oracle::repq_uniform searched(std::vector<float> x, int bits) {
  oracle::repq_uniform q;
  q.add_searched(x, bits);
  return q;
}
oracle::repq_vit_model quantized(const rq::program& p, const networks::samples& x, int bits) {
  return oracle::quantize_repq_vit(p, std::span<const rq::matrix<>>(x), bits, bits);
}
/// The value behind the step of that path.
std::size_t value_at(const rq::program& p, const std::string& path) {
  for (const rq::step& s : p.steps) {
    if (s.path == path) return static_cast<std::size_t>(s.out);
  }
  FAIL(path);
  return 0;
}
/// A value of the float program for each sample.
networks::samples values(const rq::program& p, const networks::samples& inputs, std::size_t v) {
  networks::samples all;
  for (const rq::matrix<>& input : inputs) {
    rq::activations x(p.value_cols.size());
    x[0] = input;
    for (const rq::step& s : p.steps) x[static_cast<std::size_t>(s.out)] = rq::evaluate(p, s, x);
    all.push_back(x[v]);
  }
  return all;
}
/// A norm in front of two linear layers and their product, so that none of the two is the head.
rq::program gated(const rq::any_norm& norm) {
  return rq::record(networks::block{[&](rq::trace& t, rq::value x) {
                      x = t.norm("norm", norm, x);
                      const rq::value gate = t.linear("gate", networks::random_linear(8, 16, 1), x);
                      return t.multiply(gate, t.linear("up", networks::random_linear(8, 16, 2, false), x));
                    }},
                    16)
      .value();
}

}  // namespace

TEST_CASE("repq_vit: quantiles interpolate between neighbours", "[oracle]") {
  std::vector<float> x{5, 1, 4, 2, 3};
  CHECK(oracle::selected_quantile(x, 0) == 1);
  CHECK(oracle::selected_quantile(x, 1) == 5);
  CHECK(oracle::selected_quantile(x, 0.5) == 3);
  CHECK(oracle::selected_quantile(x, 0.999) == Approx(4.996));  // h = 3.996
  CHECK(oracle::selected_quantile(x, 0.1) == Approx(1.4));
  std::vector<float> one{7};
  CHECK(oracle::selected_quantile(one, 0.999) == 7);
  std::vector<float> many = oracle::draws("outliers", 5001);
  std::vector<float> sorted = many;
  std::sort(sorted.begin(), sorted.end());
  CHECK(oracle::selected_quantile(many, 0.9998) == Approx(sorted[4999]).epsilon(1e-6));  // h = 4999
}

TEST_CASE("repq_vit: the uniform search takes the percentile of least error", "[oracle]") {
  std::vector<float> levels;
  for (int i = 0; i < 16; ++i) levels.push_back(static_cast<float>(i));
  // On few values the widest range loses least: hi = 15 - 15e-5, lo = 15e-5.
  const oracle::repq_uniform q = searched(levels, 4);
  CHECK(q.delta[0] == Approx((15 - 30e-5) / 15));
  CHECK(q.zero[0] == 0);
  CHECK(q.last == 15);

  // 9,990 values of 0 .. 3 and ten of 100 at two bits: 0.999 leaves the ten out, and their loss of 97^2 each
  // outweighs what the others gain, so the range keeps them; with 0.1 % of 6 it does not.
  std::vector<float> outliers(9990);
  for (std::size_t i = 0; i < outliers.size(); ++i) outliers[i] = static_cast<float>(i % 4);
  outliers.insert(outliers.end(), 10, 100.0F);
  CHECK(searched(outliers, 2).delta[0] > 30);
  std::fill(outliers.end() - 10, outliers.end(), 6.0F);
  CHECK(searched(outliers, 2).delta[0] == Approx(1).epsilon(0.01));
}

TEST_CASE("repq_vit: zero points leave the code range, constants are exact", "[oracle]") {
  std::vector<float> x;
  for (int i = 0; i <= 4000; ++i) x.push_back(5 + static_cast<float>(i) / 1000);
  const oracle::repq_uniform q = searched(x, 4);
  CHECK(q.zero[0] == -19);  // -5 / (4 / 15) = -18.75
  CHECK(q.value(7, 0) == Approx(7).margin(q.delta[0] / 2));
  CHECK(q.value(100, 0) == Approx(34 * q.delta[0]));
  for (float& v : x) v -= 14;
  CHECK(searched(x, 4).zero[0] == 34);  // 9 / (4 / 15) = 33.75
  for (const float c : {0.3F, -0.3F, 0.0F}) {
    const oracle::repq_uniform constant = searched(std::vector<float>(100, c), 4);
    CHECK(constant.value(c, 0) == Approx(c));
    CHECK(constant.delta[0] > 0);
  }
}

TEST_CASE("repq_vit: a fractional zero point gives one level more", "[oracle]") {
  oracle::repq_uniform q{{0.5F}, {8.0F}, 15};
  const auto count = [&] {
    std::set<float> levels;
    for (int i = -1000; i <= 1000; ++i) levels.insert(q.value(static_cast<float>(i) / 100, 0));
    return levels.size();
  };
  CHECK(count() == 16);
  q.zero[0] = 8.4375F;
  CHECK(count() == 17);
  CHECK(q.value(-100, 0) == -8.4375F * 0.5F);
  CHECK(q.value(100, 0) == 6.5625F * 0.5F);
  CHECK(q.value(0.6F, 0) == 0.5F);  // between the ends the levels are whole multiples
}

TEST_CASE("repq_vit: log-sqrt2 has a code for each half octave and zero beside them", "[oracle]") {
  const oracle::repq_log_sqrt2 q(0.8F, 4);
  std::set<float> levels{q.value(0)};
  for (int i = 1; i <= 20000; ++i) levels.insert(q.value(static_cast<float>(i) / 20000));
  CHECK(levels.size() == 17);
  CHECK(*levels.begin() == 0);
  CHECK(*levels.rbegin() == 0.8F);
  for (int c = 0; c < 16; ++c) {
    CHECK(q.value(0.8F * std::pow(2.0F, -0.5F * static_cast<float>(c))) ==
          Approx(0.8 * std::pow(2.0, -0.5 * c)));
  }
  CHECK(q.value(0.8F * std::pow(2.0F, -7.74F)) == Approx(0.8 * std::pow(2.0, -7.5)));
  CHECK(q.value(0.8F * std::pow(2.0F, -7.76F)) == 0);
  CHECK(q.value(1e-44F) == 0);
  rq::matrix<> x(1, 3);
  x << 0.4F, 0.0F, 0.001F;
  CHECK(q.squared_error(x) == Approx(1e-6).epsilon(1e-3));  // only the last is not exact
}

TEST_CASE("repq_vit: attention without quantizers is attention", "[oracle]") {
  for (const bool causal : {false, true}) {
    const rq::attention_options o{.heads = 4, .kv_heads = 2, .scale = 0.7F, .causal = causal};
    for (const rq::index queries : {9, 1}) {
      const rq::matrix<> q = networks::random_matrix(queries, 16, 1, 1);
      const rq::matrix<> k = networks::random_matrix(9, 8, 1, 2);
      const rq::matrix<> v = networks::random_matrix(9, 8, 1, 3);
      const rq::matrix<> y = oracle::attention_output(o, oracle::attention_probabilities(o, q, k), v);
      CHECK((y - rq::attend(o, q, k, v)).cwiseAbs().maxCoeff() < 1e-5F);
    }
  }
}

TEST_CASE("repq_vit: which norms fold", "[oracle]") {
  using oracle::repq_site;
  const auto sites = [](const rq::program& p) {
    std::vector<repq_site> all;
    for (std::size_t i = 0; i < p.steps.size(); ++i) {
      if (p.steps[i].kind == rq::step_kind::norm) all.push_back(oracle::repq_site_of(p, i));
    }
    return all;
  };
  CHECK(sites(networks::encoder_program()) == std::vector{repq_site::folded, repq_site::folded});
  CHECK(sites(networks::decoder_program()) == std::vector{repq_site::per_channel, repq_site::per_channel});
  CHECK(sites(networks::post_norm()) == std::vector{repq_site::per_channel, repq_site::per_channel});
  const rq::program head = rq::record(networks::block{[](rq::trace& t, rq::value x) {
                                        x = t.norm("norm", networks::random_norm(16, 1), x);
                                        return t.linear("head", networks::random_linear(4, 16, 2), x);
                                      }},
                                      16)
                               .value();
  CHECK(sites(head) == std::vector{repq_site::one_set});
}

TEST_CASE("repq_vit: the fold takes the means and keeps the float function", "[oracle]") {
  const rq::layer_norm norm = networks::random_norm(16, 3, 30);
  const rq::program p = gated(norm);
  const networks::samples x = networks::random_samples(8, 40, 16, 5);
  const oracle::repq_vit_model m = quantized(p, x, 4);
  const std::size_t v = value_at(p, "norm");
  const networks::samples outputs = values(p, x, v);
  std::vector<const rq::matrix<>*> tensor;
  for (const rq::matrix<>& y : outputs) tensor.push_back(&y);
  const oracle::repq_uniform channels = oracle::search_columns(tensor, 4);
  REQUIRE(channels.delta.size() == 16);
  double s = 0;
  double z = 0;
  for (std::size_t j = 0; j < 16; ++j) {
    s += static_cast<double>(channels.delta[j]) / 16;
    z += static_cast<double>(channels.zero[j]) / 16;
  }
  REQUIRE(m.inputs[v].delta.size() == 1);
  CHECK(m.inputs[v].delta[0] == Approx(s));
  CHECK(m.inputs[v].zero[0] == Approx(z));
  REQUIRE(std::fabs(z - std::nearbyint(z)) > 0.01);  // it is a fraction here, and is not rounded
  CHECK(m.inputs[v].zero[0] != std::nearbyint(m.inputs[v].zero[0]));

  // X~ / s~ = X / s + z - z~
  const networks::samples folded = values(m.network, x, v);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (rq::index t = 0; t < x[i].rows(); ++t) {
      for (rq::index j = 0; j < 16; ++j) {
        const auto c = static_cast<std::size_t>(j);
        const double want = outputs[i](t, j) / channels.delta[c] + channels.zero[c] - z;
        worst = std::fmax(worst, std::fabs(folded[i](t, j) / s - want));
      }
    }
  }
  CHECK(worst < 1e-4);

  // The layers behind it: b~ = b - W (s r2), also where there was no bias; W r1 within half a step per row.
  for (const std::size_t layer : {0U, 1U}) {
    const rq::linear& before = p.linears[layer];
    const rq::linear& after = m.network.linears[layer];
    REQUIRE(after.bias.size() == 8);
    for (rq::index o = 0; o < 8; ++o) {
      double bias = before.bias.size() == 0 ? 0 : static_cast<double>(before.bias(o));
      double most = 0;
      double least = 0;
      std::set<float> levels;
      for (rq::index d = 0; d < 16; ++d) {
        const auto c = static_cast<std::size_t>(d);
        const double w = before.weight(o, d);
        bias -= w * channels.delta[c] * (channels.zero[c] - z);
        most = std::fmax(most, w * channels.delta[c] / s);
        least = std::fmin(least, w * channels.delta[c] / s);
        levels.insert(after.weight(o, d));
      }
      CHECK(after.bias(o) == Approx(bias).margin(1e-4));
      CHECK(levels.size() <= 16);
      for (rq::index d = 0; d < 16; ++d) {
        const double w = before.weight(o, d) * channels.delta[static_cast<std::size_t>(d)] / s;
        CHECK(after.weight(o, d) == Approx(w).margin(1.02 * (most - least) / 15));
      }
    }
  }
}

TEST_CASE("repq_vit: a norm that cannot fold keeps its channels", "[oracle]") {
  const rq::program p = networks::post_norm();
  const networks::samples x = networks::random_samples(4, 12, 16, 9);
  const oracle::repq_vit_model m = quantized(p, x, 4);
  CHECK(m.inputs[0].delta.size() == 1);
  CHECK(m.inputs[0].last == 255);  // the model's input has 8 bits
  const std::size_t v = value_at(p, "ln1");
  CHECK(m.inputs[v].delta.size() == 16);
  CHECK(m.inputs[v].last == 15);
  const auto& before = std::get<rq::layer_norm>(p.norms[0]);
  CHECK(before.gamma == std::get<rq::layer_norm>(m.network.norms[0]).gamma);
  CHECK_FALSE(p.linears[0].weight == m.network.linears[0].weight);

  const rq::program rms = gated(rq::rms_norm{networks::random_norm(16, 1).gamma});
  const oracle::repq_vit_model n = quantized(rms, networks::random_samples(4, 12, 16, 9), 4);
  CHECK(n.inputs[value_at(rms, "norm")].delta.size() == 16);
  CHECK(n.network.linears[1].bias.size() == 0);
}

TEST_CASE("repq_vit: eight bits are near the float function on every kind of block", "[oracle]") {
  const networks::samples x = networks::random_samples(16, 20, 16, 21);
  for (const rq::program& p :
       {networks::encoder_program(), networks::decoder_program(), networks::post_norm()}) {
    networks::samples reference;
    std::vector<networks::samples> results(2);
    for (const rq::matrix<>& input : x) reference.push_back(rq::evaluate(p, input).value());
    const int bits[] = {4, 8};
    for (std::size_t i = 0; i < 2; ++i) {
      const oracle::repq_vit_model m = quantized(p, x, bits[i]);
      for (const rq::matrix<>& input : x) results[i].push_back(m.run(input));
    }
    CAPTURE(networks::decibels(reference, results[0]), networks::decibels(reference, results[1]));
    // measured 27 to 30 and 13 to 16; more bits make no finer steps of the logarithmic codes
    CHECK(networks::decibels(reference, results[1]) > 25);
    CHECK(networks::decibels(reference, results[0]) > 11);
  }
}

TEST_CASE("repq_vit: the vision transformer", "[oracle]") {
  const rq::program p = networks::vit_program();
  const networks::samples calibration = networks::calibration_images(32);
  const networks::samples images =
      networks::patches_of(networks::vit_images().evaluation, networks::image_count(100));
  networks::samples reference;
  for (const rq::matrix<>& x : images) reference.push_back(rq::evaluate(p, x).value());
  const int bits[] = {4, 8};
  double quality[2] = {};
  for (std::size_t i = 0; i < 2; ++i) {
    const auto m = oracle::quantize_repq_vit(p, std::span<const rq::matrix<>>(calibration), bits[i], bits[i],
                                             rq::threads{.count = 2});
    CHECK(m.inputs[value_at(p, "block.0.ln1")].delta.size() == 1);
    CHECK(m.inputs[value_at(p, "norm")].delta.empty());  // the head reads its class token
    networks::samples logits;
    rq::index agree = 0;
    for (std::size_t n = 0; n < images.size(); ++n) {
      logits.push_back(m.run(images[n]));
      REQUIRE(logits.back().allFinite());
      rq::index a = 0;
      rq::index b = 0;
      logits.back().row(0).maxCoeff(&a);
      reference[n].row(0).maxCoeff(&b);
      agree += a == b ? 1 : 0;
    }
    quality[i] = networks::decibels(reference, logits);
    CAPTURE(bits[i], quality[i], agree, images.size());
    CHECK(quality[i] > (bits[i] == 8 ? 26 : 11));  // measured 28 and 16
    CHECK(100 * agree >= static_cast<rq::index>(images.size()) * (bits[i] == 8 ? 98 : 85));
    if (bits[i] == 4) {
      const oracle::repq_vit_model same = quantized(p, calibration, 4);
      CHECK(same.run(images[0]) == logits[0]);
    }
  }
  CHECK(quality[1] > quality[0] + 8);
}
