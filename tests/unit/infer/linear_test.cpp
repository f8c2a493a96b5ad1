// SPDX-License-Identifier: MIT
#include <repquant/infer/linear.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <random>

namespace rq = repquant;

namespace {

struct fixture {
  rq::linear_codes layer;
  std::vector<std::uint8_t> w, x;
  std::vector<std::int32_t> zero;
  std::vector<float> m, c;
  rq::index tokens = 0;

  fixture(rq::index t, rq::index in, rq::index out, unsigned seed) : tokens(t) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0.0F, 1.0F);
    w.resize(static_cast<std::size_t>(in * out));
    x.resize(static_cast<std::size_t>(t * (in + 2)));
    for (auto& v : w) v = static_cast<std::uint8_t>(engine());
    for (auto& v : x) v = static_cast<std::uint8_t>(engine());
    zero.assign(static_cast<std::size_t>(out), 128);
    m.resize(zero.size());
    c.resize(zero.size());
    for (auto& v : m) v = 1e-3F * normal(engine);
    for (auto& v : c) v = normal(engine);
    layer.in = in;
    layer.out = out;
    layer.x_zero = 117;
    bind();
  }
  void bind() {
    layer.w = w;
    layer.w_zero = zero;
    layer.multiplier = m;
    layer.offset = c;
  }
};

template<class Arch, class Packed = Arch>
std::vector<float> run(fixture& f) {
  std::vector<std::byte> packed(rq::linear_packed_bytes<Packed>(f.layer), std::byte{99});
  rq::pack_linear<Packed>(f.layer, packed);
  f.layer.packed = packed;
  REQUIRE(!rq::check_packed<Packed>(f.layer));
  std::vector<std::byte> workspace(rq::linear_workspace_size(f.layer) + 8);
  std::vector<float> y(static_cast<std::size_t>(f.tokens * (f.layer.out + 1)), 77.0F);
  rq::linear_rows<Arch>(f.layer, f.x.data(), f.tokens, f.layer.in + 2, std::span(workspace).subspan(8),
                        y.data(), f.layer.out + 1);
  f.layer.packed = {};
  return y;
}

std::vector<float> expected(const fixture& f) {
  std::vector<float> y(static_cast<std::size_t>(f.tokens * (f.layer.out + 1)), 77.0F);
  for (rq::index t = 0; t < f.tokens; ++t) {
    for (rq::index o = 0; o < f.layer.out; ++o) {
      const auto at = static_cast<std::size_t>(o);
      std::int64_t sum = 0;
      for (rq::index k = 0; k < f.layer.in; ++k) {
        sum += (std::int64_t{f.x[static_cast<std::size_t>(t * (f.layer.in + 2) + k)]} - f.layer.x_zero) *
               (std::int64_t{f.w[static_cast<std::size_t>(o * f.layer.in + k)]} - f.zero[at]);
      }
      const float scaled = oracle::rounded(static_cast<double>(static_cast<float>(sum)) *
                                           static_cast<double>(f.m[at]));  // exact, then rounded once
      y[static_cast<std::size_t>(t * (f.layer.out + 1) + o)] =
          f.layer.offset.empty() ? scaled : scaled + f.c[at];
    }
  }
  return y;
}

void same_everywhere(fixture& f) {
  REQUIRE(!rq::check(f.layer, "fc"));
  const std::vector<float> want = expected(f);
  CHECK(oracle::same_bits(run<rq::default_arch>(f), want));
  CHECK(oracle::same_bits(run<rq::scalar_arch>(f), want));
  CHECK(oracle::same_bits(run<rq::scalar_arch, rq::default_arch>(f), want));
}

}  // namespace

TEST_CASE("linear_rows is the exact sum, requantized, for every shape") {
  unsigned seed = 0;
  for (rq::index tokens : {1, 2, 5, 67, 131}) {
    for (rq::index in : {1, 7, 32, 65}) {
      for (rq::index out : {1, 3, 10, 67, 130}) {
        fixture f(tokens, in, out, ++seed);
        INFO(tokens << " x " << in << " -> " << out);
        same_everywhere(f);
      }
    }
  }
  fixture f(3, 8, 5, 1);
  f.layer.offset = {};
  same_everywhere(f);
}

TEST_CASE("linear_rows is exact at the edges of its arithmetic") {
  for (std::uint8_t a : {std::uint8_t{0}, std::uint8_t{255}}) {
    for (std::uint8_t b : {std::uint8_t{0}, std::uint8_t{255}}) {
      fixture f(2, 33100, 3, 1);  // 33100 * 255 * 255 does not fit an int32
      std::fill(f.x.begin(), f.x.end(), a);
      std::fill(f.w.begin(), f.w.end(), b);
      f.layer.x_zero = 0;
      std::fill(f.zero.begin(), f.zero.end(), 0);
      same_everywhere(f);
    }
  }
  // zero points of constant rows and of a constant input, and of a range far from zero
  fixture f(5, 40, 70, 2);
  f.zero[3] = -(1 << 22);
  f.zero[69] = 1 << 22;
  same_everywhere(f);
  f.zero[10] = 30000;
  same_everywhere(f);
  for (std::int32_t z : {-(1 << 22), 1 << 22, -32512, 32767, -32513}) {
    f.layer.x_zero = z;
    same_everywhere(f);
  }
}

TEST_CASE("check names the part of a linear layer that does not fit") {
  fixture f(1, 4, 3, 1);
  CHECK(!rq::check(f.layer, "fc"));
  rq::linear_codes l = f.layer;
  l.w = l.w.first(5);
  CHECK((rq::check(l, "fc").code == rq::errc::shape_mismatch && rq::check(l, "fc").got == 5 &&
         rq::check(l, "fc").want == 12));
  l = f.layer;
  l.w_zero = l.w_zero.first(2);
  CHECK(rq::check(l, "fc").code == rq::errc::shape_mismatch);
  l = f.layer;
  l.multiplier = {};
  CHECK(rq::check(l, "fc").code == rq::errc::shape_mismatch);
  l = f.layer;
  l.offset = l.offset.first(1);
  CHECK(rq::check(l, "fc").code == rq::errc::shape_mismatch);
  l = f.layer;
  l.in = 0;
  CHECK(rq::check(l, "fc").code == rq::errc::empty);
  l = f.layer;
  l.x_bits = 1;
  CHECK(rq::check(l, "fc").code == rq::errc::bad_bits);
  l = f.layer;
  l.w_bits = 9;
  CHECK(rq::check(l, "fc").code == rq::errc::bad_bits);
}
