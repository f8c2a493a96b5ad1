// SPDX-License-Identifier: MIT
/// What the tests of whole models share: blocks written as lambdas, layers and samples with random numbers,
/// and quantization behind plain functions, so that the large templates are compiled once (recipe_test.cpp).
#pragma once

#include <repquant/block.hpp>
#include <repquant/parallel/threads.hpp>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace networks {

namespace rq = repquant;

/// A block from a function.
struct block {
  std::function<rq::value(rq::trace&, rq::value)> steps;
  rq::value forward(rq::trace& t, rq::value x) const { return steps(t, x); }
};

/// The executor inline_executor where count is 1, threads{count} otherwise.
struct executor {
  int count = 1;
  template<class F>
  void operator()(rq::index n, const F& f) const {
    if (count == 1) {
      rq::inline_executor{}(n, f);
    } else {
      rq::threads{.count = count}(n, f);
    }
  }
};

using samples = std::vector<rq::matrix<>>;

rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x, const rq::naive_recipe& r,
                                         executor exec = {});
rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x, const rq::repq_recipe& r,
                                         executor exec = {});
rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x, const rq::repquant_recipe& r,
                                         executor exec = {});
/// quantize_block itself, with the recipe that has every part.
rq::result<rq::quantized_model> quantize_block(const block& b, const samples& x, const rq::repquant_recipe& r,
                                               const rq::progress_callback& progress = {});

/// The recipe of that name, "naive", "repq", "repquant" or "feedback" (the last in blocks that these small
/// networks have several of), at these widths.
inline rq::result<rq::quantized_model> quantize(const rq::program& p, const samples& x,
                                                const std::string& name, int weight_bits, int activation_bits,
                                                executor exec = {}) {
  if (name == "naive")
    return quantize(p, x, rq::with_bits(rq::naive_recipe{}, weight_bits, activation_bits), exec);
  if (name == "repq")
    return quantize(p, x, rq::with_bits(rq::repq_recipe{}, weight_bits, activation_bits), exec);
  rq::repquant_recipe full = rq::with_bits(rq::repquant_recipe{}, weight_bits, activation_bits);
  if (name == "feedback") full.feedback_block = 10;
  return quantize(p, x, full, exec);
}
inline bool same_bytes(const rq::quantized_model& a, const rq::quantized_model& b) {
  return std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin(), b.bytes().end());
}
/// The encode instruction at a site.
inline const rq::instruction& encode_at(const rq::quantized_model& m, const std::string& path) {
  static const rq::instruction none;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind != rq::opcode::encode) continue;
    if (m.view().path(m.view().sites()[static_cast<std::size_t>(s.site)]) == path) return s;
  }
  return none;
}

inline rq::matrix<> random_matrix(rq::index rows, rq::index cols, float deviation, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, deviation);
  rq::matrix<> m(rows, cols);
  for (rq::index i = 0; i < m.size(); ++i) m.data()[i] = normal(engine);
  return m;
}

/// A layer whose outputs are about as large as its inputs.
inline rq::linear random_linear(rq::index out, rq::index in, unsigned seed, bool bias = true) {
  rq::linear l{random_matrix(out, in, 1 / std::sqrt(static_cast<float>(in)), seed), {}};
  if (bias) l.bias = random_matrix(out, 1, 0.1F, seed + 1000).col(0);
  return l;
}

/// A norm whose channels differ in size by `ratio` (geometrically), with shifts of up to their size.
inline rq::layer_norm random_norm(rq::index channels, unsigned seed, float ratio = 4) {
  const rq::matrix<> r = random_matrix(2, channels, 1, seed);
  rq::layer_norm n{rq::column<>(channels), rq::column<>(channels)};
  for (rq::index i = 0; i < channels; ++i) {
    const float size =
        std::pow(ratio, static_cast<float>(i * 7 % channels) / static_cast<float>(channels - 1) - 0.5F);
    n.gamma(i) = size * (1 + 0.2F * r(0, i));
    n.beta(i) = size * 0.5F * r(1, i);
  }
  return n;
}

/// Token sequences that a few directions explain, as those of a transformer.
inline samples random_samples(std::size_t count, rq::index tokens, rq::index cols, unsigned seed) {
  const rq::matrix<> mix = random_matrix(4, cols, 1, 4000);  // the same for all: samples of one kind
  samples all;
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = static_cast<unsigned>(i);
    all.push_back(random_matrix(tokens, 4, 0.5F, seed + 17 * number + 1) * mix +
                  random_matrix(tokens, cols, 0.3F, seed + 17 * number + 2));
  }
  return all;
}

/// A pre-norm encoder block with random weights.
inline rq::encoder_block random_encoder(rq::index dim, rq::index hidden, rq::index heads, unsigned seed) {
  rq::encoder_block b;
  b.norm1 = random_norm(dim, seed);
  b.q = random_linear(dim, dim, seed + 1);
  b.k = random_linear(dim, dim, seed + 2);
  b.v = random_linear(dim, dim, seed + 3);
  b.out = random_linear(dim, dim, seed + 4);
  b.norm2 = random_norm(dim, seed + 5);
  b.fc1 = random_linear(hidden, dim, seed + 6);
  b.fc2 = random_linear(dim, hidden, seed + 7);
  b.heads.heads = heads;
  return b;
}

/// A decoder block as LLaMA's: RMS norms, grouped queries, causal attention, a gated MLP, no biases.
struct decoder {
  rq::rms_norm norm1{random_norm(16, 1).gamma};
  rq::rms_norm norm2{random_norm(16, 2).gamma};
  rq::linear q = random_linear(16, 16, 3, false);
  rq::linear k = random_linear(8, 16, 4, false);
  rq::linear v = random_linear(8, 16, 5, false);
  rq::linear out = random_linear(16, 16, 6, false);
  rq::linear gate = random_linear(48, 16, 7, false);
  rq::linear up = random_linear(48, 16, 8, false);
  rq::linear down = random_linear(16, 48, 9, false);

  rq::value forward(rq::trace& t, rq::value x) const {
    const rq::value n1 = t.norm("norm1", norm1, x);
    const rq::attention_options heads{.heads = 4, .kv_heads = 2, .causal = true};
    const rq::value a =
        t.attention("attn", heads, t.linear("q", q, n1), t.linear("k", k, n1), t.linear("v", v, n1));
    x = t.add(x, t.linear("out", out, a));
    const rq::value n2 = t.norm("norm2", norm2, x);
    const rq::value g = t.activate(rq::activation::silu, t.linear("gate", gate, n2));
    return t.add(x, t.linear("down", down, t.multiply(g, t.linear("up", up, n2))));
  }
};

inline rq::program decoder_program() {
  const decoder d;
  return rq::record(d, 16).value();
}
inline rq::program encoder_program() {
  const rq::encoder_block b = random_encoder(16, 48, 4, 10);
  return rq::record(b, 16).value();
}

/// A post-norm block: each norm's output is also the residual.
inline rq::program post_norm() {
  return rq::record(block{[](rq::trace& t, rq::value x) {
                      const rq::encoder_block b = random_encoder(16, 32, 2, 40);
                      const rq::value a = t.attention("attn", {.heads = 2}, t.linear("q", b.q, x),
                                                      t.linear("k", b.k, x), t.linear("v", b.v, x));
                      x = t.norm("ln1", b.norm1, t.add(x, t.linear("out", b.out, a)));
                      const rq::value h = t.activate(rq::activation::gelu_tanh, t.linear("fc1", b.fc1, x));
                      return t.norm("ln2", b.norm2, t.add(x, t.linear("fc2", b.fc2, h)));
                    }},
                    16)
      .value();
}

/// All codes that a run makes, with their sites, in order.
struct recorded_codes {
  std::vector<std::uint8_t> codes;
  std::vector<std::int32_t> sites;

  auto sink() {
    return [this](std::int32_t site, const std::uint8_t* q, rq::index rows, rq::index cols) {
      codes.insert(codes.end(), q, q + rows * cols);
      sites.insert(sites.end(), static_cast<std::size_t>(rows * cols), site);
    };
  }
  friend bool operator==(const recorded_codes&, const recorded_codes&) = default;
};

/// 10 log10 of signal over noise, in dB, for the tokens of all samples.
inline double decibels(const samples& reference, const samples& quantized) {
  double signal = 0;
  double noise = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    signal += reference[i].cast<double>().squaredNorm();
    noise += (reference[i].cast<double>() - quantized[i].cast<double>()).squaredNorm();
  }
  return 10 * std::log10(signal / noise);
}

inline samples float_results(const rq::program& p, const samples& x) {
  samples y;
  for (const rq::matrix<>& s : x) y.push_back(rq::evaluate(p, s).value());
  return y;
}
inline samples integer_results(const rq::quantized_model& m, const samples& x) {
  samples y;
  for (const rq::matrix<>& s : x) y.push_back(m.run(s).value());
  return y;
}
/// Signal over noise of the integer run, in dB.
inline double fidelity(const rq::program& p, const rq::quantized_model& m, const samples& x) {
  return decibels(float_results(p, x), integer_results(m, x));
}

}  // namespace networks
