// SPDX-License-Identifier: MIT
#include <repquant/calibrate/codec_error.hpp>
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>

#include "catch.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

namespace {

/// A user's codec: three levels, with its own idea of where they meet.
struct ternary {
  struct params {
    float scale;
  };
  [[nodiscard]] int levels() const { return 3; }
  [[nodiscard]] params fit(rq::range r) const { return {std::fmax(std::fmax(r.hi, -r.lo), 1e-30F)}; }
  [[nodiscard]] std::int32_t encode(float x, params p) const {
    return x < -0.7F * p.scale ? 0 : (x > 0.7F * p.scale ? 2 : 1);
  }
  [[nodiscard]] float decode(std::int32_t q, params p) const { return static_cast<float>(q - 1) * p.scale; }
};

/// Value by value through the codec itself.
template<class C>
double one_by_one(const std::vector<float>& xs, const C& codec, const typename C::params& p) {
  double sum = 0;
  for (float x : xs) {
    const double e = static_cast<double>(x) - codec.decode(codec.encode(x, p), p);
    sum += e * e;
  }
  return sum / static_cast<double>(xs.size());
}

template<class C>
void compare(const C& codec) {
  for (std::size_t n : {1U, 2U, 3U, 64U, 20000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      rq::histogram h;
      h.observe(xs);
      const rq::distribution d(h);
      rq::codec_error<C> error(d, codec);
      const double span = std::fmax(static_cast<double>(h.max()) - h.min(), 1e-30);
      for (double shrink : {1.0, 0.6, 0.21}) {
        const double middle = d.quantile(0.5);
        const rq::range r{static_cast<float>(middle - (middle - h.min()) * shrink),
                          static_cast<float>(middle + (h.max() - middle) * shrink)};
        const auto p = codec.fit(r);
        const double want = one_by_one(xs, codec, p);
        const double got = error(p);
        INFO(name << ", " << n << " values, shrunk to " << shrink << ": " << got << " want " << want);
        // up to 64 values nothing is estimated: what remains is a tie, whose two levels are equally far but
        // for their own rounding to float (2^-24 of the value each), and double arithmetic. Beyond, the
        // values of a bin are taken as evenly spread: 3 % covers bins as wide as a step, and discrete values
        // at one end of a bin
        const double far = std::fmax(std::fabs(h.min()), std::fabs(h.max()));
        const double noise = 4 * std::sqrt(want) * far * 0x1p-24 + 1e-13 * span * span;
        REQUIRE(std::fabs(got - want) <= (n <= 64 ? 1e-12 : 0.03) * want + noise);
        REQUIRE(error(p) == got);
      }
    }
  }
}

}  // namespace

TEST_CASE("codec_error: the error of coding value by value, uniform") {
  for (int bits : {2, 3, 4, 6}) compare(rq::uniform{.bits = bits});
  for (int bits : {2, 4}) compare(rq::uniform{.bits = bits, .symmetric = true});
}
TEST_CASE("codec_error: the error of coding value by value, logarithmic") {
  for (int bits : {2, 4}) {
    compare(rq::log2{.bits = bits});
    compare(rq::log_sqrt2{.bits = bits});
    compare(rq::log_sqrt2{.bits = bits, .zero = rq::zero_rule::none});
  }
  compare(rq::log2{.bits = 4, .depth = 5});
  compare(rq::log_sqrt2{.bits = 5, .zero = rq::zero_rule::none, .depth = 7});
}
TEST_CASE("codec_error: the error of coding value by value, a user's codec") { compare(ternary{}); }
TEST_CASE("codec_error: below gives the whole error or, where it is not below, nothing") {
  const rq::uniform codec{.bits = 6};
  for (std::size_t n : {64U, 20000U}) {
    for (const auto& [name, xs] : oracle::every_kind(n)) {
      rq::histogram h;
      h.observe(xs);
      const rq::distribution d(h);
      rq::codec_error<rq::uniform> bounded(d, codec);
      for (double shrink : {1.0, 0.9, 0.5, 0.1}) {
        const rq::range r{static_cast<float>(h.min() * shrink), static_cast<float>(h.max() * shrink)};
        const auto p = codec.fit(r);
        rq::codec_error<rq::uniform> fresh(d, codec);  // nothing is near yet
        const double whole = fresh(p);
        INFO(name << ", " << n << " values, shrunk to " << shrink << ": " << whole);
        rq::codec_error<rq::uniform> unsure(d, codec);
        const auto far_below = unsure.below(p, whole / 2);
        REQUIRE((!far_below || *far_below == whole));
        if (n > 64 && whole > 0) REQUIRE_FALSE(far_below);
        const auto above = bounded.below(p, whole * 1.5);
        REQUIRE(above);
        REQUIRE(*above == whole);
      }
    }
  }
}
