// SPDX-License-Identifier: MIT
/// encode and decode: the codec's own functions, for every granularity, size, stride and architecture.
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>

#include "catch.hpp"
#include "oracle/codec.hpp"
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

/// A codec without lanes: -scale, 0, scale.
struct ternary {
  struct params {
    float scale;
  };
  [[nodiscard]] int levels() const noexcept { return 3; }
  [[nodiscard]] params fit(rq::range r) const noexcept { return {std::fmax(-r.lo, r.hi)}; }
  [[nodiscard]] std::int32_t encode(float x, params p) const noexcept {
    return x > p.scale / 2 ? 2 : x < -p.scale / 2 ? 0 : 1;
  }
  [[nodiscard]] float decode(std::int32_t q, params p) const noexcept {
    return static_cast<float>(q - 1) * p.scale;
  }
};
static_assert(rq::Codec<ternary> && !rq::VectorCodec<ternary, float>);

/// A codec whose codes are wider than a byte.
struct wide_uniform : rq::uniform {
  using code_type = std::uint16_t;
};

/// A granularity of the user's own: pairs of rows share, and halves of the columns differ.
struct two_by_half {
  [[nodiscard]] rq::index groups(rq::shape s) const noexcept { return (s.rows + 1) / 2 * 2; }
  [[nodiscard]] rq::index group(rq::shape s, rq::index i, rq::index j) const noexcept {
    return i / 2 * 2 + (j < s.cols / 2 ? 0 : 1);
  }
  [[nodiscard]] rq::index run(rq::shape s) const noexcept { return s.cols / 2; }
};
/// One set per entry, run 1, and not per_col.
struct per_entry {
  [[nodiscard]] rq::index groups(rq::shape s) const noexcept { return s.rows * s.cols; }
  [[nodiscard]] rq::index group(rq::shape s, rq::index i, rq::index j) const noexcept {
    return i * s.cols + j;
  }
  [[nodiscard]] rq::index run(rq::shape) const noexcept { return 1; }
};

/// Values on both sides of zero, some special ones among them.
std::vector<float> values(std::size_t n) {
  std::mt19937 bits(static_cast<unsigned>(n) + 3);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(static_cast<std::int32_t>(bits())) * 0x1p-30F;
    if (i % 17 == 3) x[i] = 0.5F * static_cast<float>(static_cast<int>(bits() % 9) - 4);
    if (i % 29 == 5) x[i] = std::numeric_limits<float>::quiet_NaN();
    if (i % 31 == 7) x[i] = (i & 1U) != 0 ? std::numeric_limits<float>::infinity() : -0.0F;
    if (i % 37 == 11) x[i] = 1e-41F;
  }
  return x;
}

/// Entries that differ from the definition, in codes, values, or what lies between and behind the rows.
template<class Arch, class C, class G>
int mismatches(const C& codec, const G& granularity, rq::shape size, rq::index gap) {
  using code = rq::code_type_t<C>;
  constexpr code untouched = 0xA5;
  const rq::index stride = size.cols + gap;
  const rq::index code_stride = size.cols + 2 * gap;
  const auto room = [&](rq::index s) { return static_cast<std::size_t>(size.rows * s + 8); };
  const std::vector<float> x = values(room(stride));
  std::vector<code> codes(room(code_stride), untouched);
  std::vector<float> back(room(stride), -77.0F);
  std::vector<typename C::params> params;
  for (rq::index g = 0; g < granularity.groups(size); ++g) {
    params.push_back(
        codec.fit({-1 - 0.01F * static_cast<float>(g % 50), 0.5F + 0.02F * static_cast<float>(g % 70)}));
  }
  rq::encode<Arch>(codec, granularity, size, params, x.data(), stride, codes.data(), code_stride);
  rq::decode<Arch>(codec, granularity, size, params, codes.data(), code_stride, back.data(), stride);
  int bad = 0;
  for (std::size_t k = 0; k < codes.size(); ++k) {
    const rq::index i = static_cast<rq::index>(k) / code_stride;
    const rq::index j = static_cast<rq::index>(k) % code_stride;
    if (i < size.rows && j < size.cols) {
      const auto& p = params[static_cast<std::size_t>(granularity.group(size, i, j))];
      const std::int32_t q = codec.encode(x[static_cast<std::size_t>(i * stride + j)], p);
      bad += codes[k] == q ? 0 : 1;
      const float value = back[static_cast<std::size_t>(i * stride + j)];
      bad += std::bit_cast<std::uint32_t>(value) == std::bit_cast<std::uint32_t>(codec.decode(q, p)) ? 0 : 1;
    } else {
      bad += codes[k] == untouched ? 0 : 1;
    }
  }
  for (std::size_t k = 0; k < back.size(); ++k) {
    const bool inside =
        static_cast<rq::index>(k) / stride < size.rows && static_cast<rq::index>(k) % stride < size.cols;
    if (!inside) bad += back[k] == -77.0F ? 0 : 1;
  }
  return bad;
}

template<class C, class G>
int on_both(const C& codec, const G& granularity, rq::shape size, rq::index gap) {
  return mismatches<rq::default_arch>(codec, granularity, size, gap) +
         mismatches<rq::scalar_arch>(codec, granularity, size, gap);
}

template<class C>
int every_granularity(const C& codec) {
  int bad = 0;
  for (rq::index rows : {1, 3}) {
    for (rq::index cols = 1; cols <= 67; ++cols) {
      for (rq::index gap : {0, 5}) {
        const rq::shape size{rows, cols};
        bad += on_both(codec, rq::per_tensor{}, size, gap);
        bad += on_both(codec, rq::per_row{}, size, gap);
        bad += on_both(codec, rq::per_col{}, size, gap);
        bad += on_both(codec, per_entry{}, size, gap);
        if (cols % 2 == 0) bad += on_both(codec, two_by_half{}, size, gap);
        for (rq::index group : {1, 4, 5, 17, 32}) {
          if (cols % group == 0) bad += on_both(codec, rq::per_group{group}, size, gap);
        }
      }
    }
  }
  return bad;
}

}  // namespace

TEST_CASE("encode, decode: every granularity, 1 to 67 columns, with and without gaps", "[kernel]") {
  CHECK(every_granularity(rq::uniform{.bits = 8}) == 0);
  CHECK(every_granularity(rq::uniform{.bits = 3, .symmetric = true}) == 0);
  CHECK(every_granularity(rq::log2{.bits = 4}) == 0);
  CHECK(every_granularity(rq::log_sqrt2{.bits = 4, .zero = rq::zero_rule::none, .depth = 5}) == 0);
  CHECK(every_granularity(ternary{}) == 0);
  wide_uniform wide;
  wide.bits = 8;
  CHECK(every_granularity(wide) == 0);
}

TEST_CASE("encode, decode: spans of 0 to 67 values and of a few thousand", "[kernel]") {
  const rq::uniform c{.bits = 6};
  const rq::affine p = c.fit({-1, 2});
  std::vector<std::size_t> sizes = {255, 256, 257, 4095, 4097};
  for (std::size_t n = 0; n <= 67; ++n) sizes.push_back(n);
  int bad = 0;
  for (std::size_t n : sizes) {
    const std::vector<float> x = values(n);
    std::vector<std::uint8_t> wide(n);
    std::vector<std::uint8_t> scalar(n);
    std::vector<float> back(n);
    rq::encode(c, p, x, wide);
    rq::encode<rq::scalar_arch>(c, p, x, scalar);
    rq::decode(c, p, wide, back);
    for (std::size_t i = 0; i < n; ++i) {
      bad += wide[i] == scalar[i] && scalar[i] == c.encode(x[i], p) &&
                     back[i] == c.decode(std::int32_t{wide[i]}, p)
                 ? 0
                 : 1;
    }
  }
  CHECK(bad == 0);
}

TEST_CASE("encode: ties and their neighbours in registers, where products do not decide", "[kernel]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::mt19937 engine(5);
  std::vector<float> scales = {1.0F,          0x1p-100F,      0x1p100F, 0x1.fffffep-3F,
                               0x1.000002p5F, 0x1.fffffep99F, 0.1F,     3.7e-5F};
  for (int i = 0; i < 40; ++i)
    scales.push_back(std::ldexp(1 + static_cast<float>(engine()) * 0x1p-32F, i - 20));
  for (int bits : {2, 4, 7, 8}) {
    const rq::uniform c{.bits = bits};
    int bad = 0;
    for (float s : scales) {
      // beyond 2^14 no product decides; far below it, ties lie far apart
      for (int z : {0, 1 << (bits - 1), -3, 1000, 1 << 14, -(1 << 14), (1 << 14) + 1, -40000, 1 << 22}) {
        std::vector<float> x = {infinity,
                                -infinity,
                                std::numeric_limits<float>::quiet_NaN(),
                                -0.0F,
                                0x1p-149F,
                                std::numeric_limits<float>::max(),
                                -std::numeric_limits<float>::max(),
                                32767.5F * s,
                                -32768.5F * s,
                                0x1p31F * s,
                                -0x1p31F * s};
        for (int k = -z - 2; k <= (1 << bits) - z + 1; ++k) {
          const auto tie = static_cast<float>((k + 0.5) * static_cast<double>(s));
          x.insert(x.end(), {tie, std::nextafter(tie, infinity), std::nextafter(tie, -infinity)});
          // among values that are decided, and alone
          for (auto n = engine() % 70; n > 0; --n) x.push_back(tie + 0.3F * s);
        }
        const rq::affine p{s, z};
        std::vector<std::uint8_t> codes(x.size());
        rq::encode(c, p, x, codes);
        const std::vector<rq::affine> each(x.size(), p);
        std::vector<std::uint8_t> by_column(x.size());
        const auto n = static_cast<rq::index>(x.size());
        rq::encode(c, rq::per_col{}, {1, n}, each, x.data(), n, by_column.data(), n);
        for (std::size_t i = 0; i < x.size(); ++i) {
          const int want = oracle::uniform_code(x[i], s, z, bits);
          bad += codes[i] == want && by_column[i] == want ? 0 : 1;
        }
      }
    }
    CAPTURE(bits);
    CHECK(bad == 0);
  }
}

TEST_CASE("encode, decode: more columns than a tile holds, more rows than a block", "[kernel]") {
  for (rq::index cols : {rq::index{1023}, rq::index{1024}, rq::index{1025}, rq::index{2100}}) {
    for (rq::index rows : {1, 32, 33, 70}) {
      CAPTURE(rows, cols);
      CHECK(on_both(rq::uniform{.bits = 8}, rq::per_col{}, {rows, cols}, 3) == 0);
    }
  }
}

TEST_CASE("encode, decode: nothing to do", "[kernel]") {
  const rq::uniform c;
  std::uint8_t code = 7;
  float x = 3;
  rq::encode(c, rq::per_tensor{}, {0, 4}, std::vector<rq::affine>(1), &x, 4, &code, 4);
  rq::encode(c, rq::per_col{}, {4, 0}, std::vector<rq::affine>{}, &x, 4, &code, 4);
  rq::decode(c, rq::per_row{}, {0, 4}, std::vector<rq::affine>{}, &code, 4, &x, 4);
  CHECK(code == 7);
  CHECK(x == 3);
}
