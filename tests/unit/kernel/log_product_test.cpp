// SPDX-License-Identifier: MIT
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/kernel/log_product.hpp>
#include <repquant/kernel/pack_panels.hpp>

#include "catch.hpp"
#include "unit/kernel/guarded.hpp"
#include "unit/kernel/instruction_sets.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

/// A product of log codes with values: codes, values and zero points of their columns.
struct operands {
  rq::index m = 0, n = 0, k = 0;
  int bits = 8;                      // of the values
  std::vector<std::uint8_t> codes;   // [m x padded k], rubbish behind k
  std::vector<std::uint8_t> values;  // [k x n]
  std::vector<std::int32_t> zero;    // [n]
  std::vector<rq::index> visible;    // [m]
  [[nodiscard]] rq::index stride() const { return (k + 31) / 32 * 32; }
  [[nodiscard]] std::int64_t max_v() const {
    std::int64_t far = 0;
    for (std::int64_t z : zero)
      far = std::max({far, z < 0 ? -z : z, std::abs((std::int64_t{1} << bits) - 1 - z)});
    return far;
  }
};

/// Even and odd sums, those of values and those of ones.
struct sums {
  std::array<std::vector<std::int64_t>, 2> values;
  std::array<std::vector<std::int64_t>, 2> weights;
};

/// Even and odd sums by definition: 2^(D - floor(c / steps)), with code, D and zero counted here anew.
template<int Steps>
sums by_definition(const rq::logarithmic<Steps>& codec, const operands& o) {
  const int levels = 1 << codec.bits;
  int smallest = levels - (codec.zero == rq::zero_rule::last_code ? 2 : 1);
  while (smallest / Steps > codec.depth) --smallest;
  const int depth = smallest / Steps;
  sums want;
  for (auto& w : want.values) w.assign(static_cast<std::size_t>(o.m * o.n), 0);
  for (auto& w : want.weights) w.assign(static_cast<std::size_t>(o.m), 0);
  for (rq::index i = 0; i < o.m; ++i) {
    for (rq::index j = 0; j < o.visible[static_cast<std::size_t>(i)]; ++j) {
      const int c = o.codes[static_cast<std::size_t>(i * o.stride() + j)];
      if (c > smallest) continue;
      want.weights[static_cast<std::size_t>(c % Steps)][static_cast<std::size_t>(i)] +=
          std::int64_t{1} << (depth - c / Steps);
      for (rq::index d = 0; d < o.n; ++d) {
        want.values[static_cast<std::size_t>(c % Steps)][static_cast<std::size_t>(i * o.n + d)] +=
            (std::int64_t{1} << (depth - c / Steps)) *
            (std::int64_t{o.values[static_cast<std::size_t>(j * o.n + d)]} -
             o.zero[static_cast<std::size_t>(d)]);
      }
    }
  }
  return want;
}

template<rq::instruction_set Set, class Arch, int Steps, class Sum>
bool run(const rq::logarithmic<Steps>& codec, const operands& o, const sums& want) {
  const rq::panel_layout layout = rq::value_layout(Set, codec, o.k, o.n, o.bits);
  std::vector<std::byte> panels(static_cast<std::size_t>(layout.bytes()));
  rq::pack_panels(layout, {o.values.data(), 1, o.n}, panels.data());
  rq::gemm_weights v{layout, panels.data()};
  std::vector<std::int32_t> slope(static_cast<std::size_t>(layout.padded_n()));
  std::vector<std::int64_t> wide_slope(slope.size());
  const std::vector<std::int64_t> wide_offset(slope.size(), 0);
  for (std::size_t d = 0; d < o.zero.size(); ++d) {
    slope[d] = static_cast<std::int32_t>(layout.shift - o.zero[d]);
    wide_slope[d] = std::int64_t{layout.shift} - o.zero[d];
  }
  if (rq::log_corrections_fit(Set, codec, o.k, o.bits, o.max_v())) {
    v.slope = slope.data();
  } else {
    v.wide_slope = wide_slope.data();
    v.wide_offset = wide_offset.data();
  }
  const rq::index sum_stride = layout.padded_n();
  bool good = true;
  for (guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
    const auto room = static_cast<std::size_t>(o.m * sum_stride);
    const guarded::memory<Sum> even(room, edge);
    const guarded::memory<Sum> odd(room, edge);
    const guarded::memory<std::uint8_t> codes(std::span<const std::uint8_t>(o.codes), edge);
    // scratch is aligned as a workspace is: whole times 64 bytes before the forbidden page
    const guarded::memory<std::byte> scratch((rq::log_product_scratch(o.m, o.k) + 63) / 64 * 64, edge);
    std::vector<rq::weight_sums> weights(static_cast<std::size_t>(o.m), {-1, -1});
    const bool asks = edge == guarded::edge::back;
    std::fill(odd.span().begin(), odd.span().end(), Sum{5});
    rq::log_product<Set, Arch>(
        codec, codes.data(), o.m, o.stride(),
        [&](rq::index i) { return o.visible[static_cast<std::size_t>(i)]; }, v, o.bits, even.data(),
        odd.data(), sum_stride, scratch.span(), asks ? weights.data() : nullptr);
    for (rq::index i = 0; i < o.m; ++i) {
      const auto row = static_cast<std::size_t>(i);
      good = good && weights[row].even == (asks ? want.weights[0][row] : -1) &&
             weights[row].odd == (asks ? want.weights[1][row] : -1);
      for (rq::index d = 0; d < o.n; ++d) {
        const auto at = static_cast<std::size_t>(i * o.n + d);
        good = good && even.data()[i * sum_stride + d] == want.values[0][at] &&
               odd.data()[i * sum_stride + d] == (Steps == 2 ? want.values[1][at] : 5);
      }
    }
  }
  return good;
}

template<int Steps>
bool agrees(const rq::logarithmic<Steps>& codec, const operands& o) {
  const auto want = by_definition(codec, o);
  bool good = true;
  instruction_sets::for_each([&]<rq::instruction_set Set>() {
    good = good && run<Set, rq::default_arch, Steps, std::int64_t>(codec, o, want) &&
           run<Set, rq::scalar_arch, Steps, std::int64_t>(codec, o, want);
    if (rq::log_product_fits(codec, o.k, o.max_v())) {
      good = good && run<Set, rq::default_arch, Steps, std::int32_t>(codec, o, want);
    }
    if (!good) UNSCOPED_INFO(rq::name_of(Set));
  });
  return good;
}

/// Codes that encode makes: a used code, or the last one.
template<int Steps>
std::uint8_t draw_code(const rq::logarithmic<Steps>& codec, std::mt19937& engine) {
  const auto used = static_cast<std::uint32_t>(codec.smallest()) + 1;
  const auto draw = engine() % (used + 1);
  return static_cast<std::uint8_t>(draw == used ? static_cast<std::uint32_t>(codec.last()) : draw);
}

template<int Steps>
void all_codecs() {
  std::mt19937 engine(5);
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    for (int depth : {0, 3, 7, 8, 14, 15, 22, 29, 30}) {
      for (rq::zero_rule zero : {rq::zero_rule::last_code, rq::zero_rule::none}) {
        const rq::logarithmic<Steps> codec{.bits = bits, .zero = zero, .depth = depth};
        operands o;
        o.m = 1 + static_cast<rq::index>(engine() % 5);
        o.n = 1 + static_cast<rq::index>(engine() % 41);
        o.k = 1 + static_cast<rq::index>(engine() % 211);
        o.bits = 2 + static_cast<int>(engine() % 7);
        o.codes.assign(static_cast<std::size_t>(o.m * o.stride()), std::uint8_t{0});
        for (auto& c : o.codes) c = draw_code(codec, engine);
        o.values.resize(static_cast<std::size_t>(o.n * o.k));
        for (auto& x : o.values) x = static_cast<std::uint8_t>(engine() % (1U << o.bits));
        for (rq::index d = 0; d < o.n; ++d) o.zero.push_back(static_cast<std::int32_t>(engine() % 300) - 20);
        for (rq::index i = 0; i < o.m; ++i) {
          o.visible.push_back(i == 0 ? o.k
                                     : static_cast<rq::index>(engine() % static_cast<unsigned>(o.k + 1)));
        }
        INFO("bits " << bits << " depth " << depth << " k " << o.k << " value bits " << o.bits);
        CHECK(agrees(codec, o));
        // all code 0 and the lowest or the highest values: every product at its largest
        std::fill(o.codes.begin(), o.codes.end(), std::uint8_t{0});
        for (int extreme : {0, (1 << o.bits) - 1}) {
          std::fill(o.values.begin(), o.values.end(), static_cast<std::uint8_t>(extreme));
          CHECK(agrees(codec, o));
        }
        std::fill(o.codes.begin(), o.codes.end(), static_cast<std::uint8_t>(codec.last()));
        CHECK(agrees(codec, o));
        o.zero.front() = 1 << 22;  // and more than a band's int32
        CHECK(agrees(codec, o));
      }
    }
  }
}

/// Rows whose multipliers add up to just as much as an int16 holds in a run, and to one more.
template<int Steps>
void edges_of_runs() {
  const rq::logarithmic<Steps> codec{.bits = 8, .depth = 7};
  for (int bits : {4, 8}) {
    const int most = 32768 >> (bits - 1);
    for (rq::index k : {64, 197, 256}) {
      for (int total : {most - 1, most, most + 1, 2 * most, 3 * most + 1}) {
        operands o;
        o.m = 3;
        o.n = 17;
        o.k = k;
        o.bits = bits;
        o.codes.assign(static_cast<std::size_t>(o.m * o.stride()), static_cast<std::uint8_t>(codec.last()));
        o.zero.assign(17, 0);
        o.visible.assign(3, k);
        for (rq::index i = 0; i < o.m; ++i) {
          // the largest multipliers first, or spread over the row
          int left = total;
          for (rq::index j = 0; j < k && left > 0; ++j) {
            const rq::index place = i == 0 ? j : i == 1 ? k - 1 - j : j * 2 % (k - 1 + k % 2);
            int shift = i == 2 ? 4 : 0;
            while ((128 >> shift) > left) ++shift;
            o.codes[static_cast<std::size_t>(i * o.stride() + place)] =
                static_cast<std::uint8_t>(shift * Steps);
            left -= 128 >> shift;
          }
        }
        for (int extreme : {0, (1 << bits) - 1}) {
          o.values.assign(static_cast<std::size_t>(o.n * o.k), static_cast<std::uint8_t>(extreme));
          INFO("bits " << bits << " k " << k << " total " << total << " value " << extreme);
          CHECK(agrees(codec, o));
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("log2 products are exact for every depth") { all_codecs<1>(); }
TEST_CASE("log-sqrt2 products are exact for every depth") { all_codecs<2>(); }
TEST_CASE("log products are exact where a run just fits int16, and where it just does not") {
  edges_of_runs<1>();
  edges_of_runs<2>();
}

TEST_CASE("log products choose int32 by proved range") {
  STATIC_REQUIRE(rq::log_product_fits(rq::log_sqrt2{.bits = 4}, 65793, 255));
  STATIC_REQUIRE(!rq::log_product_fits(rq::log_sqrt2{.bits = 4}, 65794, 255));
  STATIC_REQUIRE(rq::log_product_fits(rq::log2{.bits = 4}, 514, 255));
  STATIC_REQUIRE(!rq::log_product_fits(rq::log2{.bits = 4}, 515, 255));
  STATIC_REQUIRE(rq::log_product_fits(rq::log2{.bits = 5}, 1, 1));  // 2^30
  STATIC_REQUIRE(!rq::log_product_fits(rq::log2{.bits = 5}, 2, 1));
  STATIC_REQUIRE(rq::largest_shift(rq::log_sqrt2{.bits = 4}) == 7);
  STATIC_REQUIRE(rq::largest_shift(rq::log2{.bits = 4}) == 14);
  STATIC_REQUIRE(rq::power_bands(rq::log2{.bits = 8}) == 4);
}

TEST_CASE("log products are exact with more keys than a list of bytes holds in int32") {
  operands o;
  o.m = 1;
  o.n = 66;  // more than a panel of any instruction set
  o.k = (rq::index{1} << 17) + 40;
  o.codes.assign(static_cast<std::size_t>(o.stride()), std::uint8_t{0});
  o.values.assign(static_cast<std::size_t>(o.n * o.k), std::uint8_t{0});  // packed as -128
  o.zero.assign(static_cast<std::size_t>(o.n), 0);
  o.zero.front() = 300;
  o.visible.assign(1, o.k);
  CHECK(agrees(rq::log_sqrt2{.bits = 4}, o));
}

TEST_CASE("log products are exact where only int64 holds them") {
  operands o;
  o.m = 2;
  o.n = 3;
  o.k = 1300;
  o.codes.assign(static_cast<std::size_t>(o.m * o.stride()), std::uint8_t{0});
  o.values.assign(static_cast<std::size_t>(o.n * o.k), std::uint8_t{255});
  o.zero.assign(3, 0);
  o.visible.assign(2, o.k);
  CHECK(agrees(rq::log2{.bits = 4}, o));
  CHECK(agrees(rq::log2{.bits = 6}, o));
  CHECK(agrees(rq::log_sqrt2{.bits = 8}, o));
}
