// SPDX-License-Identifier: MIT
#include "oracle/gptq.hpp"

#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/gptq.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>

#include "catch.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

/// Activations as transformers have them: correlated channels with a falling spectrum, and a few
/// channels sixteen times larger than the rest.
rq::matrix<> activations(rq::index tokens, rq::index in, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  const rq::index rank = std::max<rq::index>(1, in / 4);
  rq::matrix<> mix(rank, in);
  for (rq::index i = 0; i < rank; ++i) {
    for (rq::index j = 0; j < in; ++j) mix(i, j) = normal(engine) / static_cast<float>(1 + i);
  }
  rq::matrix<> x(tokens, in);
  for (rq::index t = 0; t < tokens; ++t) {
    for (rq::index j = 0; j < in; ++j) x(t, j) = 0.1F * normal(engine);
    for (rq::index i = 0; i < rank; ++i) x.row(t) += normal(engine) * mix.row(i);
  }
  for (rq::index j = 3; j < in; j += 16) x.col(j) *= 16;
  return x;
}

rq::matrix<> weights(rq::index out, rq::index in, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 0.05F);
  rq::matrix<> w(out, in);
  for (rq::index i = 0; i < out * in; ++i) w.data()[i] = normal(engine);
  return w;
}

template<class C, class G>
rq::quantizer<C, G> fitted(C codec, G granularity, const rq::matrix<>& w) {
  const rq::shape s{w.rows(), w.cols()};
  std::vector<rq::range> ranges(static_cast<std::size_t>(granularity.groups(s)));
  for (rq::index i = 0; i < w.rows(); ++i) {
    for (rq::index j = 0; j < w.cols(); ++j) {
      rq::range& r = ranges[static_cast<std::size_t>(granularity.group(s, i, j))];
      r = {std::fmin(r.lo, w(i, j)), std::fmax(r.hi, w(i, j))};
    }
  }
  std::vector<typename C::params> params;
  for (rq::range r : ranges) params.push_back(codec.fit(r));
  return rq::quantizer<C, G>::make(codec, granularity, s, std::move(params)).value();
}

oracle::double_rows table_of(const rq::matrix<double>& m) {
  oracle::double_rows t(static_cast<std::size_t>(m.rows()),
                        std::vector<double>(static_cast<std::size_t>(m.cols())));
  for (rq::index i = 0; i < m.rows(); ++i) {
    for (rq::index j = 0; j < m.cols(); ++j)
      t[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] = m(i, j);
  }
  return t;
}

template<class C, class G>
oracle::double_rows difference(const rq::matrix<>& w, const rq::quantized<C, G>& q) {
  rq::matrix<double> d(w.rows(), w.cols());
  for (rq::index i = 0; i < w.rows(); ++i) {
    for (rq::index j = 0; j < w.cols(); ++j) {
      d(i, j) =
          static_cast<double>(w(i, j)) - static_cast<double>(q.quantizer().decode(q.codes()(i, j), i, j));
    }
  }
  return table_of(d);
}

template<class C, class G>
oracle::gptq_answer textbook(const rq::quantizer<C, G>& q, const rq::matrix<>& w, const rq::gram& h,
                             double damping, rq::column_order order) {
  std::vector<std::size_t> columns;
  for (rq::index j = 0; j < w.cols(); ++j) {
    if (h.sum(j, j) != 0) columns.push_back(static_cast<std::size_t>(j));
  }
  const auto diagonal = [&](std::size_t j) {
    return h.sum(static_cast<rq::index>(j), static_cast<rq::index>(j));
  };
  if (order == rq::column_order::activation) {
    std::stable_sort(columns.begin(), columns.end(),
                     [&](std::size_t a, std::size_t b) { return diagonal(a) > diagonal(b); });
  }
  return oracle::gptq(
      table_of(w.cast<double>()), table_of(h.sum), damping, columns,
      [&](double x, std::size_t i, std::size_t j) {
        return q.encode(static_cast<float>(x), static_cast<rq::index>(i), static_cast<rq::index>(j));
      },
      [&](int c, std::size_t i, std::size_t j) {
        return static_cast<double>(q.decode(c, static_cast<rq::index>(i), static_cast<rq::index>(j)));
      });
}

template<class C, class G>
void compare_with_textbook(C codec, G granularity, rq::index out, rq::index in, rq::index tokens,
                           rq::gptq solver) {
  const rq::matrix<> w = weights(out, in, 7);
  const rq::matrix<> x = activations(tokens, in, 11);
  const rq::gram h = rq::gram_of(x).value();
  const auto q = fitted(codec, granularity, w);
  const auto answer = solver(q, w, h).value();
  const auto expected = textbook(q, w, h, solver.damping, solver.order);
  // Both compute in double; a code may only differ where the adjusted weight is a tie to 1e-12.
  rq::index differing = 0;
  for (rq::index i = 0; i < out; ++i) {
    for (rq::index j = 0; j < in; ++j) {
      differing += answer.weights.codes()(i, j) !=
                   expected.codes[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
    }
  }
  CHECK(differing == 0);
  CHECK(answer.report.damped_loss == Approx(expected.damped_loss).epsilon(1e-6));
}

}  // namespace

TEST_CASE("gptq gives the codes of the textbook form with an explicit inverse", "[reconstruct]") {
  const auto order = GENERATE(rq::column_order::natural, rq::column_order::activation);
  const rq::gptq solver{0.01, order, 16};
  SECTION("uniform, each granularity") {
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 24, 48, 200, solver);
    compare_with_textbook(rq::uniform{3}, rq::per_tensor{}, 24, 48, 200, solver);
    compare_with_textbook(rq::uniform{4, true}, rq::per_group{8}, 24, 48, 200, solver);
    compare_with_textbook(rq::uniform{4}, rq::per_col{}, 24, 48, 200, solver);
  }
  SECTION("a logarithmic codec") {
    compare_with_textbook(rq::log_sqrt2{4}, rq::per_row{}, 8, 32, 100, solver);
  }
  SECTION("odd sizes") {
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 1, 1, 3, solver);
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 1, 37, 100, solver);
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 65, 1, 100, solver);
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 67, 33, 100, solver);
  }
  SECTION("fewer tokens than inputs") {
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 8, 40, 12, solver);
    compare_with_textbook(rq::uniform{4}, rq::per_row{}, 8, 40, 1, solver);
  }
}

TEST_CASE("gptq: the loss reported is the damped quadratic form", "[reconstruct]") {
  const rq::matrix<> w = weights(20, 60, 1);
  const double damping = GENERATE(0.0, 0.01, 0.1, 1.0);
  rq::gram h = rq::gram_of(activations(300, 60, 2)).value();
  const bool dead = GENERATE(false, true);
  if (dead) {
    for (rq::index j : {0, 17, 59}) {
      h.sum.row(j).setZero();
      h.sum.col(j).setZero();
    }
  }
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto answer = rq::gptq{damping, rq::column_order::activation, 32}(q, w, h).value();
  CHECK(answer.report.damping == damping);
  CHECK(answer.report.dead_columns == (dead ? 3 : 0));

  const double mean = h.sum.trace() / (dead ? 57 : 60);
  rq::matrix<double> damped = h.sum;
  for (rq::index j = 0; j < 60; ++j) damped(j, j) += h.sum(j, j) == 0 ? 0 : damping * mean;
  const auto d = difference(w, answer.weights);
  // 1e-6 is what the project promises; sums of 72,000 doubles in another order differ by far less
  CHECK(answer.report.damped_loss == Approx(oracle::quadratic(d, table_of(damped))).epsilon(1e-6));
  CHECK(answer.report.loss == Approx(oracle::quadratic(d, table_of(h.sum))).epsilon(1e-6));
  CHECK(rq::output_error(answer.weights, w, h) == Approx(answer.report.loss).epsilon(1e-6));
}

TEST_CASE("gptq beats rounding to nearest on correlated inputs", "[reconstruct]") {
  const rq::matrix<> w = weights(64, 128, 3);
  const rq::gram h = rq::gram_of(activations(1000, 128, 4)).value();
  const int bits = GENERATE(2, 3, 4, 8);
  const auto q = fitted(rq::uniform{bits}, rq::per_row{}, w);
  const double nearest = rq::round_to_nearest{}(q, w, h).value().report.loss;
  const double natural = rq::gptq{0.01, rq::column_order::natural, 128}(q, w, h).value().report.loss;
  const double active = rq::gptq{}(q, w, h).value().report.loss;
  CHECK(natural < nearest);
  CHECK(active < natural);  // large columns first: they have the most columns left to mend them
}

TEST_CASE("gptq: no correlation, nothing to mend", "[reconstruct]") {
  const rq::matrix<> w = weights(70, 130, 5);
  const auto q = fitted(rq::uniform{4}, rq::per_group{26}, w);
  const auto nearest = rq::round_to_nearest{}(q, w, rq::gram::identity(130)).value();
  const auto answer = rq::gptq{}(q, w, rq::gram::identity(130)).value();
  CHECK(answer.weights.codes() == nearest.weights.codes());
  CHECK(answer.report.loss == Approx(nearest.report.loss));
}

TEST_CASE("gptq: the block size changes no code", "[reconstruct]") {
  const rq::matrix<> w = weights(20, 100, 5);
  const rq::gram h = rq::gram_of(activations(400, 100, 6)).value();
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto one = rq::gptq{0.01, rq::column_order::natural, 1000}(q, w, h).value();
  for (rq::index block : {1, 7, 64, 100}) {
    const auto other = rq::gptq{0.01, rq::column_order::natural, block}(q, w, h).value();
    CHECK(other.weights.codes() == one.weights.codes());
  }
}

TEST_CASE("gptq: rows do not see each other", "[reconstruct]") {
  const rq::matrix<> w = weights(130, 40, 5);
  const rq::gram h = rq::gram_of(activations(400, 40, 6)).value();
  const auto all = rq::gptq{}(fitted(rq::uniform{4}, rq::per_row{}, w), w, h).value();
  for (rq::index i : {0, 63, 64, 129}) {
    const rq::matrix<> row = w.row(i);
    const auto one = rq::gptq{}(fitted(rq::uniform{4}, rq::per_row{}, row), row, h).value();
    CHECK(one.weights.codes() == all.weights.codes().row(i));
  }
}

TEST_CASE("gptq: dead columns are rounded to nearest and damp nothing", "[reconstruct]") {
  const rq::matrix<> w = weights(10, 32, 8);
  // activations of 1e-3: a 1 written on the diagonal of dead columns would swamp the damping
  rq::matrix<> x = activations(200, 32, 9) * 1e-3F;
  x.rightCols(8).setZero();
  const rq::gram h = rq::gram_of(x).value();
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto answer = rq::gptq{}(q, w, h).value();
  const auto nearest = rq::round_to_nearest{}(q, w, h).value();
  CHECK(answer.report.dead_columns == 8);
  CHECK(nearest.report.dead_columns == 8);
  CHECK(answer.weights.codes().rightCols(8) == nearest.weights.codes().rightCols(8));
  const rq::matrix<> live = w.leftCols(24);
  const rq::gram part{h.sum.topLeftCorner(24, 24), h.tokens};
  const auto alone = rq::gptq{}(rq::quantizer<rq::uniform, rq::per_row>::make(
                                    q.codec(), q.granularity(), {10, 24},
                                    std::vector<rq::affine>(q.params().begin(), q.params().end()))
                                    .value(),
                                live, part)
                         .value();
  CHECK(alone.weights.codes() == answer.weights.codes().leftCols(24));

  const rq::gram nothing{rq::matrix<double>::Zero(32, 32), 5};
  const auto all_dead = rq::gptq{}(q, w, nothing).value();
  CHECK(all_dead.report.dead_columns == 32);
  CHECK(all_dead.weights.codes() == nearest.weights.codes());
}

TEST_CASE("gptq: the scale of the inputs does not matter", "[reconstruct]") {
  const rq::matrix<> w = weights(16, 48, 8);
  const rq::gram h = rq::gram_of(activations(200, 48, 9)).value();
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto one = rq::gptq{}(q, w, h).value();
  for (int power : {-240, -40, 40, 240}) {  // squares of what a float can hold
    const rq::gram scaled{h.sum * std::ldexp(1.0, power), h.tokens};
    CHECK(rq::gptq{}(q, w, scaled).value().weights.codes() == one.weights.codes());
  }
}

TEST_CASE("gptq: huge and tiny weights", "[reconstruct]") {
  const rq::gram h = rq::gram_of(activations(200, 48, 9)).value();
  const rq::matrix<> w = weights(16, 48, 8);
  const auto one = rq::gptq{}(fitted(rq::uniform{4}, rq::per_row{}, w), w, h).value();
  for (float scale : {0x1p-80F, 0x1p80F}) {
    const rq::matrix<> v = w * scale;
    const auto other = rq::gptq{}(fitted(rq::uniform{4}, rq::per_row{}, v), v, h).value();
    CHECK(other.weights.codes() == one.weights.codes());
  }
}

TEST_CASE("gptq: the damping ladder, and the fall-back that is reported", "[reconstruct]") {
  const rq::matrix<> w = weights(6, 24, 8);
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  SECTION("a singular matrix without damping climbs one step") {
    const rq::gram h = rq::gram_of(activations(5, 24, 9)).value();
    const auto answer = rq::gptq{0.0}(q, w, h).value();
    CHECK(answer.report.damping == 0.01);
    CHECK_FALSE(answer.report.rounded_to_nearest);
    CHECK(answer.report.notice.code == rq::errc::not_positive_definite);
    CHECK(answer.report.notice.got == 5);
    CHECK(answer.report.notice.want == 24);
  }
  SECTION("a slightly indefinite matrix climbs further") {
    rq::gram h = rq::gram::identity(24);
    h.sum(0, 1) = h.sum(1, 0) = 1.07;  // smallest eigenvalue -0.07
    const auto answer = rq::gptq{}(q, w, h).value();
    CHECK(answer.report.damping == 0.1);
    CHECK_FALSE(answer.report.notice);
  }
  SECTION("no step suffices") {
    rq::gram h = rq::gram::identity(24);
    h.sum(0, 1) = h.sum(1, 0) = 3;
    const auto answer = rq::gptq{}(q, w, h).value();
    CHECK(answer.report.rounded_to_nearest);
    CHECK(answer.report.damping == 0);
    CHECK(answer.report.notice.code == rq::errc::not_positive_definite);
    CHECK(answer.weights.codes() == rq::round_to_nearest{}(q, w, h).value().weights.codes());
  }
}

TEST_CASE("reconstructors refuse bad input and say where", "[reconstruct]") {
  rq::matrix<> w = weights(4, 8, 1);
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  rq::gram h = rq::gram::identity(8);
  const auto both = [&](const rq::matrix<>& weight, const rq::gram& g) {
    const auto a = rq::gptq{}(q, weight, g);
    const auto b = rq::round_to_nearest{}(q, weight, g);
    REQUIRE_FALSE(a);
    REQUIRE_FALSE(b);
    CHECK(a.error().code == b.error().code);
    return a.error();
  };
  SECTION("NaN in the weight") {
    w(2, 3) = std::numeric_limits<float>::quiet_NaN();
    const rq::failure f = both(w, h);
    CHECK(f.code == rq::errc::non_finite);
    CHECK(std::string(f.where) == "reconstruct: weight");
    CHECK(f.got == 1);
  }
  SECTION("infinity in the Gram matrix") {
    h.sum(2, 3) = std::numeric_limits<double>::infinity();
    const rq::failure f = both(w, h);
    CHECK(f.code == rq::errc::non_finite);
    CHECK(std::string(f.where) == "reconstruct: gram");
  }
  SECTION("sizes") {
    CHECK(both(w, rq::gram::identity(7)).code == rq::errc::shape_mismatch);
    CHECK(both(rq::matrix<>(4, 7).setZero(), rq::gram::identity(7)).code == rq::errc::shape_mismatch);
    CHECK(both(rq::matrix<>(5, 8).setZero(), h).code == rq::errc::shape_mismatch);
    CHECK(both(rq::matrix<>(0, 8), h).code == rq::errc::empty);
    CHECK(both(w, rq::gram{}).code == rq::errc::empty);
  }
  SECTION("not a Gram matrix") {
    h.sum(1, 1) = -1;
    CHECK(both(w, h).code == rq::errc::not_positive_definite);
    h = rq::gram::identity(8);
    h.sum(1, 2) = 0.5;
    CHECK(both(w, h).code == rq::errc::not_positive_definite);
  }
  SECTION("settings") {
    CHECK(rq::gptq{-1}(q, w, h).error().code == rq::errc::bad_option);
    CHECK(rq::gptq{std::nan("")}(q, w, h).error().code == rq::errc::bad_option);
    CHECK(rq::gptq{0.01, rq::column_order::natural, 0}(q, w, h).error().code == rq::errc::bad_option);
  }
  SECTION("bits") {
    const auto nine = fitted(rq::uniform{9}, rq::per_row{}, w);
    CHECK(rq::gptq{}(nine, w, h).error().code == rq::errc::bad_bits);
  }
  SECTION("a group that does not divide") {
    const auto grouped = fitted(rq::uniform{4}, rq::per_group{4}, w);
    CHECK(rq::gptq{}(grouped, rq::matrix<>(4, 6).setZero(), rq::gram::identity(6)).error().code ==
          rq::errc::group_mismatch);
  }
  SECTION("a factor of another matrix") {
    const rq::gram other = rq::gram::identity(6);
    CHECK(rq::gptq{}(q, w, h, rq::factor(other, 0.01, rq::column_order::natural)).error().code ==
          rq::errc::shape_mismatch);
  }
}

TEST_CASE("gptq and gram: threads change nothing", "[reconstruct]") {
  const rq::matrix<> x = activations(300, 200, 9);
  rq::gram_accumulator alone(200);
  rq::gram_accumulator shared(200);
  REQUIRE_FALSE(alone.add(x));
  REQUIRE_FALSE(shared.add(x, rq::threads{3}));
  CHECK(alone.total().sum == shared.total().sum);

  const rq::matrix<> w = weights(200, 200, 8);
  const auto q = fitted(rq::uniform{4}, rq::per_row{}, w);
  const auto one = rq::gptq{}(q, w, alone.total()).value();
  const auto three = rq::gptq{}(q, w, alone.total(), rq::threads{3}).value();
  CHECK(one.weights.codes() == three.weights.codes());
  CHECK(one.report.damped_loss == three.report.damped_loss);
}
