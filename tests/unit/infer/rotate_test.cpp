// SPDX-License-Identifier: MIT
/// Rotary positions: the formula, the same bits on every register, and the step in a program.
#include <repquant/block/evaluate.hpp>
#include <repquant/infer/rotate.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include "unit/block/networks.hpp"
#include <limits>

namespace rq = repquant;

namespace {

struct tables {
  explicit tables(rq::index positions, rq::index half, unsigned seed)
      : angles(networks::random_matrix(positions, half, 3, seed)),
        cosines(angles.array().cos()),
        sines(angles.array().sin()) {}
  rq::matrix<> angles;
  rq::matrix<> cosines;
  rq::matrix<> sines;
};

rq::failure refused(const rq::matrix<>& c, const rq::matrix<>& s, rq::index heads) {
  const auto p = rq::record(
      networks::block{[&](rq::trace& t, rq::value x) { return t.rotate("turn", c, s, heads, x); }}, 8);
  REQUIRE_FALSE(p);
  return p.error();
}

}  // namespace

TEST_CASE("rotate_row turns every pair, with the same bits on every register", "[infer][rotate]") {
  for (rq::index half = 1; half <= 9; ++half) {
    for (rq::index heads = 1; heads <= 6; ++heads) {
      const auto h = static_cast<std::size_t>(half);
      const auto n = static_cast<std::size_t>(2 * half * heads);
      const tables t(1, half, static_cast<unsigned>(half));
      const rq::matrix<> m = networks::random_matrix(1, 2 * half * heads, 5, static_cast<unsigned>(heads));
      const std::span<const float> x(m.data(), n), c(t.cosines.data(), h), s(t.sines.data(), h);
      std::vector<float> wide(n);
      std::vector<float> scalar(n);
      std::vector<float> in_place(x.begin(), x.end());
      rq::rotate_row(x, c, s, wide);
      rq::rotate_row<rq::scalar_arch>(x, c, s, scalar);
      rq::rotate_row(in_place, c, s, in_place);
      CHECK((oracle::same_bits(wide, scalar) && oracle::same_bits(wide, in_place)));
      double worst = 0;
      for (std::size_t i = 0; i < n; i += 2) {
        const double cosine = static_cast<double>(c[i / 2 % h]);
        const double sine = static_cast<double>(s[i / 2 % h]);
        const double a = static_cast<double>(x[i]);
        const double b = static_cast<double>(x[i + 1]);
        const double size = std::fabs(a) + std::fabs(b);
        worst = std::fmax(worst, std::fabs(static_cast<double>(wide[i]) - (a * cosine - b * sine)) / size);
        worst =
            std::fmax(worst, std::fabs(static_cast<double>(wide[i + 1]) - (a * sine + b * cosine)) / size);
      }
      CHECK(worst <= 0x1p-23);
    }
  }
}

TEST_CASE("rotate_row rounds each product before it adds", "[infer][rotate]") {
  // a fused multiply-add would keep the 2^-24 that the rounded product drops
  const std::vector<float> x{1.0F + 0x1p-12F, 1.0F}, c{1.0F + 0x1p-12F}, s{1.0F + 0x1p-11F};
  std::vector<float> y(2);
  rq::rotate_row(x, c, s, y);
  CHECK(y[0] == 0.0F);
}

TEST_CASE("rotate_row gives one NaN", "[infer][rotate]") {
  const float nan = -std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x{nan, 1, inf, inf, 1, 2}, c{0.5F}, s{0.5F};
  std::vector<float> y(6);
  rq::rotate_row(x, c, s, y);
  for (const std::size_t i : {0U, 1U, 2U}) CHECK(std::bit_cast<std::uint32_t>(y[i]) == 0x7FC00000U);
  CHECK(y[3] == inf);
  CHECK(y[5] == 1.5F);
}

TEST_CASE("a program turns row t by table row t, in float and in the engine", "[block][rotate]") {
  const tables t(7, 2, 1);
  const auto p = rq::record(
      networks::block{[&](rq::trace& r, rq::value x) { return r.rotate("turn", t.cosines, t.sines, 2, x); }},
      8);
  REQUIRE(p);
  const rq::matrix<> x = networks::random_matrix(7, 8, 1, 2);
  const rq::matrix<> y = rq::evaluate(*p, x).value();
  for (rq::index i = 0; i < 7; ++i) {
    for (rq::index j = 0; j < 8; j += 2) {
      const float angle = t.angles(i, j % 4 / 2);
      CHECK(y(i, j) == Approx(x(i, j) * std::cos(angle) - x(i, j + 1) * std::sin(angle)).margin(1e-6));
      CHECK(y(i, j + 1) == Approx(x(i, j) * std::sin(angle) + x(i, j + 1) * std::cos(angle)).margin(1e-6));
    }
  }
  const networks::samples samples{x};
  const auto m = networks::quantize(*p, samples, "repq", 8, 8);
  REQUIRE(m);
  CHECK(m->run(x).value() == y);  // a step on floats alone: nothing is encoded
  CHECK(m->simulate(x).value() == y);
  const rq::matrix<> first = x.topRows(3);
  CHECK(m->run(first).value() == y.topRows(3));
  const rq::matrix<> longer = networks::random_matrix(8, 8, 1, 2);
  CHECK(rq::evaluate(*p, longer).error().code == rq::errc::shape_mismatch);
  CHECK(m->run(longer).error().code == rq::errc::shape_mismatch);
}

TEST_CASE("a rotation that does not fit is refused", "[block][rotate]") {
  const tables t(5, 2, 3);
  CHECK(refused(t.cosines, t.sines, 3).code == rq::errc::shape_mismatch);
  CHECK(refused(t.cosines, t.sines, 0).code == rq::errc::shape_mismatch);
  CHECK(refused(t.cosines, t.sines, 4).code == rq::errc::shape_mismatch);
  CHECK(refused(t.cosines, t.sines.topRows(4), 2).code == rq::errc::shape_mismatch);
  rq::matrix<> holed = t.sines;
  holed(4, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK(refused(t.cosines, holed, 2).code == rq::errc::non_finite);
}
