// SPDX-License-Identifier: MIT
#include <repquant/reconstruct/code_gram_accumulator.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>

#include "catch.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

rq::matrix<> samples(rq::index tokens, rq::index in, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  rq::matrix<> x(tokens, in);
  for (rq::index i = 0; i < tokens * in; ++i) x.data()[i] = normal(engine);
  return x;
}

rq::matrix<std::uint8_t> codes(rq::index tokens, rq::index in, unsigned seed) {
  std::mt19937 engine(seed);
  rq::matrix<std::uint8_t> x(tokens, in);
  for (rq::index i = 0; i < tokens * in; ++i) x.data()[i] = static_cast<std::uint8_t>(engine() >> 24);
  return x;
}

}  // namespace

TEST_CASE("gram: the sum of products", "[reconstruct]") {
  const rq::matrix<> x = samples(300, 7, 1);
  const rq::gram h = rq::gram_of(x).value();
  CHECK(h.tokens == 300);
  for (rq::index i = 0; i < 7; ++i) {
    for (rq::index j = 0; j < 7; ++j) {
      double sum = 0;
      for (rq::index t = 0; t < 300; ++t) sum += static_cast<double>(x(t, i)) * static_cast<double>(x(t, j));
      CHECK(h.sum(i, j) == Approx(sum).epsilon(1e-13).margin(1e-12));  // double sums in another order
    }
  }
  CHECK(h.sum == h.sum.transpose());
}

TEST_CASE("gram: batches do not change a bit", "[reconstruct]") {
  const rq::matrix<> x = samples(533, 19, 2);
  const rq::gram whole = rq::gram_of(x).value();
  for (rq::index step : {1, 50, 127, 128, 129, 400}) {
    rq::gram_accumulator sum(19);
    for (rq::index t = 0; t < x.rows(); t += step) {
      const rq::matrix<> part = x.middleRows(t, std::min(step, x.rows() - t));
      REQUIRE_FALSE(sum.add(part));
      if (t == 0) static_cast<void>(sum.total());  // looking does not disturb
    }
    CHECK(sum.tokens() == 533);
    CHECK(sum.total().sum == whole.sum);
  }
}

TEST_CASE("gram: integer sums of codes are exact in any order", "[reconstruct]") {
  const rq::matrix<std::uint8_t> q = codes(700, 9, 3);
  const std::vector<rq::affine> channels = [] {
    std::vector<rq::affine> p;
    for (int i = 0; i < 9; ++i) p.push_back({0.25F * static_cast<float>(i + 1), 100 - 60000 * (i % 3)});
    return p;
  }();
  rq::code_gram_accumulator forward(9);
  REQUIRE_FALSE(forward.add(q));
  rq::code_gram_accumulator first(9);
  rq::code_gram_accumulator second(9);
  for (rq::index t = 699; t >= 0; --t) {
    const rq::matrix<std::uint8_t> row = q.row(t);
    REQUIRE_FALSE((t % 3 == 0 ? first : second).add(row));
  }
  REQUIRE_FALSE(first.merge(second));
  const rq::gram a = forward.total(channels).value();
  const rq::gram b = first.total(channels).value();
  CHECK(a.tokens == 700);
  CHECK(a.sum == b.sum);
  for (rq::index i = 0; i < 9; ++i) {
    for (rq::index j = 0; j < 9; ++j) {
      const rq::affine pi = channels[static_cast<std::size_t>(i)];
      const rq::affine pj = channels[static_cast<std::size_t>(j)];
      std::int64_t sum = 0;
      for (rq::index t = 0; t < 700; ++t) {
        sum += std::int64_t{q(t, i) - pi.zero_point} * std::int64_t{q(t, j) - pj.zero_point};
      }
      const double scale = static_cast<double>(pi.scale) * static_cast<double>(pj.scale);
      CHECK(a.sum(i, j) == static_cast<double>(sum) * scale);
    }
  }
}

TEST_CASE("gram: one layer-wise parameter set serves all inputs", "[reconstruct]") {
  const rq::matrix<std::uint8_t> q = codes(40, 5, 4);
  rq::code_gram_accumulator sum(5);
  REQUIRE_FALSE(sum.add(q));
  const std::vector<rq::affine> same(5, rq::affine{0.5F, 7});
  CHECK(sum.total(rq::affine{0.5F, 7}).value().sum == sum.total(same).value().sum);
}

TEST_CASE("gram: the largest codes in the largest block stay exact", "[reconstruct]") {
  rq::matrix<std::uint8_t> q(1000, 3);
  q.setConstant(255);
  rq::code_gram_accumulator sum(3);
  REQUIRE_FALSE(sum.add(q));
  const rq::gram h = sum.total(rq::affine{1, 0}).value();
  CHECK(h.sum(2, 1) == 1000.0 * 255 * 255);
}

TEST_CASE("gram: bad input is refused and adds nothing", "[reconstruct]") {
  rq::gram_accumulator sum(4);
  CHECK(sum.add(rq::matrix<>(0, 4)).code == rq::errc::empty);
  CHECK(sum.add(rq::matrix<>(2, 3).setZero()).code == rq::errc::shape_mismatch);
  rq::matrix<> x = samples(3, 4, 5);
  x(2, 1) = std::numeric_limits<float>::infinity();
  const rq::failure f = sum.add(x);
  CHECK(f.code == rq::errc::non_finite);
  CHECK(f.got == 1);
  CHECK(sum.tokens() == 0);
  CHECK(sum.total().sum.isZero(0));
  CHECK(rq::check(sum.total(), 4, "here").code == rq::errc::empty);

  rq::code_gram_accumulator ints(4);
  CHECK(ints.add(rq::matrix<std::uint8_t>(0, 4)).code == rq::errc::empty);
  CHECK(ints.add(rq::matrix<std::uint8_t>(2, 5).setZero()).code == rq::errc::shape_mismatch);
  CHECK(ints.merge(rq::code_gram_accumulator(3)).code == rq::errc::shape_mismatch);
  const std::vector<rq::affine> two(2, rq::affine{1, 0});
  CHECK(ints.total(two).error().code == rq::errc::shape_mismatch);
}
