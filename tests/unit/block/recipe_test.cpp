// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "networks.hpp"
#include <limits>

namespace rq = repquant;

namespace networks {

rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x, const rq::naive_recipe& r,
                                         executor exec) {
  return rq::quantize_program(p, x, r, exec);
}
rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x, const rq::repq_recipe& r,
                                         executor exec) {
  return rq::quantize_program(p, x, r, exec);
}
rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x, const rq::repquant_recipe& r,
                                         executor exec) {
  return rq::quantize_program(p, x, r, exec);
}
rq::result<rq::quantized_model> quantize_block(const block& b, const samples& x, const rq::repquant_recipe& r,
                                               const rq::progress_callback& progress) {
  return rq::quantize_block(b, x, r, executor{}, progress);
}

}  // namespace networks

namespace {

rq::program encoder() { return rq::record(networks::random_encoder(16, 32, 2, 3), 16).value(); }

}  // namespace

TEST_CASE("codes of a value are freed when its last reader has read them", "[block]") {
  // more blocks are no more codes at a time
  const auto most_codes = [](rq::index blocks) {
    const rq::program p = rq::record(networks::block{[&](rq::trace& t, rq::value x) {
                                       for (rq::index i = 0; i < blocks; ++i) {
                                         const auto scope = t.scope("block", i);
                                         x = networks::random_encoder(16, 32, 2, 3).forward(t, x);
                                       }
                                       return x;
                                     }},
                                     16)
                              .value();
    const rq::naive_recipe recipe;
    const networks::executor exec;
    const rq::shared_weights none;
    rq::detail::quantization<rq::naive_recipe, networks::executor> q(p, recipe, exec, none);
    const networks::samples x = networks::random_samples(1, 4, 16, 5);
    rq::index most = 0;
    const auto count = [&](rq::index, rq::index) {
      rq::index now = 0;
      for (const rq::detail::coded_value& in : q.inputs) {
        if (in.codes >= 0) now += q.stream.codes(0, in.codes).size();
      }
      most = std::max(most, now);
      return true;
    };
    CHECK_FALSE(rq::detail::quantize_steps(q, x, count));
    return most;
  };
  CHECK(most_codes(1) > 0);
  CHECK(most_codes(4) == most_codes(1));
}

TEST_CASE("with_bits sets both widths and keeps the rest", "[block]") {
  rq::repquant_recipe before;
  before.input_bits = 7;
  before.weight.symmetric = true;
  const rq::repquant_recipe after = rq::with_bits(before, 3, 5);
  CHECK(after.weight.bits == 3);
  CHECK(after.activation.bits == 5);
  CHECK(after.weight.symmetric);
  CHECK(after.input_bits == 7);
  CHECK(after.correct_bias);
  const rq::feedback_recipe fed = rq::with_bits(rq::feedback_recipe{}, 3, 5);
  CHECK(fed.activation.bits == 5);
  CHECK(fed.feedback_block == 64);
  CHECK(before.feedback_block == 0);
}

TEST_CASE("a recipe out of range is refused with the setting's name", "[block]") {
  const rq::program p = encoder();
  const networks::samples x = networks::random_samples(2, 4, 16, 5);
  const auto refused = [&](auto change) {
    rq::repquant_recipe r;
    change(r);
    const auto m = networks::quantize(p, x, r);
    REQUIRE_FALSE(m);
    return m.error();
  };
  for (int bits : {-1, 1, 9, 16}) {
    rq::failure f = refused([&](auto& r) { r.weight.bits = bits; });
    CHECK(f.code == rq::errc::bad_bits);
    CHECK(std::string(f.where) == "recipe: weight");
    CHECK(f.got == bits);
    CHECK(f.want == (bits < 2 ? 2 : 8));
    f = refused([&](auto& r) { r.activation.bits = bits; });
    CHECK(std::string(f.where) == "recipe: activation");
    f = refused([&](auto& r) { r.input_bits = bits; });
    CHECK(std::string(f.where) == "recipe: input_bits");
    f = refused([&](auto& r) { r.overrides.push_back({"attn.query", bits}); });
    CHECK(f.code == rq::errc::bad_bits);
    CHECK(std::string(f.where) == "attn.query");
  }
  rq::failure f = refused([](auto& r) { r.overrides.push_back({"attn.qury", 4}); });
  CHECK(f.code == rq::errc::unknown_site);
  CHECK(std::string(f.where) == "attn.qury");
  f = refused([](auto& r) { r.probability = {}; });
  CHECK(f.code == rq::errc::bad_option);
  f = refused([](auto& r) { r.probability_depth = 31; });
  CHECK(f.code == rq::errc::bad_option);
  CHECK(f.got == 31);
  f = refused([](auto& r) { r.spread_below = -0.5; });
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "recipe: spread_below (millionths)");
  CHECK(f.got == -500000);
  CHECK(f.want == 0);
  f = refused([](auto& r) { r.scale_rounds = -1; });
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "recipe: scale_rounds");
  f = refused([](auto& r) { r.ratio_rounds = -2; });
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "recipe: ratio_rounds");
  f = refused([](auto& r) { r.selected_weight = -3; });
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "recipe: selected_weight");
  CHECK(f.got == -3);
  for (const rq::index block : {-1, 257}) {
    f = refused([&](auto& r) { r.feedback_block = block; });
    CHECK(f.code == rq::errc::bad_option);
    CHECK(std::string(f.where) == "recipe: feedback_block");
    CHECK(f.got == block);
    CHECK(f.want == 256);
  }
  for (const double damping :
       {0.0, -0.5, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    f = refused([&](auto& r) { r.feedback_damping = damping; });
    CAPTURE(damping);
    CHECK(f.code == rq::errc::bad_option);
    CHECK(std::string(f.where) == "recipe: feedback_damping (millionths)");
  }
  f = refused([](auto& r) { r.solver.damping = -1; });
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where).find("attn.q") == 0);  // the first layer that asks for it
}

TEST_CASE("the widths of a report are those of the recipe and its overrides", "[block]") {
  rq::repquant_recipe r = rq::with_bits(rq::repquant_recipe{}, 4, 5);
  r.input_bits = 7;
  r.overrides = {{"attn.probabilities", 3}, {"fc2.in", 8}, {"ln2.out", 6}};
  networks::block b{[](rq::trace& t, rq::value x) {
    return networks::random_encoder(16, 32, 2, 3)
        .forward(t, t.linear("embed", networks::random_linear(16, 8, 1), x));
  }};
  const auto m = networks::quantize_block(b, networks::random_samples(3, 6, 8, 5), r);
  REQUIRE(m);
  const std::vector<std::pair<std::string, int>> expected{
      {"input", 7},       {"ln1.out", 5},    {"attn.query", 5},
      {"attn.key", 5},    {"attn.value", 5}, {"attn.probabilities", 3},
      {"attn.out.in", 5}, {"ln2.out", 6},    {"fc2.in", 8}};
  REQUIRE(m->report().sites.size() == expected.size());
  REQUIRE(m->view().sites().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(m->report().sites[i].path == expected[i].first);
    CHECK(m->report().sites[i].bits == expected[i].second);
    CHECK(m->view().path(m->view().sites()[i]) == expected[i].first);  // the saved form says the same
    CHECK(m->view().sites()[i].bits == expected[i].second);
    CHECK(m->view().sites()[i].role == m->report().sites[i].role);
  }
  REQUIRE(m->report().weights.size() == 7);
  for (const rq::weight_report& w : m->report().weights) CHECK(w.bits == 4);
  // no code beyond its width
  networks::recorded_codes seen;
  REQUIRE(m->run(networks::random_samples(1, 6, 8, 9)[0], seen.sink()));
  for (std::size_t i = 0; i < seen.codes.size(); ++i) {
    const int bits = expected[static_cast<std::size_t>(seen.sites[i])].second;
    if (seen.codes[i] >= 1 << bits) FAIL(expected[static_cast<std::size_t>(seen.sites[i])].first);
  }
}
