// SPDX-License-Identifier: MIT
/// quantize_block on small transformers of all shapes: what is folded, shared and refused, and how near the
/// integer result is to the float one.
#include "catch.hpp"
#include "unit/block/networks.hpp"
#include <limits>
#include <map>
#include <set>

namespace rq = repquant;

namespace {

using networks::fidelity;
using networks::float_results;
using networks::integer_results;
using networks::samples;

rq::program record(rq::index cols, std::function<rq::value(rq::trace&, rq::value)> steps) {
  return rq::record(networks::block{std::move(steps)}, cols).value();
}
rq::repquant_recipe at_bits(int bits) { return rq::with_bits(rq::repquant_recipe{}, bits, bits); }
/// The same with inputs as they are: a norm that is mixed with others before it is coded is not folded.
rq::repquant_recipe unspread(int bits) {
  rq::repquant_recipe r = at_bits(bits);
  r.spread_below = 0;
  return r;
}

bool equal(const samples& a, const samples& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return false;
  }
  return a.size() == b.size();
}
std::vector<const rq::instruction*> instructions_of(const rq::quantized_model& m, rq::opcode kind) {
  std::vector<const rq::instruction*> all;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind == kind) all.push_back(&s);
  }
  return all;
}
/// The encode instruction of a site.
const rq::instruction& encode_of(const rq::quantized_model& m, const std::string& path) {
  for (const rq::instruction* s : instructions_of(m, rq::opcode::encode)) {
    if (m.view().path(m.view().sites()[static_cast<std::size_t>(s->site)]) == path) return *s;
  }
  FAIL("no site " << path);
  return m.view().instructions()[0];
}

}  // namespace

// Uniform b-bit rounding of a normal value clipped at four deviations has a signal-to-noise ratio of about
// 6 b - 5 dB. A block has some ten sites in series, each as noisy: 10 log10(10) = 10 dB less. So 6 b - 15:
// 33 dB at 8 bits, 21 at 6, 9 at 4; a wrong scale, zero point or fold gives 0 dB or less. That is on the
// samples whose ranges are known. On others, tokens beyond the 240 of the calibration are clipped, which
// costs most where rounding costs least: 20 dB.
TEST_CASE("blocks of every shape are near their float function", "[block][quantize]") {
  const samples calibration = networks::random_samples(24, 10, 16, 3);
  const samples test = networks::random_samples(6, 10, 16, 1003);
  const std::map<std::string, rq::program> programs{{"pre-norm", networks::encoder_program()},
                                                    {"post-norm", networks::post_norm()},
                                                    {"decoder", networks::decoder_program()}};
  for (const auto& [name, p] : programs) {
    const auto m8 = networks::quantize(p, calibration, at_bits(8));
    const auto m6 = networks::quantize(p, calibration, at_bits(6));
    const auto m4 = networks::quantize(p, calibration, at_bits(4));
    REQUIRE((m8 && m6 && m4));
    const double at8 = fidelity(p, *m8, calibration);
    const double at6 = fidelity(p, *m6, calibration);
    const double at4 = fidelity(p, *m4, calibration);
    const double unseen = fidelity(p, *m8, test);
    CAPTURE(name, at8, at6, at4, unseen);
    CHECK(at8 > 33);
    CHECK(at6 > 21);
    CHECK(at4 > 9);
    CHECK(at8 > at6 + 6);  // two bits are 12 dB
    CHECK(at6 > at4 + 6);
    CHECK(unseen > 20);
    for (const std::string recipe : {"naive", "repq"}) {
      const auto other = networks::quantize(p, calibration, recipe, 8, 8);
      REQUIRE(other);
      CAPTURE(recipe);
      // min-max clips nothing; the published percentiles always cut the tails, of known samples, too
      CHECK(fidelity(p, *other, calibration) > (recipe == "naive" ? 30 : 20));
    }
  }
}

TEST_CASE("a shared block called twelve times", "[block][quantize]") {
  const rq::encoder_block b = networks::random_encoder(16, 32, 2, 50);
  const rq::program p = record(16, [&](rq::trace& t, rq::value x) {
    for (rq::index i = 0; i < 12; ++i) {
      const auto scope = t.scope("layer", i);
      x = b.forward(t, x);
    }
    return x;
  });
  const samples calibration = networks::random_samples(8, 10, 16, 3);
  const auto once = networks::quantize(rq::record(b, 16).value(), calibration, "naive", 8, 8);
  const auto shared = networks::quantize(p, calibration, "naive", 8, 8);
  const auto repq = networks::quantize(p, calibration, at_bits(8));
  REQUIRE((once && shared && repq));

  // a site of its own for each call, and parameters of its own
  std::set<std::string> paths;
  for (const rq::site_report& s : shared->report().sites) paths.insert(s.path);
  CHECK(paths.size() == shared->report().sites.size());
  CHECK(paths.size() == 12 * once->report().sites.size());
  CHECK(paths.count("layer.11.attn.query") == 1);
  std::set<float> scales;
  for (rq::index i = 0; i < 12; ++i) {
    const std::string layer = "layer." + std::to_string(i);
    scales.insert(shared->view().numbers<float>(encode_of(*shared, layer + ".fc2.in").data[0], 1)[0]);
  }
  CHECK(scales.size() == 12);

  // equal weights are stored once: min-max rounding gives every call the same codes
  std::map<std::pair<std::int32_t, std::int32_t>, std::set<std::uint64_t>> places;
  for (const rq::instruction* s : instructions_of(*shared, rq::opcode::linear)) {
    places[{s->cols, s->inner}].insert(s->data[0]);
  }
  CHECK(places[{16, 16}].size() == 4);
  CHECK(places[{32, 16}].size() == 1);
  CHECK(places[{16, 32}].size() == 1);
  const std::size_t weights = 4 * 16 * 16 + 2 * 16 * 32;
  CHECK(shared->bytes().size() < 12 * once->bytes().size() - 11 * weights);
  CHECK(shared->packed_bytes() < 12 * once->packed_bytes() - 11 * weights);

  // Noise adds up over twelve layers: 10 log10(12) = 11 dB less than one block's 33.
  CHECK(fidelity(p, *repq, calibration) > 22);
  CHECK(fidelity(p, *shared, calibration) > 22);
}

TEST_CASE("a norm is folded into all that reads it, or into nothing", "[block][quantize]") {
  const samples calibration = networks::random_samples(16, 10, 16, 3);
  const rq::encoder_block b = networks::random_encoder(16, 32, 2, 60);

  SECTION("by several layers: folded together, one parameter set") {
    const rq::program p = rq::record(b, 16).value();
    const auto m = networks::quantize(p, calibration, unspread(4));
    REQUIRE(m);
    REQUIRE(m->report().folds.size() == 2);
    CHECK(m->report().folds[0].path == "ln1.out");
    CHECK(m->report().folds[1].path == "ln2.out");
    for (const rq::fold_report& f : m->report().folds) {
      CHECK(f.measured.codes == 8 * 10 * 16);  // of eight samples
      CHECK(f.measured.codes_broken == 0);
      CHECK(f.measured.largest_relative < 1e-5);
    }
    for (const char* site : {"ln1.out", "ln2.out"}) CHECK(encode_of(*m, site).per_column == 0);
    // q, k and v read the same codes
    const std::int32_t codes = encode_of(*m, "ln1.out").out;
    const auto linears = instructions_of(*m, rq::opcode::linear);
    for (std::size_t i = 0; i < 3; ++i) CHECK(linears[i]->a == codes);
  }
  SECTION("by the residual, too: post-norm keeps its norm and encodes channel by channel") {
    const auto m = networks::quantize(networks::post_norm(), calibration, unspread(4));
    REQUIRE(m);
    CHECK(m->report().folds.empty());
    CHECK(encode_of(*m, "ln1.out").per_column == 1);
    const auto norms = instructions_of(*m, rq::opcode::norm);
    const rq::layer_norm norm1 = networks::random_norm(16, 40);  // random_encoder's first
    const auto gamma = m->view().numbers<float>(norms[0]->data[0], 16);
    for (rq::index i = 0; i < 16; ++i) CHECK(gamma[static_cast<std::size_t>(i)] == norm1.gamma(i));
  }
  SECTION("by an attention, a sum or the end: not folded") {
    const auto reader = [&](int kind) {
      return record(16, [&b, kind](rq::trace& t, rq::value x) {
        const rq::value n = t.norm("ln", b.norm1, x);
        const rq::value y = t.linear("fc", b.q, n);
        if (kind == 0) return t.attention("attn", {.heads = 2}, y, n, n);
        if (kind == 1) return t.add(y, n);
        return n;  // the norm is the result, and fc goes nowhere
      });
    };
    for (const int kind : {0, 1, 2}) {
      CAPTURE(kind);
      const auto m = networks::quantize(reader(kind), calibration, unspread(8));
      REQUIRE(m);
      CHECK(m->report().folds.empty());
      CHECK(encode_of(*m, "ln.out").per_column == 1);
      CHECK(fidelity(reader(kind), *m, calibration) > 33);
    }
  }
  SECTION("by nothing linear: no site at all") {
    const rq::program p =
        record(16, [&b](rq::trace& t, rq::value x) { return t.add(t.norm("ln", b.norm1, x), x); });
    const auto m = networks::quantize(p, calibration, unspread(4));
    REQUIRE(m);
    CHECK(m->report().sites.empty());
    CHECK(fidelity(p, *m, calibration) > 120);  // float all the way
  }
  SECTION("an RMS norm has no shift: channel by channel") {
    const auto m = networks::quantize(networks::decoder_program(), calibration, unspread(4));
    REQUIRE(m);
    CHECK(m->report().folds.empty());
    CHECK(encode_of(*m, "norm1.out").per_column == 1);
    CHECK(encode_of(*m, "norm2.out").per_column == 1);
  }
  SECTION("a recipe without channel-wise norms: layer-wise as all else") {
    const auto m = networks::quantize(rq::record(b, 16).value(), calibration, "naive", 4, 4);
    REQUIRE(m);
    CHECK(m->report().folds.empty());
    CHECK(encode_of(*m, "attn.q.in").per_column == 0);
  }
}

TEST_CASE("a norm whose output is spread keeps the name of its site", "[block][quantize]") {
  const samples calibration = networks::random_samples(16, 10, 16, 3);
  const rq::program p = rq::record(networks::random_encoder(16, 32, 2, 60), 16).value();
  rq::repquant_recipe always = at_bits(4);
  always.spread_below = 1e9;
  const auto plain = networks::quantize(p, calibration, unspread(4));
  const auto spread = networks::quantize(p, calibration, always);
  REQUIRE(plain);
  REQUIRE(spread);
  CHECK(instructions_of(*plain, rq::opcode::hadamard).empty());
  CHECK(instructions_of(*spread, rq::opcode::hadamard).size() == 4);  // ln1, out, ln2, fc2
  CHECK(spread->report().folds.empty());
  REQUIRE(plain->report().sites.size() == spread->report().sites.size());
  for (std::size_t i = 0; i < plain->report().sites.size(); ++i) {
    CHECK(plain->report().sites[i].path == spread->report().sites[i].path);
    CHECK(plain->report().sites[i].role == spread->report().sites[i].role);
  }
  CHECK(fidelity(p, *spread, calibration) > 9);
}

TEST_CASE("a layer without a bias gets one from the fold", "[block][quantize]") {
  // all channels one-signed: zero points far from the middle, so that the fold must shift
  rq::layer_norm norm = networks::random_norm(16, 70);
  for (rq::index i = 0; i < 16; ++i) norm.beta(i) = (i % 2 == 0 ? 6 : -6) * norm.gamma(i);
  const rq::linear fc = networks::random_linear(12, 16, 71, false);
  const rq::program p =
      record(16, [&](rq::trace& t, rq::value x) { return t.linear("fc", fc, t.norm("ln", norm, x)); });
  const auto m = networks::quantize(p, networks::random_samples(16, 10, 16, 3), "repq", 8, 8);
  REQUIRE(m);
  REQUIRE(m->report().folds.size() == 1);
  const rq::instruction& s = *instructions_of(*m, rq::opcode::linear)[0];
  float most = 0;
  for (float c : m->view().numbers<float>(s.data[3], 12)) most = std::max(most, std::fabs(c));
  CHECK(most > 0.1F);
  CHECK(fidelity(p, *m, networks::random_samples(4, 10, 16, 1003)) > 33);
}

TEST_CASE("awkward norm channels keep the function", "[block][quantize]") {
  // Channels: constant zero, constant, one-signed on either side, and the rest spread over a ratio of 1e6.
  rq::layer_norm norm = networks::random_norm(16, 80, 1e6F);
  norm.gamma(0) = 0;
  norm.beta(0) = 0;
  norm.gamma(1) = 0;
  norm.beta(1) = 3;
  norm.beta(2) = 7 * std::fabs(norm.gamma(2));
  norm.beta(3) = -7 * std::fabs(norm.gamma(3));
  // consumers weigh the channels so that each matters, as training would
  const auto balanced = [&](rq::index out, unsigned seed) {
    rq::linear l = networks::random_linear(out, 16, seed);
    for (rq::index j = 0; j < 16; ++j)
      l.weight.col(j) /= std::max(std::fabs(norm.gamma(j)), std::fabs(norm.beta(j))) + 1e-6F;
    l.weight.col(0).setConstant(0.5F);
    return l;
  };
  const rq::linear a = balanced(12, 81);
  const rq::linear b = balanced(12, 82);
  const rq::program p = record(16, [&](rq::trace& t, rq::value x) {
    const rq::value n = t.norm("ln", norm, x);
    return t.add(t.linear("a", a, n), t.linear("b", b, n));
  });
  const samples calibration = networks::random_samples(24, 10, 16, 3);
  for (const char* recipe : {"repq", "repquant"}) {
    for (const int bits : {8, 4}) {
      CAPTURE(recipe, bits);
      const auto m = networks::quantize(p, calibration, recipe, bits, bits);
      REQUIRE(m);
      REQUIRE(m->report().folds.size() == 1);
      const rq::equivalence& e = m->report().folds[0].measured;
      CHECK(e.largest_relative < 1e-5);
      CHECK(e.codes_broken == 0);
      // activations and weights, one after the other, instead of ten sites: 6 b - 5 - 3
      CHECK(fidelity(p, *m, calibration) > 6 * bits - 8);
    }
  }
  // with one scale for all channels, all but the largest are lost
  const auto naive = networks::quantize(p, calibration, "naive", 8, 8);
  REQUIRE(naive);
  CHECK(fidelity(p, *naive, calibration) < 10);
}

TEST_CASE("every way from tokens to a result", "[block][quantize]") {
  const samples calibration = networks::random_samples(16, 10, 16, 3);
  const samples test = networks::random_samples(4, 7, 16, 1003);  // other lengths than were calibrated with
  const rq::encoder_block b = networks::random_encoder(16, 32, 2, 90);
  const rq::linear head = networks::random_linear(5, 16, 91);
  const rq::matrix<> two = networks::random_matrix(2, 16, 0.5F, 92);
  using function = std::function<rq::value(rq::trace&, rq::value)>;
  const std::vector<std::pair<const char*, function>> ways{
      {"mean",
       [&](rq::trace& t, rq::value x) { return t.linear("head", head, t.mean_rows(b.forward(t, x))); }},
      {"last",
       [&](rq::trace& t, rq::value x) { return t.linear("head", head, t.select_row(-1, b.forward(t, x))); }},
      {"all", [&](rq::trace& t, rq::value x) { return b.forward(t, x); }},
      {"a token behind the mean",
       [&](rq::trace& t, rq::value x) {
         const rq::matrix<> token = two.topRows(1);
         return t.linear("head", head, t.prepend_row("token", token, t.mean_rows(b.forward(t, x))));
       }},
      {"one query for all keys",  // class attention: fewer queries than keys
       [&](rq::trace& t, rq::value x) {
         const rq::value q = t.linear("q", b.q, t.select_row(0, x));
         return t.attention("attn", {.heads = 2}, q, t.linear("k", b.k, x), t.linear("v", b.v, x));
       }},
      {"one key for all queries",
       [&](rq::trace& t, rq::value x) {
         const rq::value m = t.mean_rows(x);
         return t.attention("attn", {.heads = 2}, t.linear("q", b.q, x), t.linear("k", b.k, m),
                            t.linear("v", b.v, m));
       }},
      {"memory tokens for the keys alone",  // more keys than queries
       [&](rq::trace& t, rq::value x) {
         const rq::matrix<> first = two.topRows(1);
         const rq::matrix<> second = two.bottomRows(1);
         const rq::value m = t.prepend_row("m0", first, t.prepend_row("m1", second, x));
         return t.attention("attn", {.heads = 2, .causal = true}, t.linear("q", b.q, x),
                            t.linear("k", b.k, m), t.linear("v", b.v, m));
       }},
      {"causal with fewer keys than queries",  // the first queries see none
       [&](rq::trace& t, rq::value x) {
         const rq::value m = t.prepend_row("m", two.topRows(1).eval(), t.mean_rows(x));
         const rq::attention_options causal{.heads = 2, .causal = true};
         return t.attention("attn", causal, t.linear("q", b.q, x), t.linear("k", b.k, m),
                            t.linear("v", b.v, m));
       }},
      {"the input as it is", [&](rq::trace& t, rq::value x) { return t.add(x, t.linear("q", b.q, x)); }},
      {"a dead end beside the way", [&](rq::trace& t, rq::value x) {
         t.linear("head", head, t.select_row(-2, x));
         return t.linear("q", b.q, x);
       }}};
  for (const auto& [name, steps] : ways) {
    CAPTURE(name);
    const rq::program p = record(16, steps);
    const auto m = networks::quantize(p, calibration, at_bits(8));
    REQUIRE(m);
    CHECK(fidelity(p, *m, calibration) > 30);  // five sites or fewer, then perhaps a head: 6 b - 18
    const samples want = float_results(p, test);
    const samples got = integer_results(*m, test);
    for (std::size_t i = 0; i < want.size(); ++i) {
      REQUIRE(got[i].rows() == want[i].rows());
      REQUIRE(got[i].cols() == want[i].cols());
    }
    CHECK(networks::decibels(want, got) > 15);  // other tokens, and means over fewer of them: clipped
    samples simulated;
    for (const rq::matrix<>& x : test) simulated.push_back(m->simulate(x).value());
    CHECK(equal(got, simulated));
  }
}

TEST_CASE("threads and the order of work change nothing", "[block][quantize]") {
  const rq::program p = rq::record(networks::random_encoder(32, 64, 4, 100), 32).value();
  const samples x = networks::random_samples(7, 12, 32, 3);
  for (const char* recipe : {"naive", "repq", "repquant"}) {
    const auto one = networks::quantize(p, x, recipe, 4, 4, {1});
    REQUIRE(one);
    for (const int count : {2, 3, 8}) {
      const auto several = networks::quantize(p, x, recipe, 4, 4, {count});
      REQUIRE(several);
      CAPTURE(recipe, count);
      CHECK(std::equal(one->bytes().begin(), one->bytes().end(), several->bytes().begin(),
                       several->bytes().end()));
    }
  }
}

TEST_CASE("progress counts the steps, and can stop the work", "[block][quantize]") {
  const networks::block b{
      [](rq::trace& t, rq::value x) { return networks::random_encoder(16, 32, 2, 3).forward(t, x); }};
  const samples x = networks::random_samples(3, 6, 16, 5);
  std::vector<rq::index> seen;
  rq::index all = 0;
  REQUIRE(networks::quantize_block(b, x, at_bits(4), [&](rq::index done, rq::index steps) {
    seen.push_back(done);
    all = steps;
    return true;
  }));
  REQUIRE(static_cast<rq::index>(seen.size()) == all);
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == static_cast<rq::index>(i) + 1);
  const auto stopped =
      networks::quantize_block(b, x, at_bits(4), [](rq::index done, rq::index) { return done < 4; });
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == rq::errc::cancelled);
  CHECK(stopped.error().got == 4);
  CHECK(stopped.error().want == all);
}

TEST_CASE("samples that cannot be calibrated with are refused with their number", "[block][quantize]") {
  const networks::block b{[](rq::trace& t, rq::value x) {
    x = t.add_rows("pos", networks::random_matrix(8, 16, 0.2F, 1), x);
    return networks::random_encoder(16, 32, 2, 3).forward(t, x);
  }};
  const samples good = networks::random_samples(4, 6, 16, 5);
  const auto refused = [&](const samples& x) {
    const auto m = networks::quantize_block(b, x, at_bits(4));
    REQUIRE_FALSE(m);
    return m.error();
  };
  const auto says = [](const rq::failure& f, rq::errc code, const std::string& place) {
    CAPTURE(f.where, f.got, f.want);
    CHECK(f.code == code);
    CHECK(std::string(f.where).find(place) == 0);
  };
  says(refused({}), rq::errc::empty, "calibration samples");
  samples x = good;
  x[2] = rq::matrix<>(0, 16);
  says(refused(x), rq::errc::empty, "calibration sample 2: rows");
  x = good;
  x[3] = networks::random_matrix(6, 15, 1, 1);
  rq::failure f = refused(x);
  says(f, rq::errc::shape_mismatch, "calibration sample 3: columns");
  CHECK(f.got == 15);
  CHECK(f.want == 16);
  x = {rq::matrix<>(6, 0)};
  says(refused(x), rq::errc::shape_mismatch, "");
  for (const float v : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    x = good;
    x[1](5, 7) = v;
    x[1](0, 0) = v;
    f = refused(x);
    says(f, rq::errc::non_finite, "calibration sample 1");
    CHECK(f.got == 2);
  }
  x = good;
  x[0] = networks::random_matrix(9, 16, 1, 1);
  f = refused(x);
  says(f, rq::errc::shape_mismatch, "pos: tokens");
  CHECK(f.got == 9);
  CHECK(f.want == 8);
  // finite samples whose float run overflows: refused where it shows
  x = good;
  x[1].setConstant(3e38F);
  x[1](0, 0) = -3e38F;
  says(refused(x), rq::errc::non_finite, "");
}

TEST_CASE("few, empty-looking and constant samples work", "[block][quantize]") {
  const rq::program p = rq::record(networks::random_encoder(16, 32, 2, 3), 16).value();
  const samples usual = networks::random_samples(3, 6, 16, 5);
  const std::vector<std::pair<const char*, samples>> all{
      {"one sample of one token", {usual[0].topRows(1)}},  // 1 < 16 columns: a Gram matrix of rank 1
      {"all zero", {rq::matrix<>::Zero(6, 16), rq::matrix<>::Zero(2, 16)}},
      {"constant", {rq::matrix<>::Constant(6, 16, 5.0F)}},
      {"constant and negative", {rq::matrix<>::Constant(6, 16, -3e-3F)}},
      {"tiny", {1e-30F * usual[0]}},
      {"huge", {1e15F * usual[0]}},
      {"different lengths", {usual[0], usual[1].topRows(2), usual[2].topRows(1)}}};
  for (const auto& [name, x] : all) {
    for (const char* recipe : {"naive", "repq", "repquant"}) {
      for (const int bits : {8, 4}) {
        CAPTURE(name, recipe, bits);
        const auto m = networks::quantize(p, x, recipe, bits, bits);
        if (!m) {
          char text[200];
          rq::describe(m.error(), text);
          FAIL(text);
        }
        for (const rq::matrix<>& s : x) {
          const rq::matrix<> y = m->run(s).value();
          REQUIRE(y.allFinite());
          REQUIRE(y == m->simulate(s).value());
        }
        REQUIRE(m->run(usual[1]).value().allFinite());  // what was not calibrated for saturates
      }
    }
  }
}

TEST_CASE("a constant, nonzero input of a model is kept", "[block][quantize]") {
  const rq::linear fc = networks::random_linear(8, 16, 110);
  const rq::program p = record(16, [&](rq::trace& t, rq::value x) { return t.linear("fc", fc, x); });
  for (const float level : {5.0F, -0.02F, 1000.0F}) {
    const samples x{rq::matrix<>::Constant(3, 16, level)};
    CAPTURE(level);
    for (const char* recipe : {"naive", "repquant"}) {
      const auto m = networks::quantize(p, x, recipe, 8, 8);
      REQUIRE(m);
      CHECK(fidelity(p, *m, x) > 33);
    }
  }
}
