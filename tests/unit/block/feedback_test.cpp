// SPDX-License-Identifier: MIT
/// Models whose codes make up for each other's errors: what they gain, which sites they are, and that the
/// bytes do not depend on threads.
#include <repquant/block/feedback.hpp>

#include "catch.hpp"
#include "networks.hpp"
#include <map>

namespace rq = repquant;

namespace {

using networks::same_bytes;
using networks::samples;

std::map<std::string, rq::program> programs() {
  return {{"encoder", networks::encoder_program()},
          {"post-norm", networks::post_norm()},
          {"decoder", networks::decoder_program()}};
}
rq::repquant_recipe with_feedback(rq::index block, int weight_bits, int bits) {
  rq::repquant_recipe r = rq::with_bits(rq::repquant_recipe{}, weight_bits, bits);
  r.feedback_block = block;
  return r;
}
/// The largest of equal parts of a head that is no larger than a block.
rq::index part_of_head(rq::index head, rq::index block) {
  rq::index part = 1;
  for (rq::index k = 2; k <= std::min(head, block); ++k) part = head % k == 0 ? k : part;
  return part;
}
/// How many codes a block of each site has: 0 without feedback.
std::map<std::string, int> blocks_of(const rq::quantized_model& m) {
  std::map<std::string, int> blocks;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind != rq::opcode::encode) continue;
    blocks[std::string(m.view().path(m.view().sites()[static_cast<std::size_t>(s.site)]))] = s.inner;
  }
  return blocks;
}

}  // namespace

TEST_CASE("feedback makes four-bit codes of activations err less", "[block][feedback]") {
  // Errors of the codes fall by a third at least, 1.8 dB, where weights of eight bits hide nothing and
  // probabilities, which have no feedback, have eight bits: 2.0 dB for the encoder, 3.1 post-norm, 1.9 for
  // the decoder. With weights of four bits 1.5, 2.1 and 1.6.
  const samples calibration = networks::random_samples(24, 12, 16, 3);
  const samples test = networks::random_samples(16, 12, 16, 1003);
  for (const auto& [name, p] : programs()) {
    const auto gain = [&, &program = p](int weight_bits, int probability_bits) {
      double found[2];
      for (const int fed : {0, 1}) {
        rq::repquant_recipe r = with_feedback(fed == 0 ? 0 : 64, weight_bits, 4);
        r.overrides.push_back({"attn.probabilities", probability_bits});
        found[fed] = networks::fidelity(program, networks::quantize(program, calibration, r).value(), test);
      }
      return found[1] - found[0];
    };
    CAPTURE(name);
    const double fine_weights = gain(8, 8);
    const double all_four = gain(4, 4);
    CAPTURE(fine_weights, all_four);
    CHECK(fine_weights > 1.5);
    CHECK(all_four > 1);
  }
}

TEST_CASE("feedback: codes of everything but the input of the model", "[block][feedback]") {
  const samples x = networks::random_samples(6, 7, 16, 5);
  for (const auto& [name, p] : programs()) {
    CAPTURE(name);
    const rq::index head = name == "post-norm" ? 8 : 4;
    for (const rq::index block : {3, 10, 256}) {
      const rq::quantized_model m = networks::quantize(p, x, with_feedback(block, 4, 4)).value();
      const rq::quantized_model plain = networks::quantize(p, x, with_feedback(0, 4, 4)).value();
      REQUIRE(m.view().sites().size() == plain.view().sites().size());
      for (const auto& [path, inner] : blocks_of(m)) {
        CAPTURE(path, block);
        const rq::instruction& s = networks::encode_at(m, path);
        const rq::site_role role = m.view().sites()[static_cast<std::size_t>(s.site)].role;
        const bool operand =
            role == rq::site_role::query || role == rq::site_role::key || role == rq::site_role::value;
        const rq::index most = operand ? part_of_head(head, block) : std::min<rq::index>(block, s.cols);
        // what the attention of the decoder makes of its values is mixed before a layer reads it
        const bool none = role == rq::site_role::model_input || (name == "decoder" && path == "attn.value");
        CHECK(inner == (none ? 0 : most));
        // no site is without effect: some error reaches another channel
        if (none) continue;
        const auto unit = m.view().numbers<float>(s.data[1], static_cast<std::size_t>(s.cols));
        CHECK(*std::max_element(unit.begin(), unit.end()) > 0);
      }
      for (const auto& [path, inner] : blocks_of(plain)) CHECK(inner == 0);
    }
  }
}

TEST_CASE("feedback: operands of an attention that no linear layer reads", "[block][feedback]") {
  const rq::program last = rq::record(networks::block{[](rq::trace& t, rq::value x) {
                                        const rq::encoder_block b = networks::random_encoder(16, 32, 2, 40);
                                        const rq::value n = t.norm("norm", b.norm1, x);
                                        return t.attention("attn", {.heads = 2}, t.linear("q", b.q, n),
                                                           t.linear("k", b.k, n), t.linear("v", b.v, n));
                                      }},
                                      16)
                               .value();
  const samples x = networks::random_samples(6, 7, 16, 5);
  const auto blocks = blocks_of(networks::quantize(last, x, with_feedback(64, 4, 4)).value());
  const std::map<std::string, int> want{
      {"norm.out", 16}, {"attn.query", 8}, {"attn.key", 8}, {"attn.value", 0}};
  for (const auto& [path, block] : blocks) {
    CAPTURE(path);
    CHECK(want.at(path) == block);
  }
  CHECK(blocks.size() == want.size());
}

TEST_CASE("feedback: the same bytes for any number of threads, and when they are loaded",
          "[block][feedback]") {
  const samples x = networks::random_samples(9, 7, 16, 5);
  std::map<std::string, rq::program> all = programs();
  all["shared"] = rq::record(networks::block{[](rq::trace& t, rq::value v) {
                               const rq::encoder_block b = networks::random_encoder(16, 32, 2, 50);
                               for (rq::index i = 0; i < 3; ++i) {
                                 const auto scope = t.scope("layer", i);
                                 v = b.forward(t, v);
                               }
                               return v;
                             }},
                             16)
                      .value();
  for (const auto& [name, p] : all) {
    CAPTURE(name);
    const rq::quantized_model one = networks::quantize(p, x, "feedback", 4, 4).value();
    CHECK(same_bytes(one, networks::quantize(p, x, "feedback", 4, 4, {.count = 3}).value()));
    const rq::quantized_model loaded = rq::quantized_model::load(one.bytes()).value();
    CHECK(same_bytes(one, loaded));
    CHECK(blocks_of(loaded) == blocks_of(one));
    CHECK(loaded.run(x[0]).value() == one.run(x[0]).value());
    CHECK(loaded.simulate(x[0]).value() == one.run(x[0]).value());
  }
}

TEST_CASE("feedback_recipe is repquant_recipe with feedback", "[block][feedback]") {
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(6, 7, 16, 5);
  const auto fed =
      rq::quantize_program(p, x, rq::with_bits(rq::feedback_recipe{}, 4, 4), networks::executor{});
  REQUIRE(fed);
  CHECK(same_bytes(*fed, networks::quantize(p, x, with_feedback(64, 4, 4)).value()));
}

TEST_CASE("moments of heads are sums over tokens, in any parts", "[block][feedback]") {
  const rq::matrix<> x = networks::random_matrix(11, 12, 1, 3).array() + 0.5F;
  rq::detail::head_moments whole;
  whole.see(x, 3);
  rq::detail::head_moments parts;
  for (const auto& [first, rows] : {std::pair{0, 4}, std::pair{4, 7}}) {
    rq::detail::head_moments own;
    own.see(rq::matrix<>(x.middleRows(first, rows)), 3);
    parts.add(own);
  }
  REQUIRE(whole.products.size() == 3);
  CHECK(whole.tokens == 11);
  CHECK(parts.tokens == 11);
  for (rq::index h = 0; h < 3; ++h) {
    for (rq::index i = 0; i < 4; ++i) {
      for (rq::index j = 0; j < 4; ++j) {
        double product = 0;
        double a = 0;
        double b = 0;
        for (rq::index t = 0; t < 11; ++t) {
          product += static_cast<double>(x(t, 4 * h + i)) * static_cast<double>(x(t, 4 * h + j));
          a += static_cast<double>(x(t, 4 * h + i));
          b += static_cast<double>(x(t, 4 * h + j));
        }
        for (const rq::detail::head_moments* m : {&whole, &parts}) {
          CHECK(m->products[static_cast<std::size_t>(h)](i, j) == Approx(product).margin(1e-9));
          CHECK(m->about_mean(h)(i, j) == Approx(product - a * b / 11).margin(1e-9));
        }
      }
    }
  }
}

TEST_CASE("what errors of the operands of an attention cost", "[block][feedback]") {
  constexpr rq::index d = 3;
  const rq::matrix<> q = networks::random_matrix(9, 4 * d, 1, 7).array() + 0.3F;
  const rq::matrix<> k = networks::random_matrix(11, 2 * d, 1, 8).array() - 0.4F;
  const rq::matrix<> w = networks::random_matrix(5, 4 * d, 1, 9);
  rq::detail::head_moments queries;
  queries.see(q, 4);
  rq::detail::head_moments keys;
  keys.see(k, 2);
  const rq::matrix<double> out = w.cast<double>().transpose() * w.cast<double>();
  const rq::detail::operand_importance x = rq::detail::importance_of_heads(queries, keys, out);
  REQUIRE(x.query.rows() == 4 * d);
  REQUIRE(x.key.rows() == 2 * d);
  REQUIRE(x.value.rows() == 2 * d);
  const auto product = [](const rq::matrix<>& m, rq::index a, rq::index b, bool about_mean) {
    double mean_a = 0;
    double mean_b = 0;
    for (rq::index t = 0; t < m.rows() && about_mean; ++t) {
      mean_a += static_cast<double>(m(t, a)) / static_cast<double>(m.rows());
      mean_b += static_cast<double>(m(t, b)) / static_cast<double>(m.rows());
    }
    double sum = 0;
    for (rq::index t = 0; t < m.rows(); ++t)
      sum += (static_cast<double>(m(t, a)) - mean_a) * (static_cast<double>(m(t, b)) - mean_b);
    return sum;
  };
  // heads 0 and 1 read the keys and values of head 0, heads 2 and 3 those of head 1
  for (rq::index i = 0; i < 4 * d; ++i) {
    for (rq::index j = 0; j < 4 * d; ++j) {
      const rq::index group = i / d / 2 * d;
      const double want = i / d == j / d ? product(k, group + i % d, group + j % d, true) : 0;
      CHECK(x.query(i, j) == Approx(want).margin(1e-9));
    }
  }
  for (rq::index i = 0; i < 2 * d; ++i) {
    for (rq::index j = 0; j < 2 * d; ++j) {
      double key = 0;
      double value = 0;
      for (const rq::index head : {2 * (i / d), 2 * (i / d) + 1}) {
        if (i / d != j / d) continue;
        key += product(q, head * d + i % d, head * d + j % d, false);
        value += product(w, head * d + i % d, head * d + j % d, false);
      }
      CHECK(x.key(i, j) == Approx(key).margin(1e-9));
      CHECK(x.value(i, j) == Approx(value).margin(1e-9));
    }
  }
  CHECK(rq::detail::importance_of_heads(queries, keys, {}).value.size() == 0);
}
