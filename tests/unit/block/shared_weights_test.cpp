// SPDX-License-Identifier: MIT
#include <repquant/block/shared_weights.hpp>

#include "catch.hpp"
#include "networks.hpp"
#include <algorithm>
#include <map>
#include <set>

namespace rq = repquant;

namespace {

using networks::block;
using networks::fidelity;
using networks::samples;

constexpr int calls = 3;
constexpr std::size_t layers = 6;

/// A class token, one block called three times, and the token's row: what a shared classifier is.
rq::program shared_program() {
  const rq::encoder_block b = networks::random_encoder(16, 32, 2, 50);
  return rq::record(block{[&](rq::trace& t, rq::value x) {
                      x = t.prepend_row("class", networks::random_matrix(1, 16, 1, 9), x);
                      for (rq::index i = 0; i < calls; ++i) {
                        const auto scope = t.scope("layer", i);
                        x = b.forward(t, x);
                      }
                      return t.linear("head", networks::random_linear(5, 16, 3), t.select_row(0, x));
                    }},
                    16)
      .value();
}
/// The linear instructions of a model, in order: q, k, v, out, fc1, fc2 of each call, then the head.
std::vector<const rq::instruction*> linears_of(const rq::quantized_model& m) {
  std::vector<const rq::instruction*> all;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind == rq::opcode::linear) all.push_back(&s);
  }
  return all;
}
/// How many sets of weight codes each layer has over the calls.
std::vector<std::size_t> sets_of_codes(const rq::quantized_model& m) {
  const auto all = linears_of(m);
  REQUIRE(all.size() == calls * layers + 1);
  std::vector<std::size_t> sets;
  for (std::size_t l = 0; l < layers; ++l) {
    std::set<std::uint64_t> places;
    for (std::size_t c = 0; c < calls; ++c) places.insert(all[c * layers + l]->data[0]);
    sets.push_back(places.size());
  }
  return sets;
}
/// The scales of the encode instruction at a site.
std::vector<double> scales_of(const rq::quantized_model& m, const std::string& path) {
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind != rq::opcode::encode) continue;
    if (m.view().path(m.view().sites()[static_cast<std::size_t>(s.site)]) != path) continue;
    REQUIRE(s.per_column == 1);
    const auto pairs = m.view().numbers<float>(s.data[0], 2 * static_cast<std::size_t>(s.cols));
    std::vector<double> scales;
    for (std::size_t i = 0; i < pairs.size(); i += 2) scales.push_back(static_cast<double>(pairs[i]));
    return scales;
  }
  FAIL("no site " << path);
  return {};
}

/// The program with one set of codes for all calls of a layer, and with one for each.
std::pair<rq::result<rq::quantized_model>, rq::result<rq::quantized_model>> one_set_and_many(
    const rq::program& p, const samples& x) {
  rq::repquant_recipe recipe = rq::with_bits(rq::repquant_recipe{}, 4, 4);
  recipe.input_bits = 4;
  auto together = networks::quantize(p, x, recipe);
  recipe.share_weights = false;
  return {std::move(together), networks::quantize(p, x, recipe)};
}

}  // namespace

TEST_CASE("layers with equal numbers are one group", "[block]") {
  const rq::encoder_block b = networks::random_encoder(16, 16, 2, 50);
  rq::encoder_block other = b;
  other.fc1.bias(3) += 1e-6F;
  other.fc2.weight(2, 5) += 1e-6F;
  other.k.bias.resize(0);
  const rq::program p = rq::record(block{[&](rq::trace& t, rq::value x) {
                                     for (rq::index i = 0; i < 3; ++i) {
                                       const auto scope = t.scope("layer", i);
                                       x = (i == 1 ? other : b).forward(t, x);
                                     }
                                     return t.linear("head", networks::random_linear(4, 16, 2), x);
                                   }},
                                   16)
                            .value();
  const rq::shared_weights s(p);
  CHECK(s.any());
  std::map<std::string, int> groups;
  for (const rq::step& step : p.steps) {
    if (step.kind == rq::step_kind::linear) groups[step.path] = s.group_of(step);
  }
  std::set<int> numbers;
  for (const std::string path : {"attn.q", "attn.k", "attn.v", "attn.out", "fc1", "fc2"}) {
    CAPTURE(path);
    const int first = groups.at("layer.0." + path);
    CHECK(first >= 0);
    CHECK(groups.at("layer.2." + path) == first);
    numbers.insert(first);
    const bool changed = path == "attn.k" || path == "fc1" || path == "fc2";
    CHECK(groups.at("layer.1." + path) == (changed ? -1 : first));
  }
  CHECK(numbers.size() == layers);
  CHECK(groups.at("head") == -1);
  CHECK_FALSE(rq::shared_weights(networks::encoder_program()).any());
  CHECK_FALSE(rq::shared_weights{}.any());
  CHECK(rq::shared_weights{}.group_of(p.steps[1]) == -1);
}

TEST_CASE("what calls agree on is the mean of what each has seen", "[block]") {
  rq::shared_evidence seen;
  const auto call = [](double first, double second) {  // nothing but the scales that suit its two channels
    rq::channel_costs c{rq::column<double>(2), rq::matrix<double>::Zero(2, rq::channel_costs::count)};
    c.scale << std::log2(first), std::log2(second);
    return c;
  };
  seen.channels[7] = {call(1, 4), call(0.3, 0.3)};  // ratios 1/2, 2 and 1, 1
  rq::shared_weights s;
  CHECK(s.ratios(7) == nullptr);
  s.settle_ratios(seen, 0);
  REQUIRE(s.ratios(7) != nullptr);
  CHECK((*s.ratios(7))(0) == Approx(std::sqrt(0.5)));
  CHECK((*s.ratios(7))(1) == Approx(std::sqrt(2)));
  CHECK(s.ratios(8) == nullptr);

  rq::layer_evidence one(1, 2);
  one.halves[0].tokens = 3;
  one.halves[0].weight = 3;
  one.halves[0].inputs(0, 1) = 5;
  seen.add_layer(7, one);
  seen.add_layer(7, one);
  CHECK(s.evidence(7) == nullptr);
  s.settle_evidence(std::move(seen));
  REQUIRE(s.evidence(7) != nullptr);
  CHECK(s.evidence(7)->weight() == 6);
  CHECK(s.evidence(7)->halves[0].inputs(0, 1) == 10);
  CHECK(s.evidence(8) == nullptr);
}

TEST_CASE("a block that is called several times keeps one set of codes", "[block][quantize]") {
  const rq::program p = shared_program();
  const samples x = networks::random_samples(12, 9, 16, 3);
  const auto [together, apart] = one_set_and_many(p, x);
  REQUIRE((together && apart));

  CHECK(sets_of_codes(*together) == std::vector<std::size_t>(layers, 1));
  for (std::size_t sets : sets_of_codes(*apart)) CHECK(sets == calls);
  CHECK(together->bytes().size() < apart->bytes().size());

  // channels in the same ratios at each call, times a factor of the call's own
  for (const std::string site : {"ln1.out", "attn.out.in", "ln2.out", "fc2.in"}) {
    const std::vector<double> first = scales_of(*together, "layer.0." + site);
    std::set<double> factors{1};
    for (const std::string layer : {"layer.1.", "layer.2."}) {
      CAPTURE(site, layer);
      const std::vector<double> other = scales_of(*together, layer + site);
      REQUIRE(other.size() == first.size());
      const double factor = other[0] / first[0];
      factors.insert(factor);
      for (std::size_t d = 0; d < first.size(); ++d) {
        CHECK(other[d] == Approx(factor * first[d]).epsilon(1e-5));
      }
    }
    CHECK(factors.size() == calls);
  }
  // the calls' zero points differ, so their biases do
  const auto all = linears_of(*together);
  CHECK(all[0]->data[3] != all[layers]->data[3]);

  // one set costs something, but the function is there: 9 dB for a block, less 10 log10(3)
  CHECK(networks::fidelity(p, *together, x) > 4);
}

TEST_CASE("what one set of codes costs", "[block][quantize]") {
  const rq::program p = shared_program();
  double cost = 0;  // in dB, the mean over some sets of samples: how rounding falls moves one by a dB
  for (const unsigned seed : {3U, 4U, 5U, 6U}) {
    const samples x = networks::random_samples(12, 9, 16, seed);
    const auto [together, apart] = one_set_and_many(p, x);
    REQUIRE((together && apart));
    cost += (networks::fidelity(p, *apart, x) - networks::fidelity(p, *together, x)) / 4;
  }
  CAPTURE(cost);
  CHECK(cost < 4);
  CHECK(cost > 0);
}

TEST_CASE("shared weights, a selected token and threads: the same bytes", "[block][quantize]") {
  const rq::program p = shared_program();
  const samples x = networks::random_samples(7, 6, 16, 3);
  const auto one = networks::quantize(p, x, "repquant", 4, 4, {1});
  const auto three = networks::quantize(p, x, "repquant", 4, 4, {3});
  REQUIRE((one && three));
  CHECK(std::equal(one->bytes().begin(), one->bytes().end(), three->bytes().begin(), three->bytes().end()));
}

TEST_CASE("three passes count as three in the progress", "[block][quantize]") {
  const block b{[](rq::trace& t, rq::value x) {
    const rq::linear fc = networks::random_linear(16, 16, 3);
    return t.linear("second", fc, t.activate(rq::activation::relu, t.linear("first", fc, x)));
  }};
  const samples x = networks::random_samples(3, 6, 16, 3);
  std::vector<rq::index> done;
  rq::index steps = 0;
  const auto m = networks::quantize_block(b, x, rq::repquant_recipe{}, [&](rq::index now, rq::index all) {
    done.push_back(now);
    steps = all;
    return true;
  });
  REQUIRE(m);
  CHECK(steps == 9);
  CHECK(done == std::vector<rq::index>{1, 2, 3, 4, 5, 6, 7, 8, 9});
  // and can be stopped in any of them
  for (const rq::index last : {2, 5, 9}) {
    const auto stopped = networks::quantize_block(b, x, rq::repquant_recipe{},
                                                  [&](rq::index now, rq::index) { return now < last; });
    REQUIRE_FALSE(stopped);
    CHECK(stopped.error().code == rq::errc::cancelled);
  }
}
