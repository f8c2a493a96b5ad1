// SPDX-License-Identifier: MIT
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/matrix/quantize.hpp>

#include "catch.hpp"
#include <limits>
#include <string_view>

namespace rq = repquant;

namespace {

/// A user's codec, not vectorised.
struct sign {
  struct params {
    float scale;
  };
  [[nodiscard]] int levels() const { return 2; }
  [[nodiscard]] params fit(rq::range r) const { return {std::fmax(r.hi, -r.lo)}; }
  [[nodiscard]] std::int32_t encode(float x, params) const { return x < 0 ? 0 : 1; }
  [[nodiscard]] float decode(std::int32_t q, params p) const { return q == 0 ? -p.scale : p.scale; }
};

template<class C, class G>
rq::quantizer<C, G> made(const C& codec, const G& granularity, rq::shape s) {
  std::vector<typename C::params> params;
  for (rq::index k = 0; k < granularity.groups(s); ++k) {
    const float width = std::exp2(static_cast<float>(k % 9) - 4);
    params.push_back(codec.fit({-width, width * 0.8F}));
  }
  return *rq::quantizer<C, G>::make(codec, granularity, s, std::move(params));
}

template<class C, class G>
void check_all(const C& codec, const G& granularity) {
  const rq::matrix<> big = rq::matrix<>::Random(19, 80);
  const auto x = big.block(1, 3, 17, 72);  // rows are not contiguous
  const auto q = made(codec, granularity, {17, 72});
  const auto codes = rq::quantize(q, x);
  REQUIRE(codes);
  const rq::matrix<> back = rq::dequantize(*codes);
  for (rq::index i = 0; i < 17; ++i) {
    for (rq::index j = 0; j < 72; ++j) {
      const std::int32_t want = q.encode(x(i, j), i, j);
      REQUIRE(static_cast<std::int32_t>(codes->codes()(i, j)) == want);
      REQUIRE(back(i, j) == q.decode(want, i, j));
    }
  }
  const auto scalar = rq::quantize<rq::scalar_arch>(q, x);
  REQUIRE(scalar->codes() == codes->codes());
  REQUIRE(rq::dequantize<rq::scalar_arch>(*codes) == back);
}

template<class C>
void check_granularities(const C& codec) {
  check_all(codec, rq::per_tensor{});
  check_all(codec, rq::per_row{});
  check_all(codec, rq::per_col{});
  check_all(codec, rq::per_group{.size = 24});
}

}  // namespace

TEST_CASE("quantize: every code is the quantizer's, every value back is its, for any granularity") {
  for (int bits : {2, 4, 8}) {
    check_granularities(rq::uniform{.bits = bits});
    check_granularities(rq::log2{.bits = bits});
    check_granularities(rq::log_sqrt2{.bits = bits});
  }
  check_granularities(sign{});
}

TEST_CASE("quantize: per_tensor and per_col serve any number of rows") {
  const rq::matrix<> x = rq::matrix<>::Random(40, 6);
  REQUIRE(rq::quantize(made(rq::uniform{}, rq::per_col{}, {0, 6}), x));
  REQUIRE(rq::quantize(made(rq::uniform{}, rq::per_tensor{}, {1, 1}), x));
}

TEST_CASE("quantize: refuses what does not fit, with the place and both numbers") {
  using rq::errc;
  const auto says = [](const auto& r, errc code, std::string_view where, long got, long want) {
    REQUIRE(!r);
    INFO(r.error().where << " got " << r.error().got << " want " << r.error().want);
    return r.error().code == code && where == r.error().where && r.error().got == got &&
           r.error().want == want;
  };
  rq::matrix<> x = rq::matrix<>::Random(4, 6);
  const auto rows = made(rq::uniform{}, rq::per_row{}, {5, 6});
  const auto cols = made(rq::uniform{}, rq::per_col{}, {4, 7});
  const auto groups = made(rq::uniform{}, rq::per_group{.size = 4}, {4, 8});
  const auto halves = made(rq::uniform{}, rq::per_group{.size = 3}, {2, 12});
  const auto whole = made(rq::uniform{}, rq::per_tensor{}, {4, 6});
  REQUIRE(says(rq::quantize(rows, x, "fc1"), errc::shape_mismatch, "fc1: parameter sets", 5, 4));
  REQUIRE(says(rq::quantize(cols, x, "fc1"), errc::shape_mismatch, "fc1: parameter sets", 7, 6));
  REQUIRE(says(rq::quantize(groups, x, "fc1"), errc::group_mismatch, "fc1: columns", 6, 4));
  REQUIRE(says(rq::quantize(halves, x, "fc1"), errc::shape_mismatch, "fc1: columns", 6, 12));
  REQUIRE(says(rq::quantize(whole, rq::matrix<>(0, 6), "fc1"), errc::empty, "fc1", 0, 1));
  REQUIRE(says(rq::quantize(made(rq::uniform{.bits = 9}, rq::per_tensor{}, {4, 6}), x), errc::bad_bits,
               "quantize", 9, 8));
  x(3, 3) = std::nanf("");
  x(0, 0) = std::numeric_limits<float>::infinity();
  REQUIRE(says(rq::quantize(whole, x, "fc1"), errc::non_finite, "fc1", 2, 0));
}
