// SPDX-License-Identifier: MIT
#include <repquant/reparam/equivalence.hpp>
#include <repquant/reparam/fold_layer_norm.hpp>
#include <repquant/reparam/fused_norm.hpp>

#include "catch.hpp"
#include "oracle/fold.hpp"
#include <limits>
#include <random>
#include <string>

namespace rq = repquant;

namespace {

/// A norm, three consumers (the second without a bias), inputs, and the channel-wise parameters that
/// min-max ranges of the norm's output give.
struct site {
  rq::uniform codec{4};
  rq::layer_norm norm;
  std::vector<rq::linear> consumers;
  rq::matrix<> input;
  std::vector<rq::affine> channels;

  [[nodiscard]] std::vector<rq::linear*> pointers() {
    std::vector<rq::linear*> p;
    for (rq::linear& l : consumers) p.push_back(&l);
    return p;
  }
  [[nodiscard]] std::vector<const rq::linear*> views() const {
    std::vector<const rq::linear*> p;
    for (const rq::linear& l : consumers) p.push_back(&l);
    return p;
  }
};

std::vector<rq::affine> ranges_of(const rq::uniform& codec, const rq::matrix<>& y) {
  std::vector<rq::affine> channels;
  for (rq::index d = 0; d < y.cols(); ++d) {
    channels.push_back(codec.fit({y.col(d).minCoeff(), y.col(d).maxCoeff()}));
  }
  return channels;
}

site make_site(int bits, rq::index tokens, rq::index in, unsigned seed) {
  site s;
  s.codec.bits = bits;
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  s.norm.gamma.resize(in);
  s.norm.beta.resize(in);
  for (rq::index d = 0; d < in; ++d) {
    s.norm.gamma(d) = 1 + 0.3F * normal(engine);
    s.norm.beta(d) = 0.3F * normal(engine);
    if (d % 16 == 7) {  // the outliers of real norms
      s.norm.gamma(d) *= 16;
      s.norm.beta(d) *= 16;
    }
  }
  s.input.resize(tokens, in);
  for (rq::index i = 0; i < tokens * in; ++i) s.input.data()[i] = normal(engine);
  for (rq::index out : {24, 9, 5}) {
    rq::linear l{rq::matrix<>(out, in), rq::column<>(out)};
    for (rq::index i = 0; i < out * in; ++i) l.weight.data()[i] = 0.1F * normal(engine);
    for (rq::index o = 0; o < out; ++o) l.bias(o) = normal(engine);
    s.consumers.push_back(l);
  }
  s.consumers[1].bias.resize(0);
  s.channels = ranges_of(s.codec, apply(s.norm, s.input));
  return s;
}

template<class V>
std::vector<double> doubles(const V& v) {
  std::vector<double> d(static_cast<std::size_t>(v.size()));
  for (rq::index i = 0; i < v.size(); ++i) d[static_cast<std::size_t>(i)] = static_cast<double>(v(i));
  return d;
}

bool equal(const site& a, const site& b) {
  bool same = a.norm.gamma == b.norm.gamma && a.norm.beta == b.norm.beta;
  for (std::size_t i = 0; i < a.consumers.size(); ++i) {
    const rq::column<>& x = a.consumers[i].bias;
    const rq::column<>& y = b.consumers[i].bias;
    same = same && a.consumers[i].weight == b.consumers[i].weight && x.size() == y.size() && x == y;
  }
  return same;
}

rq::equivalence compare(const site& before, const site& after, rq::affine layer) {
  return rq::fold_equivalence(before.input, before.codec, before.channels, layer, before.norm, after.norm,
                              before.views(), after.views())
      .value();
}

}  // namespace

TEST_CASE("layer_wise: the lower median in the code range, and the power of two nearest to the mean",
          "[reparam]") {
  const auto z_of = [](int bits, std::vector<std::int32_t> z) {
    std::vector<rq::affine> p;
    for (std::int32_t v : z) p.push_back({1, v});
    return rq::layer_wise(rq::uniform{bits}, p).zero_point;
  };
  CHECK(z_of(4, {3}) == 3);
  CHECK(z_of(4, {9, 2, 4}) == 4);
  CHECK(z_of(4, {9, 2, 4, 7}) == 4);
  CHECK(z_of(4, {-100, -50, 3}) == 0);
  CHECK(z_of(4, {100, 50, 3}) == 15);
  CHECK(z_of(8, {100, 50, 3}) == 50);
  const auto s_of = [](float third) {
    const std::vector<rq::affine> p{{1, 0}, {2, 0}, {third, 0}};
    return rq::layer_wise(rq::uniform{4}, p).scale;
  };
  CHECK(s_of(3) == 2);  // mean 2
  CHECK(s_of(5) == 2);  // 8 / 3, below 2 sqrt 2
  CHECK(s_of(6) == 4);  // 3, above
  CHECK(s_of(0.75F) == 1);
}

TEST_CASE("fold: the formulas of the paper", "[reparam]") {
  const site before = make_site(4, 100, 32, 1);
  site after = before;
  const auto pointers = after.pointers();
  const rq::affine layer = rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers).value();
  std::vector<double> s;
  std::vector<double> z;
  for (const rq::affine& p : before.channels) {
    s.push_back(static_cast<double>(p.scale));
    z.push_back(p.zero_point);
  }
  for (std::size_t i = 0; i < before.consumers.size(); ++i) {
    const rq::linear& l = before.consumers[i];
    std::vector<std::vector<double>> weight;
    for (rq::index o = 0; o < l.out(); ++o) weight.push_back(doubles(l.weight.row(o)));
    const std::vector<double> bias =
        l.bias.size() == 0 ? std::vector<double>(static_cast<std::size_t>(l.out()), 0.0) : doubles(l.bias);
    const auto want = oracle::fold(doubles(before.norm.gamma), doubles(before.norm.beta), weight, bias, s, z,
                                   static_cast<double>(layer.scale), layer.zero_point);
    const rq::linear& got = after.consumers[i];
    REQUIRE(got.bias.size() == l.out());  // made where there was none
    // one rounding to float (2^-24), and the last bits of doubles that were multiplied in another order
    for (rq::index d = 0; d < 32; ++d) {
      const auto at = static_cast<std::size_t>(d);
      CHECK(static_cast<double>(after.norm.gamma(d)) == Approx(want.gamma[at]).epsilon(0x1.01p-24));
      CHECK(static_cast<double>(after.norm.beta(d)) ==
            Approx(want.beta[at]).epsilon(0x1.01p-24).margin(1e-14));
      for (rq::index o = 0; o < l.out(); ++o) {
        CHECK(static_cast<double>(got.weight(o, d)) ==
              Approx(want.weight[static_cast<std::size_t>(o)][at]).epsilon(0x1.01p-24));
      }
    }
    for (rq::index o = 0; o < l.out(); ++o) {
      CHECK(static_cast<double>(got.bias(o)) ==
            Approx(want.bias[static_cast<std::size_t>(o)]).epsilon(0x1.01p-24).margin(1e-13));
    }
  }
}

TEST_CASE("fold: the function stays and the codes are the channel-wise ones", "[reparam]") {
  const int bits = GENERATE(2, 3, 4, 6, 8);
  const site before = make_site(bits, 2000, 64, 2);
  site after = before;
  const auto pointers = after.pointers();
  const rq::affine layer = rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers).value();
  CHECK(layer.zero_point >= 0);
  CHECK(layer.zero_point < before.codec.levels());
  const rq::equivalence e = compare(before, after, layer);
  CHECK(e.codes == 2000 * 64);
  CHECK(e.codes_broken == 0);
  CHECK(e.codes_differ == e.near_ties);
  CHECK(e.codes_differ < e.codes / 1000);
  CHECK(e.largest_relative < 1e-5);  // what the project promises
  CHECK(e.largest_absolute > 0);     // something was compared: float is not exact
  // the library's own float arithmetic end to end
  for (std::size_t i = 0; i < before.consumers.size(); ++i) {
    const rq::matrix<> want = apply(before.consumers[i], apply(before.norm, before.input));
    const rq::matrix<> got = apply(after.consumers[i], apply(after.norm, before.input));
    CHECK((want - got).cwiseAbs().maxCoeff() < 1e-5F * want.cwiseAbs().maxCoeff());
  }
}

TEST_CASE("fold: awkward channels", "[reparam]") {
  site before = make_site(4, 1000, 64, 3);
  SECTION("scales a million apart") {
    for (rq::index d = 0; d < 64; ++d) {
      const float factor = std::pow(10.0F, static_cast<float>(d % 7) - 3);
      before.norm.gamma(d) *= factor;
      before.norm.beta(d) *= factor;
      for (rq::linear& l : before.consumers) l.weight.col(d) /= factor;
    }
  }
  SECTION("one-signed channels, either way") {
    for (rq::index d = 0; d < 64; d += 3) before.norm.beta(d) = d % 2 == 0 ? 40.0F : -40.0F;
  }
  SECTION("all channels one-signed") { before.norm.beta.setConstant(30); }
  SECTION("a constant channel and one that is always zero") {
    before.norm.gamma(5) = 0;
    before.norm.beta(5) = 2.5F;
    before.norm.gamma(6) = 0;
    before.norm.beta(6) = 0;
  }
  SECTION("a single channel") {
    before = make_site(4, 50, 1, 3);
    before.norm.beta(0) = 1;
  }
  before.channels = ranges_of(before.codec, apply(before.norm, before.input));
  site after = before;
  const auto pointers = after.pointers();
  const auto layer = rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers);
  REQUIRE(layer);
  const rq::equivalence e = compare(before, after, *layer);
  CHECK(e.codes_broken == 0);
  CHECK(e.largest_relative < 1e-5);
}

TEST_CASE("fold: the report sees what is wrong", "[reparam]") {
  const site before = make_site(4, 300, 32, 4);
  site after = before;
  const auto pointers = after.pointers();
  const rq::affine layer = rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers).value();
  SECTION("a consumer that was forgotten") {
    after.consumers[1] = before.consumers[1];
    CHECK(compare(before, after, layer).largest_relative > 0.1);
    CHECK(compare(before, after, layer).codes_broken == 0);
  }
  SECTION("a zero point that is off by one") {
    const rq::equivalence e = compare(before, after, {layer.scale, layer.zero_point + 1});
    CHECK(e.codes_broken > e.codes / 2);
    CHECK(e.codes_differ == e.codes_broken + e.near_ties);
  }
  SECTION("a gamma that is off by 2^-10") {
    after.norm.gamma *= 1 + 0x1p-10F;
    CHECK(compare(before, after, layer).codes_broken > 0);
  }
}

TEST_CASE("near ties: the band around a half", "[reparam]") {
  CHECK(rq::is_near_tie(2.5, 0));
  CHECK(rq::is_near_tie(-2.5, 0));
  CHECK(rq::is_near_tie(2.5 + 27 * 0x1p-24, 0));
  CHECK_FALSE(rq::is_near_tie(2.5 + 29 * 0x1p-24, 0));
  CHECK(rq::is_near_tie(2.5 - 35 * 0x1p-24, -1));
  CHECK_FALSE(rq::is_near_tie(3.0, 100));
}

TEST_CASE("fold: nothing is half done", "[reparam]") {
  const site before = make_site(4, 100, 16, 5);
  site after = before;
  const auto pointers = after.pointers();
  const auto refused = [&](rq::errc code) {
    const auto r = rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers);
    const auto f = rq::fuse_norm(after.codec, after.channels, pointers);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == code);
    REQUIRE_FALSE(f);
    CHECK(f.error().code == code);
    return r.error();
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  SECTION("NaN in the last consumer") {
    after.consumers[2].weight(4, 3) = nan;
    const rq::failure f = refused(rq::errc::non_finite);
    CHECK(std::string(f.where) == "fold: consumer 2");
    CHECK(f.got == 1);
    after.consumers[2].weight(4, 3) = before.consumers[2].weight(4, 3);
    CHECK(equal(before, after));
  }
  SECTION("a consumer of another width") {
    after.consumers[1].weight = rq::matrix<>::Zero(9, 15);
    const rq::failure f = refused(rq::errc::shape_mismatch);
    CHECK(f.got == 15);
    CHECK(f.want == 16);
    after.consumers[1].weight = before.consumers[1].weight;
    CHECK(equal(before, after));
  }
  SECTION("a fold that overflows") {
    // The other scales make the mean small, so that r1 = 16 in channel 3 and its weight leaves the floats.
    after.consumers[2].weight(0, 3) = 3e38F;
    after.channels.assign(16, {1e-3F, 3});
    after.channels[3].scale = 1;
    CHECK(std::string(refused(rq::errc::non_finite).where).find("overflow") != std::string::npos);
    after.consumers[2].weight(0, 3) = before.consumers[2].weight(0, 3);
    CHECK(equal(before, after));
  }
  SECTION("parameters") {
    after.channels[3].scale = 0;
    CHECK(refused(rq::errc::bad_option).got == 3);
    after.channels[3].scale = nan;
    refused(rq::errc::bad_option);
    after.channels[3].scale = std::numeric_limits<float>::infinity();
    refused(rq::errc::bad_option);
    after.channels[3] = {1, (1 << 22) + 1};
    refused(rq::errc::bad_option);
    after.channels[3] = {1, std::numeric_limits<std::int32_t>::min()};
    refused(rq::errc::bad_option);
    after.channels.clear();
    refused(rq::errc::empty);
    after.channels = before.channels;
    after.codec.bits = 9;
    refused(rq::errc::bad_bits);
    CHECK(equal(before, after));
  }
  SECTION("consumers") {
    const std::vector<rq::linear*> none;
    CHECK(rq::fold_layer_norm(after.codec, after.channels, after.norm, none).error().code == rq::errc::empty);
    const std::vector<rq::linear*> twice{pointers[0], pointers[1], pointers[0]};
    const auto r = rq::fold_layer_norm(after.codec, after.channels, after.norm, twice);
    CHECK(r.error().code == rq::errc::bad_option);
    CHECK(r.error().got == 2);
    const std::vector<rq::linear*> null{pointers[0], nullptr};
    CHECK(rq::fold_layer_norm(after.codec, after.channels, after.norm, null).error().code == rq::errc::empty);
    CHECK(equal(before, after));
  }
  SECTION("the norm") {
    after.norm.gamma(2) = nan;
    CHECK(rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers).error().code ==
          rq::errc::non_finite);
    after.norm = before.norm;
    after.channels.pop_back();
    CHECK(rq::fold_layer_norm(after.codec, after.channels, after.norm, pointers).error().code ==
          rq::errc::shape_mismatch);
    CHECK(equal(before, after));
  }
}

TEST_CASE("fold: rms_norm moves scales, never zero points", "[reparam]") {
  const site base = make_site(4, 500, 32, 6);
  const rq::rms_norm before{base.norm.gamma, 1e-6F};
  const rq::matrix<> output = apply(before, base.input);
  site after = base;
  const auto pointers = after.pointers();
  rq::rms_norm norm = before;
  SECTION("symmetric parameters fold") {
    const rq::uniform codec{4, true};
    const auto channels = ranges_of(codec, output);
    const rq::affine layer = rq::fold_layer_norm(codec, channels, norm, pointers).value();
    CHECK(layer.zero_point == 8);
    CHECK(after.consumers[1].bias.size() == 0);
    const rq::equivalence e =
        rq::fold_equivalence(base.input, codec, channels, layer, before, norm, base.views(), after.views())
            .value();
    CHECK(e.codes_broken == 0);
    CHECK(e.largest_relative < 1e-5);
  }
  SECTION("others are refused, and the fused form is named") {
    const auto channels = ranges_of(base.codec, output);
    const auto r = rq::fold_layer_norm(base.codec, channels, norm, pointers);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == rq::errc::bad_option);
    CHECK(std::string(r.error().where).find("fuse_norm") != std::string::npos);
    CHECK(r.error().got > 0);
    CHECK(norm.gamma == before.gamma);
    CHECK(equal(base, after));
  }
}

TEST_CASE("fuse_norm: the consumers of the fold, the norm left alone", "[reparam]") {
  const site before = make_site(4, 500, 32, 7);
  site folded = before;
  site fused = before;
  const auto folded_pointers = folded.pointers();
  const auto fused_pointers = fused.pointers();
  const rq::affine layer =
      rq::fold_layer_norm(folded.codec, folded.channels, folded.norm, folded_pointers).value();
  const rq::affine same = rq::fuse_norm(fused.codec, fused.channels, fused_pointers).value();
  CHECK(layer.scale == same.scale);
  CHECK(layer.zero_point == same.zero_point);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(folded.consumers[i].weight == fused.consumers[i].weight);
    CHECK(folded.consumers[i].bias == fused.consumers[i].bias);
  }
  CHECK(fused.norm.gamma == before.norm.gamma);
  const rq::matrix<> output = apply(before.norm, before.input);
  const auto compare_fused = [&](const site& s) {
    return rq::fused_equivalence(output, before.codec, before.channels, layer, before.views(), s.views())
        .value();
  };
  CHECK(compare_fused(fused).largest_relative < 1e-6);  // 2^-24 for every weight, one float bias
  fused.consumers[0].bias(0) += 1;
  CHECK(compare_fused(fused).largest_absolute > 0.9);
}

TEST_CASE("equivalence refuses what does not belong together", "[reparam]") {
  const site s = make_site(4, 20, 8, 8);
  const auto views = s.views();
  const rq::affine layer{1, 3};
  const auto run = [&](const rq::matrix<>& x, const std::vector<const rq::linear*>& folded) {
    return rq::fold_equivalence(x, s.codec, s.channels, layer, s.norm, s.norm, views, folded).error().code;
  };
  CHECK(run(rq::matrix<>(0, 8), views) == rq::errc::empty);
  CHECK(run(rq::matrix<>(2, 7).setZero(), views) == rq::errc::shape_mismatch);
  CHECK(run(s.input, {views[0]}) == rq::errc::shape_mismatch);
  CHECK(run(s.input, {views[0], views[2], views[1]}) == rq::errc::shape_mismatch);
  CHECK(run(s.input, {views[0], nullptr, views[2]}) == rq::errc::empty);
  rq::matrix<> bad = s.input;
  bad(1, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK(run(bad, views) == rq::errc::non_finite);
}
