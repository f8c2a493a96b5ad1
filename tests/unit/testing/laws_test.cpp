// SPDX-License-Identifier: MIT
/// The laws themselves: the built-in models keep them, and each law catches a liar made for it.
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/testing/codec_laws.hpp>
#include <repquant/testing/granularity_laws.hpp>

#include "catch.hpp"
#include <cmath>
#include <limits>
#include <string>

namespace rq = repquant;

namespace {

template<class M, class A>
std::string law(const M& model, A argument) {
  const char* name = rq::testing::broken_law(model, argument);
  return name == nullptr ? "none" : name;
}

/// -1, 0, 1 times a scale, with one thing wrong.
enum class fault : std::uint8_t { none, levels, range, nan_range, value, drift, order, falling };
struct ternary {
  fault wrong = fault::none;
  struct params {
    float scale;
  };
  [[nodiscard]] int levels() const noexcept { return wrong == fault::levels ? 1 : 3; }
  [[nodiscard]] params fit(rq::range r) const noexcept { return {std::fmax(-r.lo, r.hi)}; }
  [[nodiscard]] std::int32_t encode(float x, params p) const noexcept {
    if (wrong == fault::range && x > 0.9F * p.scale && x < p.scale) return 3;
    if (wrong == fault::nan_range && std::isnan(x)) return -1;
    if (wrong == fault::order && x > 0.6F * p.scale && x < 0.7F * p.scale) return 1;
    return x > p.scale / 2 ? 2 : x < -p.scale / 2 ? 0 : 1;
  }
  [[nodiscard]] float decode(std::int32_t q, params p) const noexcept {
    if (wrong == fault::value && q == 2) return std::numeric_limits<float>::infinity();
    if (wrong == fault::drift) return static_cast<float>(q - 1) * 0.4F * p.scale;
    return static_cast<float>(wrong == fault::falling ? 1 - q : q - 1) * p.scale;
  }
};

/// uniform with one code fewer in registers.
struct two_meanings {
  using params = rq::affine;
  using code_type = std::uint8_t;
  template<rq::Lane V>
  using lane_params = rq::affine_of<V>;
  rq::uniform real{.bits = 4};
  [[nodiscard]] int levels() const noexcept { return real.levels(); }
  [[nodiscard]] params fit(rq::range r) const noexcept { return real.fit(r); }
  template<rq::Lane V>
  static lane_params<V> spread(const params& p) noexcept {
    return rq::uniform::spread<V>(p);
  }
  template<rq::Lane V>
  static lane_params<V> gather(const params* p) noexcept {
    return rq::uniform::gather<V>(p);
  }
  template<rq::Lane V>
  rq::ints_of<V> encode(V x, const rq::affine_of<V>& p) const noexcept {
    const auto q = real.encode(x, p);
    if constexpr (std::same_as<V, float>) return q;
    return rq::lane::min(q, rq::ints_of<V>(14));
  }
  template<rq::CodeLane I>
  rq::reals_of<I> decode(I q, const rq::affine_of<rq::reals_of<I>>& p) const noexcept {
    return real.decode(q, p);
  }
};

struct crooked {
  rq::index how_many;
  rq::index length;
  bool changes;
  [[nodiscard]] rq::index groups(rq::shape) const noexcept { return how_many; }
  [[nodiscard]] rq::index group(rq::shape, rq::index i, rq::index j) const noexcept {
    return changes ? j % 2 : i;
  }
  [[nodiscard]] rq::index run(rq::shape) const noexcept { return length; }
};

}  // namespace

TEST_CASE("codec laws: the built-in codecs keep them", "[testing]") {
  constexpr float largest = std::numeric_limits<float>::max();
  for (rq::range r : {rq::range{-1, 2}, rq::range{0, 1}, rq::range{3, 3}, rq::range{0, 0}, rq::range{-5, -4},
                      rq::range{-1e-30F, 1e-30F}, rq::range{-largest, largest}, rq::range{1000, 1000.001F}}) {
    for (int bits = 2; bits <= 8; ++bits) {
      CAPTURE(r.lo, r.hi, bits);
      CHECK(law(rq::uniform{.bits = bits}, r) == "none");
      CHECK(law(rq::uniform{.bits = bits, .symmetric = true}, r) == "none");
      for (rq::zero_rule zero : {rq::zero_rule::last_code, rq::zero_rule::none}) {
        CHECK(law(rq::log2{.bits = bits, .zero = zero, .depth = 2 * bits}, r) == "none");
        CHECK(law(rq::log_sqrt2{.bits = bits, .zero = zero, .depth = 2 * bits}, r) == "none");
      }
    }
  }
}

TEST_CASE("codec laws: each catches its liar", "[testing]") {
  const rq::range r{-1, 1};
  CHECK(law(ternary{}, r) == "none");
  CHECK(law(ternary{fault::levels}, r) == "levels");
  CHECK(law(ternary{fault::range}, r) == "range");
  CHECK(law(ternary{fault::nan_range}, r) == "range");
  CHECK(law(ternary{fault::value}, r) == "value");
  CHECK(law(ternary{fault::drift}, r) == "fixed point");
  CHECK(law(ternary{fault::order}, r) == "order");
  CHECK(law(ternary{fault::falling}, r) != "none");  // its values turn the axis round
  CHECK(law(two_meanings{}, r) == (std::same_as<rq::default_arch, rq::scalar_arch> ? "none" : "one meaning"));
}

TEST_CASE("granularity laws: each catches its liar", "[testing]") {
  const rq::shape s{4, 6};
  CHECK(law(crooked{.how_many = 4, .length = 6, .changes = false}, s) == "none");
  CHECK(law(crooked{.how_many = -1, .length = 6, .changes = false}, s) == "groups");
  CHECK(law(crooked{.how_many = 3, .length = 6, .changes = false}, s) == "group");
  CHECK(law(crooked{.how_many = 4, .length = 4, .changes = false}, s) == "run");
  CHECK(law(crooked{.how_many = 4, .length = 0, .changes = false}, s) == "run");
  CHECK(law(crooked{.how_many = 4, .length = 2, .changes = true}, s) == "change");
}
