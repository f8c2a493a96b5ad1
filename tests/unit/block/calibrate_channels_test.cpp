// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "networks.hpp"
#include <limits>

namespace rq = repquant;

namespace {

/// Two layers that read one value whose channels differ, and what adds their results.
rq::program two_readers() {
  const networks::block b{[](rq::trace& t, rq::value x) {
    const rq::value n = t.norm("norm", networks::random_norm(16, 2), x);
    return t.add(t.linear("first", networks::random_linear(24, 16, 3), n),
                 t.linear("second", networks::random_linear(24, 16, 4), n));
  }};
  return rq::record(b, 16).value();
}
/// Codes of three bits before weights of eight, which take no account of the codes' errors.
template<class Recipe>
Recipe three_bits(int steps, int sweeps) {
  Recipe r = rq::with_bits(Recipe{}, 8, 3);
  r.channel_wise_norm = true;
  r.target_correction = 0;
  r.widen_ranges = false;
  r.clip_steps = steps;
  r.clip_sweeps = sweeps;
  return r;
}

}  // namespace

TEST_CASE("clipping by the readers' outputs brings them nearer to the float ones", "[block]") {
  const rq::program p = two_readers();
  const networks::samples x = networks::random_samples(16, 20, 16, 3);
  const auto fidelity = [&](const auto& recipe) {
    const auto m = networks::quantize(p, x, recipe);
    REQUIRE(m);
    CHECK(m->report().folds.size() == 1);
    return networks::fidelity(p, *m, x);
  };
  SECTION("much, from minimum and maximum on") {
    const double observer = fidelity(three_bits<rq::naive_recipe>(0, 0));
    const double learned = fidelity(three_bits<rq::naive_recipe>(60, 0));
    const double searched = fidelity(three_bits<rq::naive_recipe>(0, 4));
    const double both = fidelity(three_bits<rq::naive_recipe>(60, 4));
    CAPTURE(observer, learned, searched, both);
    CHECK(learned > observer + 0.5);
    CHECK(searched > observer + 1);
    CHECK(both > learned);
  }
  SECTION("somewhat, from the ranges of least error on") {
    const double observer = fidelity(three_bits<rq::repquant_recipe>(0, 0));
    const double learned = fidelity(three_bits<rq::repquant_recipe>(60, 0));
    const double searched = fidelity(three_bits<rq::repquant_recipe>(0, 4));
    CAPTURE(observer, learned, searched);
    CHECK(learned >= observer);  // the ranges, and with them all bits, stay where no step gains
    CHECK(searched > observer + 0.1);
  }
}

TEST_CASE("clipped models do not depend on the number of threads", "[block]") {
  const networks::samples x = networks::random_samples(6, 10, 16, 3);
  for (const rq::program& p :
       {networks::encoder_program(), networks::post_norm(), networks::decoder_program()}) {
    const auto one = networks::quantize(p, x, three_bits<rq::repquant_recipe>(8, 2));
    const auto three =
        networks::quantize(p, x, three_bits<rq::repquant_recipe>(8, 2), networks::executor{.count = 3});
    REQUIRE((one && three));
    const auto a = one->bytes();
    const auto b = three->bytes();
    CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

TEST_CASE("clipping counts that make no sense are refused with the setting's name", "[block]") {
  const networks::samples x = networks::random_samples(2, 4, 16, 5);
  rq::failure f = networks::quantize(two_readers(), x, three_bits<rq::repquant_recipe>(-1, 0)).error();
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "recipe: clip_steps");
  CHECK(f.got == -1);
  f = networks::quantize(two_readers(), x, three_bits<rq::repquant_recipe>(0, -2)).error();
  CHECK(std::string(f.where) == "recipe: clip_sweeps");
  CHECK(f.got == -2);
}
