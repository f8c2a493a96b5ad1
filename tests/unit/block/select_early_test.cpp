// SPDX-License-Identifier: MIT
#include <repquant/block/select_early.hpp>

#include "catch.hpp"
#include "networks.hpp"
#include <map>

namespace rq = repquant;

namespace {

using networks::block;
using networks::samples;

rq::value post_norm_block(rq::trace& t, const rq::encoder_block& b, rq::value x) {
  const rq::value a =
      t.attention("attn", b.heads, t.linear("q", b.q, x), t.linear("k", b.k, x), t.linear("v", b.v, x));
  x = t.norm("ln1", b.norm1, t.add(x, t.linear("out", b.out, a)));
  const rq::value h = t.activate(rq::activation::gelu_tanh, t.linear("fc1", b.fc1, x));
  return t.norm("ln2", b.norm2, t.add(x, t.linear("fc2", b.fc2, h)));
}

/// Two blocks, then one row, a norm and a head.
rq::program classifier(rq::index row, bool class_token,
                       const std::function<rq::value(rq::trace&, rq::index, rq::value)>& body) {
  return rq::record(block{[&](rq::trace& t, rq::value x) {
                      if (class_token) x = t.prepend_row("class", networks::random_matrix(1, 16, 1, 9), x);
                      for (rq::index i = 0; i < 2; ++i) {
                        const auto scope = t.scope("block", i);
                        x = body(t, i, x);
                      }
                      const rq::value one = t.select_row(row, x);
                      return t.linear("head", networks::random_linear(5, 16, 3),
                                      t.norm("norm", networks::random_norm(16, 4), one));
                    }},
                    16)
      .value();
}
rq::program class_token() {
  return classifier(0, true, [](rq::trace& t, rq::index i, rq::value x) {
    return networks::random_encoder(16, 32, 4, static_cast<unsigned>(20 + 10 * i)).forward(t, x);
  });
}
rq::program last_token() {
  return classifier(-1, false,
                    [](rq::trace& t, rq::index, rq::value x) { return networks::decoder{}.forward(t, x); });
}
rq::program post_norm() {
  return classifier(0, true, [](rq::trace& t, rq::index i, rq::value x) {
    return post_norm_block(t, networks::random_encoder(16, 32, 4, static_cast<unsigned>(20 + 10 * i)), x);
  });
}

/// Rows of the result of each named step, for six tokens.
std::map<std::string, rq::index> rows_of(const rq::program& p) {
  std::map<std::string, rq::index> rows;
  rq::activations x(p.value_cols.size());
  x[0] = networks::random_matrix(6, p.input_cols(), 1, 77);
  for (const rq::step& s : p.steps) {
    rq::matrix<>& out = x[static_cast<std::size_t>(s.out)];
    out = rq::evaluate(p, s, x);
    CHECK(out.cols() == p.value_cols[static_cast<std::size_t>(s.out)]);
    if (!s.path.empty()) rows[s.path] = out.rows();
  }
  return rows;
}
std::size_t count(const rq::program& p, rq::step_kind kind) {
  std::size_t n = 0;
  for (const rq::step& s : p.steps) n += s.kind == kind ? 1 : 0;
  return n;
}
/// Largest difference of two programs' results, over the largest result.
double difference(const rq::program& a, const rq::program& b) {
  double largest = 0;
  double size = 0;
  for (const rq::index tokens : {1, 2, 6, 11}) {
    for (const rq::matrix<>& x : networks::random_samples(3, tokens, a.input_cols(), 5)) {
      const rq::matrix<> want = rq::evaluate(a, x).value();
      const rq::matrix<> got = rq::evaluate(b, x).value();
      REQUIRE(want.rows() == got.rows());
      REQUIRE(want.cols() == got.cols());
      largest = std::fmax(largest, static_cast<double>((want - got).cwiseAbs().maxCoeff()));
      size = std::fmax(size, static_cast<double>(want.cwiseAbs().maxCoeff()));
    }
  }
  return largest / size;
}

}  // namespace

// Sums of one row may run in another order than those of many, so equal to float rounding.
TEST_CASE("an early selection changes no result", "[block]") {
  const std::map<std::string, rq::program> programs{
      {"class token", class_token()}, {"last token", last_token()}, {"post-norm", post_norm()}};
  for (const auto& [name, p] : programs) {
    const rq::program early = rq::select_early(p);
    CAPTURE(name);
    CHECK(difference(p, early) < 2e-6);
    CHECK(early.linears.size() == p.linears.size());
    // nothing is left to move
    CHECK(rq::select_early(early).steps.size() == early.steps.size());
  }
}

TEST_CASE("an early selection leaves one row to the last block's query and MLP", "[block]") {
  const auto check_rows = [](const rq::program& p, const std::vector<std::string>& one,
                             const std::vector<std::string>& all, rq::index tokens) {
    const auto before = rows_of(p);
    const auto after = rows_of(rq::select_early(p));
    REQUIRE(after.size() == before.size());
    for (const std::string& path : one) {
      CAPTURE(path);
      CHECK(before.at(path) == tokens);
      CHECK(after.at(path) == 1);
    }
    for (const std::string& path : all) {
      CAPTURE(path);
      CHECK(after.at(path) == tokens);
    }
  };
  check_rows(class_token(), {"block.1.attn", "block.1.attn.out", "block.1.ln2", "block.1.fc1", "block.1.fc2"},
             {"block.0.fc1", "block.0.fc2", "block.1.ln1", "block.1.attn.k", "block.1.attn.v"}, 7);
  check_rows(post_norm(), {"block.1.out", "block.1.ln1", "block.1.fc1", "block.1.fc2", "block.1.ln2"},
             {"block.0.ln2", "block.1.k", "block.1.v"}, 7);
  check_rows(last_token(),
             {"block.1.attn", "block.1.out", "block.1.norm2", "block.1.gate", "block.1.up", "block.1.down"},
             {"block.0.down", "block.1.norm1", "block.1.k", "block.1.v"}, 6);
}

TEST_CASE("a causal attention lets only the last row pass", "[block]") {
  const auto decoder = [](rq::trace& t, rq::index, rq::value x) { return networks::decoder{}.forward(t, x); };
  for (const rq::index row : {0, 1, -2}) {
    const rq::program p = classifier(row, true, decoder);
    const rq::program early = rq::select_early(p);
    CAPTURE(row);
    const auto rows = rows_of(early);
    CHECK(rows.at("block.1.attn") == 7);
    CHECK(rows.at("block.1.q") == 7);
    CHECK(rows.at("block.1.out") == 1);
    const rq::matrix<> x = networks::random_matrix(6, 16, 1, 5);
    CHECK((rq::evaluate(p, x).value() - rq::evaluate(early, x).value()).cwiseAbs().maxCoeff() < 1e-5F);
  }
  CHECK(rows_of(rq::select_early(classifier(-1, true, decoder))).at("block.1.attn") == 1);
}

TEST_CASE("selections of one row of one value become one", "[block]") {
  const rq::program p = rq::record(block{[](rq::trace& t, rq::value x) {
                                     const rq::value h = t.linear("fc", networks::random_linear(8, 16, 1), x);
                                     const rq::value a = t.select_row(0, h);
                                     const rq::value b = t.select_row(0, h);
                                     const rq::value c = t.select_row(-1, h);
                                     return t.add(t.multiply(a, b), c);
                                   }},
                                   16)
                            .value();
  CHECK(count(p, rq::step_kind::select_row) == 3);
  const rq::program early = rq::select_early(p);
  CHECK(count(early, rq::step_kind::select_row) == 2);
  CHECK(difference(p, early) == 0);

  // a value added to itself is selected once
  const rq::program twice = rq::record(block{[](rq::trace& t, rq::value x) {
                                         const rq::value h =
                                             t.linear("fc", networks::random_linear(8, 16, 1), x);
                                         return t.select_row(1, t.multiply(t.add(h, h), h));
                                       }},
                                       16)
                                .value();
  const rq::program once = rq::select_early(twice);
  CHECK(count(once, rq::step_kind::select_row) == 1);
  CHECK(rows_of(once).at("fc") == 1);
  for (const rq::matrix<>& x : networks::random_samples(4, 6, 16, 5)) {
    CHECK((rq::evaluate(twice, x).value() - rq::evaluate(once, x).value()).cwiseAbs().maxCoeff() < 1e-5F);
  }
}

TEST_CASE("a value that others read in full is not selected before", "[block]") {
  const rq::program p = rq::record(block{[](rq::trace& t, rq::value x) {
                                     const rq::value h = t.linear("fc", networks::random_linear(8, 16, 1), x);
                                     return t.add(t.select_row(0, h), t.mean_rows(h));
                                   }},
                                   16)
                            .value();
  const rq::program early = rq::select_early(p);
  CHECK(rows_of(early).at("fc") == 6);
  CHECK(difference(p, early) == 0);
  // a program that selects nothing stays as it is
  const rq::program encoder = networks::encoder_program();
  CHECK(rq::select_early(encoder).steps.size() == encoder.steps.size());
  CHECK(difference(encoder, rq::select_early(encoder)) == 0);
}

TEST_CASE("selected_rows follows the selected row back through residuals and queries", "[block]") {
  const rq::program p = class_token();
  const auto rows = rq::selected_rows(p);
  REQUIRE(rows.size() == p.value_cols.size());
  CHECK_FALSE(rows[0]);  // the class token stands before the input's rows
  CHECK_FALSE(rows[static_cast<std::size_t>(p.output)]);
  for (const rq::step& s : p.steps) {
    const auto row = rows[static_cast<std::size_t>(s.out)];
    CAPTURE(s.path);
    if (s.path == "class" || s.path == "block.0.fc2" || s.path == "block.1.ln2" ||
        s.path == "block.0.attn.q") {
      REQUIRE(row);
      CHECK(*row == 0);
    }
    // every row of keys and values counts
    if (s.path == "block.1.attn.k" || s.path == "block.0.attn.v") CHECK_FALSE(row);
  }
  // behind a prepended row, others move up by one, and the last stays the last
  const auto input_row = [](rq::index row) {
    return rq::selected_rows(classifier(row, true, [](rq::trace& t, rq::index i, rq::value x) {
      return t.linear("fc", networks::random_linear(16, 16, static_cast<unsigned>(i)), x);
    }))[0];
  };
  CHECK(input_row(3) == std::optional<rq::index>(2));
  CHECK(input_row(-1) == std::optional<rq::index>(-1));
  for (const auto& none : rq::selected_rows(networks::encoder_program())) CHECK_FALSE(none);
}
