// SPDX-License-Identifier: MIT
/// The ready blocks that the trained models share, on random weights: what they compute, and their paths.
#include <repquant/block/evaluate.hpp>
#include <repquant/block/gated.hpp>
#include <repquant/block/post_norm.hpp>

#include "catch.hpp"
#include "unit/block/networks.hpp"

namespace rq = repquant;

namespace {

/// The decoder of networks.hpp as the ready block.
rq::gated_decoder_block decoder() {
  const networks::decoder d;
  rq::gated_decoder_block b{d.norm1, d.q, d.k, d.v, d.out, d.norm2, d.gate, d.up, d.down};
  b.heads = {.heads = 4, .kv_heads = 2, .causal = true};
  return b;
}

/// Angles of `tokens` positions from `first` on.
rq::rotary_positions positions_from(rq::index first, rq::index tokens) {
  rq::matrix<> angles(tokens, 2);
  for (rq::index t = 0; t < tokens; ++t) {
    angles(t, 0) = static_cast<float>(first + t);
    angles(t, 1) = 0.1F * static_cast<float>(first + t);
  }
  return {angles.array().cos(), angles.array().sin()};
}

template<class B>
rq::matrix<> run(const B& block, const rq::matrix<>& x) {
  return rq::evaluate(rq::record(block, x.cols()).value(), x).value();
}

std::vector<std::string> paths(const rq::program& p) {
  std::vector<std::string> all;
  for (const rq::step& s : p.steps) {
    if (!s.path.empty()) all.push_back(s.path);
  }
  return all;
}

}  // namespace

TEST_CASE("the post-norm block normalises sums", "[block]") {
  const rq::encoder_block e = networks::random_encoder(16, 32, 2, 40);
  const rq::post_norm_block b{e.norm1, e.q,   e.k,   e.v,          e.out,
                              e.norm2, e.fc1, e.fc2, {.heads = 2}, rq::activation::gelu_tanh};
  const rq::matrix<> x = networks::random_matrix(7, 16, 1, 5);
  const rq::program written_out = networks::post_norm();
  CHECK(run(b, x) == rq::evaluate(written_out, x).value());
  CHECK(paths(rq::record(b, 16).value()) == std::vector<std::string>{"attn.q", "attn.k", "attn.v", "attn",
                                                                     "attn.out", "ln1", "fc1", "fc2", "ln2"});
}

TEST_CASE("the gated block is a decoder without positions, where it has none", "[block]") {
  const rq::matrix<> x = networks::random_matrix(7, 16, 1, 5);
  const rq::program written_out = networks::decoder_program();
  CHECK(run(decoder(), x) == rq::evaluate(written_out, x).value());
}

TEST_CASE("with rotary positions only distances count", "[block]") {
  const rq::matrix<> x = networks::random_matrix(7, 16, 1, 5);
  rq::gated_decoder_block b = decoder();
  const rq::matrix<> without = run(b, x);
  b.positions = positions_from(0, 7);
  const rq::matrix<> near = run(b, x);
  b.positions = positions_from(5, 9);  // two more than are used
  const rq::matrix<> far = run(b, x);
  CHECK((near - far).cwiseAbs().maxCoeff() < 1e-5F);
  CHECK((near - without).cwiseAbs().maxCoeff() > 1e-3F);
  CHECK(near.row(0).isApprox(without.row(0), 1e-6F));  // the first token sees itself only
  CHECK(paths(rq::record(b, 16).value()) ==
        std::vector<std::string>{"ln1", "attn.q", "attn.k", "attn.v", "attn.q.turned", "attn.k.turned",
                                 "attn", "attn.out", "ln2", "gate", "up", "down"});
}
