// SPDX-License-Identifier: MIT
/// What a trace records, what it refuses, and what a program says about inputs.
#include <repquant/block/evaluate.hpp>

#include "catch.hpp"
#include "unit/block/networks.hpp"
#include <limits>

namespace rq = repquant;

namespace {

rq::result<rq::program> recorded(rq::index cols, std::function<rq::value(rq::trace&, rq::value)> steps) {
  return rq::record(networks::block{std::move(steps)}, cols);
}
/// The error of a block on inputs of four columns.
rq::failure refused(std::function<rq::value(rq::trace&, rq::value)> steps) {
  const auto p = recorded(4, std::move(steps));
  REQUIRE_FALSE(p);
  return p.error();
}
bool says(const rq::failure& f, rq::errc code, const std::string& place) {
  return f.code == code && f.where == place;
}
rq::linear square() { return networks::random_linear(4, 4, 1); }

}  // namespace

TEST_CASE("paths are the scopes and the name", "[block][trace]") {
  const auto p = recorded(4, [](rq::trace& t, rq::value x) {
    x = t.linear("in", square(), x);
    for (rq::index i = 0; i < 2; ++i) {
      const auto outer = t.scope("tower", i);
      const auto inner = t.scope("mlp");
      x = t.linear("fc", square(), x);
    }
    return t.linear("out", square(), x);
  });
  REQUIRE(p);
  std::vector<std::string> paths;
  for (const rq::step& s : p->steps) paths.push_back(s.path);
  CHECK(paths == std::vector<std::string>{"in", "tower.0.mlp.fc", "tower.1.mlp.fc", "out"});
  CHECK(p->readers(0) == std::vector<int>{0});
  CHECK(p->output == p->steps.back().out);
}

TEST_CASE("tracing twice records the same", "[block][trace]") {
  const rq::encoder_block b = networks::random_encoder(8, 16, 2, 3);
  const auto first = rq::record(b, 8);
  const auto second = rq::record(b, 8);
  REQUIRE((first && second));
  REQUIRE(first->steps.size() == second->steps.size());
  for (std::size_t i = 0; i < first->steps.size(); ++i) {
    CHECK(first->steps[i].path == second->steps[i].path);
    CHECK(first->steps[i].kind == second->steps[i].kind);
    CHECK(first->steps[i].a == second->steps[i].a);
    CHECK(first->steps[i].out == second->steps[i].out);
  }
}

TEST_CASE("a block that does not fit is refused with the path", "[block][trace]") {
  using rq::errc;
  rq::failure f = refused([](auto& t, auto x) {
    const auto scope = t.scope("block", 3);
    return t.linear("fc1", networks::random_linear(8, 5, 1), x);
  });
  CHECK(says(f, errc::shape_mismatch, "block.3.fc1: columns"));
  CHECK(f.got == 4);
  CHECK(f.want == 5);
  f = refused([](auto& t, auto x) { return t.linear("b", square(), t.linear("b", square(), x)); });
  CHECK(says(f, errc::duplicate_site, "b"));
  f = refused([](auto& t, auto x) { return t.norm("ln", networks::random_norm(5, 1), x); });
  CHECK(says(f, errc::shape_mismatch, "ln: columns"));
  f = refused([](auto& t, auto x) { return t.attention("attn", {.heads = 3}, x, x, x); });
  CHECK(says(f, errc::shape_mismatch, "attn: columns of q over heads"));
  CHECK(f.got == 4);
  CHECK(f.want == 3);
  f = refused([](auto& t, auto x) { return t.attention("attn", {.heads = 0}, x, x, x); });
  CHECK(f.code == errc::shape_mismatch);
  f = refused([](auto& t, auto x) { return t.attention("attn", {.heads = 4, .kv_heads = 3}, x, x, x); });
  CHECK(says(f, errc::bad_option, "attn: heads over kv_heads"));
  f = refused([](auto& t, auto x) { return t.attention("attn", {.heads = 2, .kv_heads = 1}, x, x, x); });
  CHECK(says(f, errc::shape_mismatch, "attn.k: columns"));
  CHECK(f.want == 2);
  f = refused([](auto& t, auto x) { return t.add(x, t.linear("up", networks::random_linear(6, 4, 1), x)); });
  CHECK(f.code == errc::shape_mismatch);
  CHECK(f.got == 6);
  f = refused([](auto& t, auto x) { return t.add_rows("pos", networks::random_matrix(9, 3, 1, 1), x); });
  CHECK(f.code == errc::shape_mismatch);
  f = refused([](auto& t, auto x) { return t.prepend_row("cls", networks::random_matrix(2, 4, 1, 1), x); });
  CHECK(says(f, errc::shape_mismatch, "cls: rows"));
  f = refused([](auto& t, auto x) { return t.add_rows("pos", rq::matrix<>(0, 4), x); });
  CHECK(says(f, errc::empty, "pos"));
  f = refused([](auto&, auto x) { return x; });
  CHECK(f.code == errc::empty);
  CHECK(recorded(0, [](auto& t, auto x) { return t.mean_rows(x); }).error().code == errc::shape_mismatch);
}

TEST_CASE("a value that the trace did not give is refused", "[block][trace]") {
  const auto stranger = [](auto use) { return refused(use).code == rq::errc::bad_option; };
  CHECK(stranger([](auto& t, auto) { return t.activate(rq::activation::relu, rq::value{}); }));
  CHECK(stranger([](auto& t, auto) { return t.mean_rows(rq::value{}); }));
  CHECK(stranger([](auto& t, auto) { return t.select_row(0, rq::value{7, 4}); }));
  CHECK(stranger([](auto& t, auto) { return t.activate(rq::activation::relu, rq::value{0, 5}); }));
  CHECK(stranger([](auto& t, auto x) {
    t.mean_rows(x);
    return rq::value{9, 4};
  }));
  CHECK(stranger([](auto& t, auto x) { return t.add(x, rq::value{5, 4}); }));
}

TEST_CASE("NaN and infinity in weights are refused with the path", "[block][trace]") {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float v : bad) {
    const auto with = [&](auto change) {
      rq::encoder_block b = networks::random_encoder(8, 16, 2, 3);
      change(b);
      const auto p = recorded(8, [&](rq::trace& t, rq::value x) {
        const auto scope = t.scope("block", 1);
        return b.forward(t, x);
      });
      REQUIRE_FALSE(p);
      CHECK(p.error().code == rq::errc::non_finite);
      return std::string(p.error().where);
    };
    CHECK(with([&](auto& b) { b.fc1.weight(3, 2) = v; }) == "block.1.fc1");
    CHECK(with([&](auto& b) { b.out.bias(3) = v; }) == "block.1.attn.out");
    CHECK(with([&](auto& b) { std::get<rq::layer_norm>(b.norm2).gamma(0) = v; }) == "block.1.ln2");
    CHECK(with([&](auto& b) { std::get<rq::layer_norm>(b.norm1).beta(7) = v; }) == "block.1.ln1");
    rq::matrix<> table = networks::random_matrix(5, 4, 1, 1);
    table(2, 2) = v;
    CHECK(says(refused([&](auto& t, auto x) { return t.add_rows("pos", table, x); }), rq::errc::non_finite,
               "pos"));
  }
  CHECK(refused([](auto& t, auto x) { return t.linear("none", rq::linear{}, x); }).code == rq::errc::empty);
  rq::linear short_bias = square();
  short_bias.bias.conservativeResize(3);
  CHECK(says(refused([&](auto& t, auto x) { return t.linear("fc", short_bias, x); }),
             rq::errc::shape_mismatch, "fc"));
}

TEST_CASE("inputs that a program cannot run are refused", "[block][trace]") {
  const auto p = recorded(4, [](rq::trace& t, rq::value x) {
    x = t.prepend_row("cls", networks::random_matrix(1, 4, 1, 1), x);
    x = t.add_rows("pos", networks::random_matrix(6, 4, 1, 2), x);
    return t.select_row(3, x);
  });
  REQUIRE(p);
  const auto error = [&](rq::index rows, rq::index cols) {
    const rq::matrix<> x = rq::matrix<>::Zero(rows, cols);
    const auto y = rq::evaluate(*p, x);
    return y ? rq::failure{} : y.error();
  };
  CHECK_FALSE(error(5, 4));
  CHECK_FALSE(error(3, 4));
  CHECK(says(error(6, 4), rq::errc::shape_mismatch, "pos: tokens"));
  CHECK(error(6, 4).got == 7);
  CHECK(error(6, 4).want == 6);
  CHECK(says(error(2, 4), rq::errc::shape_mismatch, "input: tokens for the selected row"));
  CHECK(error(2, 4).got == 3);
  CHECK(error(2, 4).want == 4);
  const auto fifth = recorded(4, [](rq::trace& t, rq::value x) { return t.select_row(-5, x); });
  REQUIRE(fifth);
  CHECK(rq::evaluate(*fifth, rq::matrix<>::Zero(5, 4).eval()));
  const rq::failure few = rq::evaluate(*fifth, rq::matrix<>::Zero(3, 4).eval()).error();
  CHECK(says(few, rq::errc::shape_mismatch, "input: tokens for the selected row"));
  CHECK(few.got == 3);
  CHECK(few.want == 5);
  CHECK(says(error(0, 4), rq::errc::empty, "input: rows"));
  CHECK(says(error(5, 3), rq::errc::shape_mismatch, "input: columns"));

  const auto uneven = recorded(4, [](rq::trace& t, rq::value x) { return t.add(x, t.select_row(0, x)); });
  REQUIRE(uneven);
  CHECK(rq::evaluate(*uneven, rq::matrix<>::Zero(3, 4).eval()).error().code == rq::errc::shape_mismatch);
  CHECK(rq::evaluate(*uneven, rq::matrix<>::Zero(1, 4).eval()));  // one token is one token
  const auto keys =
      recorded(4, [](rq::trace& t, rq::value x) { return t.attention("a", {}, x, x, t.mean_rows(x)); });
  REQUIRE(keys);
  CHECK(says(rq::evaluate(*keys, rq::matrix<>::Zero(3, 4).eval()).error(), rq::errc::shape_mismatch,
             "a.v: tokens"));
}

TEST_CASE("evaluate computes what the steps say", "[block][trace]") {
  const rq::matrix<> x = networks::random_matrix(3, 4, 1, 8);
  const auto value = [&](std::function<rq::value(rq::trace&, rq::value)> steps) {
    return rq::evaluate(recorded(4, std::move(steps)).value(), x).value();
  };
  const rq::linear l = square();
  rq::matrix<> want = x * l.weight.transpose();
  want.rowwise() += l.bias.transpose();
  CHECK((value([&](auto& t, auto v) { return t.linear("l", l, v); }) - want).cwiseAbs().maxCoeff() < 1e-6F);
  CHECK(value([](auto& t, auto v) { return t.add(v, v); }) == 2 * x);
  CHECK(value([](auto& t, auto v) { return t.multiply(v, v); }) == x.cwiseProduct(x));
  CHECK(value([](auto& t, auto v) { return t.activate(rq::activation::relu, v); }) == x.cwiseMax(0.0F));
  CHECK(value([](auto& t, auto v) { return t.select_row(-1, v); }) == x.bottomRows(1));
  CHECK(value([](auto& t, auto v) { return t.select_row(1, v); }) == x.middleRows(1, 1));
  CHECK((value([](auto& t, auto v) { return t.mean_rows(v); }) - x.colwise().mean()).cwiseAbs().maxCoeff() <
        1e-6F);
  const rq::matrix<> row = networks::random_matrix(1, 4, 1, 9);
  const rq::matrix<> longer = value([&](auto& t, auto v) { return t.prepend_row("r", row, v); });
  CHECK(longer.topRows(1) == row);
  CHECK(longer.bottomRows(3) == x);
  const rq::matrix<> table = networks::random_matrix(9, 4, 1, 9);
  CHECK(value([&](auto& t, auto v) { return t.add_rows("r", table, v); }) == x + table.topRows(3));
}

TEST_CASE("attention in float: groups, causality, scale, fewer keys than queries", "[block][trace]") {
  // against plain double loops
  const auto attention = [](const rq::attention_options& o, const rq::matrix<>& q, const rq::matrix<>& k,
                            const rq::matrix<>& v) {
    const rq::index d = q.cols() / o.heads;
    const double scale = o.scale == 0 ? 1 / std::sqrt(static_cast<double>(d)) : static_cast<double>(o.scale);
    rq::matrix<double> y = rq::matrix<double>::Zero(q.rows(), q.cols());
    for (rq::index h = 0; h < o.heads; ++h) {
      const rq::index g = h / (o.heads / (o.kv_heads == 0 ? o.heads : o.kv_heads));
      for (rq::index i = 0; i < q.rows(); ++i) {
        std::vector<double> e;
        double total = 0;
        for (rq::index j = 0; j < k.rows(); ++j) {
          const bool seen = !o.causal || j <= i + k.rows() - q.rows();
          double score = 0;
          for (rq::index c = 0; c < d; ++c)
            score += static_cast<double>(q(i, h * d + c)) * static_cast<double>(k(j, g * d + c));
          e.push_back(seen ? std::exp(scale * score) : 0);
          total += e.back();
        }
        for (rq::index j = 0; j < k.rows() && total > 0; ++j) {
          for (rq::index c = 0; c < d; ++c)
            y(i, h * d + c) += e[static_cast<std::size_t>(j)] / total * static_cast<double>(v(j, g * d + c));
        }
      }
    }
    return y;
  };
  for (const rq::index queries : {1, 4, 7}) {
    for (const bool causal : {false, true}) {
      const rq::attention_options o{.heads = 4, .kv_heads = 2, .scale = 0.3F, .causal = causal};
      const rq::matrix<> q = networks::random_matrix(queries, 16, 1, 1);
      const rq::matrix<> k = networks::random_matrix(4, 8, 1, 2);
      const rq::matrix<> v = networks::random_matrix(4, 8, 1, 3);
      const rq::matrix<double> got = rq::attend(o, q, k, v).cast<double>();
      CHECK((got - attention(o, q, k, v)).cwiseAbs().maxCoeff() < 1e-5);
    }
  }
}
