// SPDX-License-Identifier: MIT
#include <repquant/block/balance_attention.hpp>
#include <repquant/block/select_early.hpp>

#include "catch.hpp"
#include "networks.hpp"
#include <map>
#include <stdexcept>

namespace rq = repquant;

namespace {

using networks::block;
using networks::samples;

rq::program balanced(const rq::program& p, const samples& x, int threads = 1) {
  return rq::balance_attention(p, x, networks::executor{threads});
}
const rq::linear& layer(const rq::program& p, const std::string& path) {
  for (const rq::step& s : p.steps) {
    if (s.path == path) return p.linears[static_cast<std::size_t>(s.layer)];
  }
  throw std::runtime_error(path);
}
bool equal(const rq::linear& a, const rq::linear& b) {
  return a.weight == b.weight && a.bias.size() == b.bias.size() && a.bias == b.bias;
}
/// Largest difference of two programs' results, over the largest result.
double difference(const rq::program& a, const rq::program& b, const samples& inputs) {
  double largest = 0;
  double size = 0;
  for (const rq::matrix<>& x : inputs) {
    const rq::matrix<> want = rq::evaluate(a, x).value();
    largest =
        std::fmax(largest, static_cast<double>((want - rq::evaluate(b, x).value()).cwiseAbs().maxCoeff()));
    size = std::fmax(size, static_cast<double>(want.cwiseAbs().maxCoeff()));
  }
  return largest / size;
}
/// The values of a linear step over all samples, as rows.
rq::matrix<double> values_of(const rq::program& p, const std::string& path, const samples& inputs) {
  rq::matrix<double> all;
  for (const rq::matrix<>& input : inputs) {
    rq::activations x(p.value_cols.size());
    x[0] = input;
    for (const rq::step& s : p.steps) {
      rq::matrix<>& out = x[static_cast<std::size_t>(s.out)];
      out = rq::evaluate(p, s, x);
      if (s.path != path) continue;
      const rq::index before = all.rows();
      all.conservativeResize(before + out.rows(), out.cols());
      all.bottomRows(out.rows()) = out.cast<double>();
    }
  }
  return all;
}
/// An encoder whose query, key and value channels differ in size up to 20 times.
rq::encoder_block uneven_encoder(unsigned seed) {
  rq::encoder_block b = networks::random_encoder(16, 32, 2, seed);
  unsigned number = 0;
  for (rq::linear* l : {&b.q, &b.k, &b.v}) {
    ++number;
    for (rq::index o = 0; o < 16; ++o) {
      const float size = std::pow(20.0F, static_cast<float>((o * 5 + number) % 8) / 7 - 0.5F);
      l->weight.row(o) *= size;
      l->bias(o) *= size;
    }
  }
  return b;
}
/// As a LLaMA attention: positions turn queries and keys.
rq::program rotary() {
  return rq::record(block{[](rq::trace& t, rq::value x) {
                      const networks::decoder d;
                      rq::matrix<> angles(12, 2);
                      for (rq::index i = 0; i < 12; ++i) {
                        angles(i, 0) = static_cast<float>(i);
                        angles(i, 1) = 0.1F * static_cast<float>(i);
                      }
                      const rq::matrix<> cosines = angles.array().cos().matrix();
                      const rq::matrix<> sines = angles.array().sin().matrix();
                      const rq::value q = t.rotate("rotate_q", cosines, sines, 4, t.linear("q", d.q, x));
                      const rq::value k = t.rotate("rotate_k", cosines, sines, 2, t.linear("k", d.k, x));
                      const rq::value a = t.attention("attn", {.heads = 4, .kv_heads = 2, .causal = true}, q,
                                                      k, t.linear("v", d.v, x));
                      return t.add(x, t.linear("out", d.out, a));
                    }},
                    16)
      .value();
}

}  // namespace

TEST_CASE("balanced attention keeps the float function", "[block]") {
  const samples x = networks::random_samples(12, 9, 16, 3);
  const samples others = networks::random_samples(4, 7, 16, 1003);
  const rq::program uneven = rq::record(uneven_encoder(5), 16).value();
  const rq::program one_row = rq::select_early(
      rq::record(
          block{[](rq::trace& t, rq::value v) { return t.select_row(0, uneven_encoder(5).forward(t, v)); }},
          16)
          .value());
  const std::map<std::string, rq::program> programs{{"pre-norm", networks::encoder_program()},
                                                    {"post-norm", networks::post_norm()},
                                                    {"grouped", networks::decoder_program()},
                                                    {"rotary", rotary()},
                                                    {"uneven", uneven},
                                                    {"one query", one_row}};
  for (const auto& [name, p] : programs) {
    const rq::program b = balanced(p, x);
    CAPTURE(name);
    CHECK(difference(p, b, x) < 1e-4);
    CHECK(difference(p, b, others) < 1e-4);
    bool changed = false;
    for (std::size_t i = 0; i < p.linears.size(); ++i) {
      changed = changed || !equal(p.linears[i], b.linears[i]);
    }
    CHECK(changed);
    const rq::program three = balanced(p, x, 3);
    for (std::size_t i = 0; i < b.linears.size(); ++i) CHECK(equal(b.linears[i], three.linears[i]));
  }
  for (const std::string path : {"attn.q", "attn.k", "attn.v", "attn.out"}) {
    CAPTURE(path);
    CHECK_FALSE(equal(layer(uneven, path), layer(balanced(uneven, x), path)));
    CHECK_FALSE(equal(layer(one_row, path), layer(balanced(one_row, x), path)));
  }
  for (const std::string path : {"fc1", "fc2"}) {
    CHECK(equal(layer(uneven, path), layer(balanced(uneven, x), path)));
  }
}

TEST_CASE("channels of a balanced head are equally large", "[block]") {
  const samples x = networks::random_samples(40, 9, 16, 3);
  const rq::program p = rq::record(uneven_encoder(5), 16).value();
  const rq::program b = balanced(p, x);
  // by head: largest second moment of a channel over the smallest
  const auto spread = [&](const rq::program& of, const std::string& path, bool about_mean) {
    rq::matrix<double> v = values_of(of, path, x);
    if (about_mean) v.rowwise() -= v.colwise().mean().eval();
    const rq::column<double> power = v.colwise().squaredNorm().transpose();
    return std::fmax(power.head(8).maxCoeff() / power.head(8).minCoeff(),
                     power.tail(8).maxCoeff() / power.tail(8).minCoeff());
  };
  for (const auto& [path, about_mean] :
       std::map<std::string, bool>{{"attn.q", false}, {"attn.k", true}, {"attn.v", true}}) {
    const double before = spread(p, path, about_mean);
    const double after = spread(b, path, about_mean);
    CAPTURE(path, before, after);
    CHECK(before > 10);
    CHECK(after < 1.5);  // not 1, for the ridge
  }
}

TEST_CASE("what stands between a layer and its attention keeps the layer as it is", "[block]") {
  const samples x = networks::random_samples(12, 9, 16, 3);
  const rq::program p = rotary();
  const rq::program b = balanced(p, x);
  CHECK(equal(layer(p, "q"), layer(b, "q")));
  CHECK(equal(layer(p, "k"), layer(b, "k")));
  CHECK_FALSE(equal(layer(p, "v"), layer(b, "v")));
  CHECK_FALSE(equal(layer(p, "out"), layer(b, "out")));

  // values and outputs that other steps read
  const rq::program shown = rq::record(block{[](rq::trace& t, rq::value v) {
                                         const rq::encoder_block e = uneven_encoder(5);
                                         const rq::value values = t.linear("v", e.v, v);
                                         const rq::value a =
                                             t.attention("attn", {.heads = 2}, t.linear("q", e.q, v),
                                                         t.linear("k", e.k, v), values);
                                         return t.add(values, t.linear("out", e.out, a));
                                       }},
                                       16)
                                .value();
  const rq::program kept = balanced(shown, x);
  CHECK(equal(layer(shown, "v"), layer(kept, "v")));
  CHECK(equal(layer(shown, "out"), layer(kept, "out")));
  CHECK_FALSE(equal(layer(shown, "q"), layer(kept, "q")));
  CHECK(difference(shown, kept, x) < 1e-4);
  // an attention without layers of its own
  const rq::program bare = rq::record(block{[](rq::trace& t, rq::value v) {
                                        return t.add(v, t.attention("attn", {.heads = 2}, v, v, v));
                                      }},
                                      16)
                               .value();
  CHECK(difference(bare, balanced(bare, x), x) == 0);
}

TEST_CASE("a layer that two operands of an attention share keeps the float function", "[block]") {
  const samples x = networks::random_samples(12, 9, 16, 3);
  const samples others = networks::random_samples(4, 7, 16, 1003);
  const rq::encoder_block e = uneven_encoder(5);
  for (const std::string shared : {"key and value", "query and value", "query and key", "all"}) {
    const rq::program p = rq::record(block{[&](rq::trace& t, rq::value v) {
                                       const rq::value one = t.linear("one", e.v, v);
                                       const bool all = shared == "all";
                                       const bool q = all || shared.find("query") == 0;
                                       const bool k = all || shared.find("key") != std::string::npos;
                                       const bool c = all || shared.find("value") != std::string::npos;
                                       const rq::value a = t.attention(
                                           "attn", {.heads = 2}, q ? one : t.linear("q", e.q, v),
                                           k ? one : t.linear("k", e.k, v), c ? one : t.linear("v", e.v, v));
                                       return t.add(v, t.linear("out", e.out, a));
                                     }},
                                     16)
                              .value();
    CAPTURE(shared);
    CHECK(difference(p, balanced(p, x), others) < 1e-4);
    CHECK(difference(p, rq::balance_attention(p, x, networks::executor{}, true), others) < 1e-4);
    // nothing of three operands can take a basis of its own; of two that are query and key, the values can
    CHECK(equal(layer(p, "out"), layer(balanced(p, x), "out")) == (shared != "query and key"));
  }
}

TEST_CASE("queries and keys behind rotary positions change their basis in the running model", "[block]") {
  const samples x = networks::random_samples(24, 9, 16, 3);
  const samples others = networks::random_samples(6, 12, 16, 1003);
  const rq::program p = rotary();
  const rq::program b = rq::balance_attention(p, x, networks::executor{}, true);
  const auto mixes = [](const rq::program& of) {
    return std::count_if(of.steps.begin(), of.steps.end(),
                         [](const rq::step& s) { return s.kind == rq::step_kind::mix_heads; });
  };
  CHECK(mixes(p) == 0);
  CHECK(mixes(balanced(p, x)) == 0);
  CHECK(mixes(b) == 2);
  CHECK(difference(p, b, others) < 1e-4);
  for (const rq::step& s : b.steps) {
    if (s.kind != rq::step_kind::mix_heads) continue;
    const rq::matrix<>& m = b.constants[static_cast<std::size_t>(s.layer)];
    CHECK(m.cols() == 4);
    CHECK(m.rows() == b.value_cols[static_cast<std::size_t>(s.out)]);
  }
  // heads that layers can take get no step
  const rq::program encoder = rq::record(uneven_encoder(5), 16).value();
  CHECK(mixes(rq::balance_attention(encoder, x, networks::executor{}, true)) == 0);
  // and an attention that reads one value thrice gets its steps
  const rq::program bare = rq::record(block{[](rq::trace& t, rq::value v) {
                                        return t.add(v, t.attention("attn", {.heads = 2}, v, v, v));
                                      }},
                                      16)
                               .value();
  const rq::program mixed = rq::balance_attention(bare, x, networks::executor{}, true);
  CHECK(mixes(mixed) == 2);
  CHECK(difference(bare, mixed, others) < 1e-4);
}

TEST_CASE("layers that several calls share stay one layer when balanced", "[block]") {
  const samples x = networks::random_samples(8, 9, 16, 3);
  const rq::encoder_block e = uneven_encoder(5);
  const rq::encoder_block other = uneven_encoder(60);
  const rq::program p = rq::record(block{[&](rq::trace& t, rq::value v) {
                                     for (rq::index i = 0; i < 4; ++i) {
                                       const auto scope = t.scope("layer", i);
                                       v = (i == 3 ? other : e).forward(t, v);
                                     }
                                     return v;
                                   }},
                                   16)
                            .value();
  const rq::program b = balanced(p, x);
  CHECK(difference(p, b, x) < 1e-4);
  for (const std::string path : {"attn.q", "attn.k", "attn.v", "attn.out"}) {
    CAPTURE(path);
    CHECK(equal(layer(b, "layer.0." + path), layer(b, "layer.1." + path)));
    CHECK(equal(layer(b, "layer.0." + path), layer(b, "layer.2." + path)));
    CHECK_FALSE(equal(layer(b, "layer.0." + path), layer(b, "layer.3." + path)));
    CHECK_FALSE(equal(layer(b, "layer.0." + path), layer(p, "layer.0." + path)));
  }
}
