// SPDX-License-Identifier: MIT
#include <repquant/kernel/packed_weights.hpp>

#include "catch.hpp"
#include "guarded.hpp"
#include "instruction_sets.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

using codes = std::vector<std::uint8_t>;
using guarded::edge;

/// A product with zero points, and its exact sums.
struct problem {
  rq::index m = 1;
  rq::index n = 1;
  rq::index k = 1;
  int x_bits = 8;
  int w_bits = 8;
  std::int32_t x_zero = 0;
  std::vector<std::int32_t> w_zero;
  codes x;  // rows at a distance of k + 3
  codes w;

  [[nodiscard]] rq::index stride() const { return k + 3; }
  [[nodiscard]] rq::weight_codes weights() const {
    return {{w.data(), k, 1}, k, n, x_bits, w_bits, x_zero, w_zero};
  }
  [[nodiscard]] std::int64_t sum(rq::index i, rq::index j) const {
    std::int64_t s = 0;
    for (rq::index d = 0; d < k; ++d) {
      s += (std::int64_t{x[static_cast<std::size_t>(i * stride() + d)]} - x_zero) *
           (std::int64_t{w[static_cast<std::size_t>(j * k + d)]} - w_zero[static_cast<std::size_t>(j)]);
    }
    return s;
  }
};

enum class fill { random, lowest, highest, alternating, pairs };

void fill_with(codes& v, fill kind, int bits, std::mt19937& engine) {
  const int most = (1 << bits) - 1;
  for (std::size_t i = 0; i < v.size(); ++i) {
    int c = 0;
    if (kind == fill::random) c = static_cast<int>(engine()) & most;
    if (kind == fill::highest) c = most;
    if (kind == fill::alternating) c = i % 2 == 0 ? most : 0;
    if (kind == fill::pairs) c = i / 2 % 2 == 0 ? most : 0;
    v[i] = static_cast<std::uint8_t>(c);
  }
}

problem make(rq::index m, rq::index n, rq::index k, int x_bits, int w_bits, fill fx, fill fw, unsigned seed) {
  problem p{m, n, k, x_bits, w_bits, 0, {}, {}, {}};
  std::mt19937 engine(seed);
  p.x.resize(static_cast<std::size_t>((m - 1) * p.stride() + k));
  p.w.resize(static_cast<std::size_t>(n * k));
  fill_with(p.x, fx, x_bits, engine);
  fill_with(p.w, fw, w_bits, engine);
  p.w_zero.assign(static_cast<std::size_t>(n), 1 << (w_bits - 1));
  return p;
}

/// The sums as gemm gives them, with panels in two ranges, everything it touches at the edge of forbidden
/// pages.
template<rq::instruction_set Set>
std::vector<std::int64_t> run(const problem& p, const rq::gemm_weights& packed, edge touching) {
  const guarded::memory<std::uint8_t> x(p.x, touching);
  const guarded::memory<std::byte> scratch(rq::gemm_scratch_bytes(packed.layout), touching);
  std::vector<std::int64_t> y(static_cast<std::size_t>(p.m * p.n), 77);
  std::vector<int> written(y.size(), 0);
  const auto keep = [&](rq::index i, rq::index j, const auto* sums, rq::index count) {
    for (rq::index c = 0; c < count; ++c) {
      const auto at = static_cast<std::size_t>(i * p.n + j + c);
      y[at] = sums[c];
      ++written[at];
    }
  };
  const rq::index panels = packed.layout.panels();
  const rq::index middle = panels / 3;
  rq::gemm<Set>(packed, x.data(), p.m, p.stride(), middle, panels, scratch.span(), keep);
  rq::gemm<Set>(packed, x.data(), p.m, p.stride(), 0, middle, scratch.span(), keep);
  CHECK(std::all_of(written.begin(), written.end(), [](int times) { return times == 1; }));
  return y;
}

/// Packs and runs on every instruction set; the storage and number of products that AVX2 chose, to be
/// compared.
rq::panel_layout agrees(const problem& p, rq::packing_goal goal = rq::packing_goal::speed) {
  std::vector<std::int64_t> want;
  for (rq::index i = 0; i < p.m; ++i) {
    for (rq::index j = 0; j < p.n; ++j) want.push_back(p.sum(i, j));
  }
  instruction_sets::for_each([&]<rq::instruction_set Set>() {
    const rq::packing_plan plan = rq::plan_packing(Set, p.weights(), goal);
    for (edge touching : {edge::front, edge::back}) {
      const guarded::memory<std::byte> bytes((plan.bytes() + 7) / 8 * 8, touching);
      rq::pack_weights(plan, p.weights(), bytes.span());
      rq::gemm_weights packed;
      const rq::failure refused = rq::open_weights(bytes.span(), Set, p.k, p.n, p.x_bits, packed);
      INFO(refused.where);
      REQUIRE(!refused);
      REQUIRE(packed.layout == plan.layout);
      INFO(rq::name_of(Set) << ' ' << p.m << 'x' << p.n << 'x' << p.k << " bits " << p.x_bits << ','
                            << p.w_bits << " storage " << static_cast<int>(plan.layout.storage)
                            << " products " << plan.layout.products);
      CHECK(run<Set>(p, packed, touching) == want);
    }
  });
  return rq::plan_packing(rq::instruction_set::avx2, p.weights(), goal).layout;
}

/// Packs weights with groups and runs them on every instruction set, beside exact sums scaled and added in
/// order. w_zero and scale are [n x groups].
void groups_agree(const problem& p, rq::index group, std::span<const float> scale) {
  rq::weight_codes w = p.weights();
  w.group = group;
  w.scale = scale;
  const rq::index groups = w.groups();
  std::vector<float> want;
  for (rq::index i = 0; i < p.m; ++i) {
    for (rq::index j = 0; j < p.n; ++j) {
      float total = 0;
      for (rq::index g = 0; g < groups; ++g) {
        const auto at = static_cast<std::size_t>(j * groups + g);
        std::int64_t sum = 0;
        for (rq::index d = g * group; d < std::min(p.k, (g + 1) * group); ++d) {
          sum += (std::int64_t{p.x[static_cast<std::size_t>(i * p.stride() + d)]} - p.x_zero) *
                 (p.w[static_cast<std::size_t>(j * p.k + d)] - p.w_zero[at]);
        }
        // a product of two floats is exact in double, and so rounded once
        const auto product = static_cast<float>(static_cast<double>(static_cast<float>(sum)) * scale[at]);
        total = static_cast<float>(static_cast<double>(total) + product);
      }
      want.push_back(total);
    }
  }
  instruction_sets::for_each([&]<rq::instruction_set Set>() {
    for (rq::packing_goal goal : {rq::packing_goal::speed, rq::packing_goal::memory}) {
      const rq::packing_plan plan = rq::plan_packing(Set, w, goal);
      const guarded::memory<std::byte> bytes((plan.bytes() + 7) / 8 * 8, edge::back);
      rq::pack_weights(plan, w, bytes.span());
      rq::gemm_weights packed;
      REQUIRE(!rq::open_weights(bytes.span(), Set, p.k, p.n, p.x_bits, packed, group));
      CHECK(rq::open_weights(bytes.span(), Set, p.k, p.n, p.x_bits, packed).code == rq::errc::group_mismatch);
      const guarded::memory<std::uint8_t> x(p.x, edge::back);
      const guarded::memory<std::byte> scratch(rq::gemm_scratch_bytes(packed.layout), edge::back);
      std::vector<float> got(want.size());
      rq::gemm_groups<Set>(packed, x.data(), p.m, p.stride(), 0, packed.layout.panels(), scratch.span(),
                           [&](rq::index i, rq::index j, const float* sums, rq::index count) {
                             std::copy(sums, sums + count, got.begin() + i * p.n + j);
                           });
      INFO(rq::name_of(Set) << " group " << group << " k " << p.k << " products " << plan.layout.products);
      CHECK(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);
    }
  });
}

}  // namespace

TEST_CASE("gemm is exact on random shapes, 1 and primes among them, for all bit widths") {
  std::mt19937 engine(5);
  const rq::index sizes[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33, 64, 65, 97, 131};
  const auto pick = [&] { return sizes[engine() % 16]; };
  for (int x_bits = 2; x_bits <= 8; ++x_bits) {
    for (int w_bits = 2; w_bits <= 8; ++w_bits) {
      for (int trial = 0; trial < 3; ++trial) {
        problem p = make(pick(), pick(), pick(), x_bits, w_bits, fill::random, fill::random,
                         static_cast<unsigned>(engine()));
        if (trial > 0) {  // zero points, other ones for every output
          p.x_zero = static_cast<std::int32_t>(engine() % 300) - 20;
          for (auto& z : p.w_zero) z = static_cast<std::int32_t>(engine() % 300) - 20;
        }
        agrees(p, trial == 2 ? rq::packing_goal::memory : rq::packing_goal::speed);
      }
    }
  }
}

TEST_CASE("gemm is exact on fills that would saturate") {
  const fill kinds[] = {fill::lowest, fill::highest, fill::alternating, fill::pairs};
  for (int x_bits : {4, 7, 8}) {
    for (int w_bits : {2, 4, 5, 6, 7, 8}) {
      for (fill fx : kinds) {
        for (fill fw : kinds) {
          agrees(make(6, 19, 531, x_bits, w_bits, fx, fw, 1));
          agrees(make(5, 19, 531, x_bits, w_bits, fx, fw, 1), rq::packing_goal::memory);
        }
      }
    }
  }
}

TEST_CASE("few rows are exact with several panels side by side and with one") {
  const fill kinds[] = {fill::random, fill::lowest, fill::highest, fill::pairs};
  for (rq::index m = 1; m <= 8; ++m) {
    for (const int w_bits : {4, 7, 8}) {
      for (const fill fx : kinds) {
        for (const fill fw : kinds)
          agrees(make(m, 211, 59, 8, w_bits, fx, fw, static_cast<unsigned>(m)), rq::packing_goal::memory);
      }
    }
  }
  // more weights than the second-level cache is taken to hold: one stream
  for (const rq::index m : {1, 2, 3}) {
    for (const int w_bits : {4, 8}) {
      const rq::index n = w_bits == 4 ? 277 : 139;
      const rq::panel_layout l =
          agrees(make(m, n, 4099, 8, w_bits, fill::highest, fill::random, 3), rq::packing_goal::memory);
      CHECK(l.bytes() > rq::index{1} << 19);
    }
  }
}

TEST_CASE("a count over the weights proves more than their bits do") {
  using enum rq::panel_storage;
  STATIC_REQUIRE(rq::products_in_range(255, -128, 127, bytes) == 1);
  STATIC_REQUIRE(rq::products_in_range(255, -64, 63, bytes) == 2);
  STATIC_REQUIRE(rq::products_in_range(128, -128, 127, bytes) == 2);
  STATIC_REQUIRE(rq::products_in_range(129, -128, 127, bytes) == 1);
  STATIC_REQUIRE(rq::products_in_range(255, -32, 31, bytes) == 4);
  STATIC_REQUIRE(rq::products_in_range(255, 0, 15, nibbles) == 16);
  STATIC_REQUIRE(rq::products_in_range(15, 0, 15, nibbles) == 256);
  // 8-bit weights of which none is large: two products fit, and with one pair that does not, they do not
  problem p = make(5, 20, 64, 8, 8, fill::random, fill::random, 3);
  for (auto& w : p.w) w = static_cast<std::uint8_t>(64 + w % 128);
  CHECK((agrees(p).storage == bytes && agrees(p).products == 2));
  p.w[64 * 7 + 10] = 128 + 65;  // with its neighbour 65 + 63 = 128 it still fits: 255 * 128 = 32640
  p.w[64 * 7 + 11] = 128 + 63;
  CHECK(agrees(p).products == 2);
  p.w[64 * 7 + 11] = 128 + 64;
  CHECK((agrees(p).storage == pairs && agrees(p).products == 1));
  // negative ones reach -32768 and no further: 128 activations' levels, weights -128
  p = make(5, 20, 64, 7, 8, fill::highest, fill::lowest, 3);
  CHECK(agrees(p).products == 2);
}

TEST_CASE("zero points far from the codes sum in int64") {
  problem p = make(7, 35, 97, 8, 8, fill::random, fill::random, 9);
  p.w_zero[3] = -(1 << 22);
  p.w_zero[34] = 1 << 22;
  agrees(p);
  for (std::int32_t z : {-(1 << 22), 1 << 22, -32513}) {
    p.x_zero = z;
    agrees(p);
  }
  p.w_zero.assign(35, 128);
  agrees(p);
  for (fill fx : {fill::lowest, fill::highest}) {  // more places than an int32 holds
    for (fill fw : {fill::lowest, fill::highest}) {
      problem big = make(2, 3, 140001, 8, 8, fx, fw, 1);
      big.w_zero.assign(3, 0);
      agrees(big);
      big.w_zero.assign(3, 128);
      agrees(big);
    }
  }
}

TEST_CASE("int16 values are multiplied exactly with weights in pairs") {
  std::mt19937 engine(12);
  for (const rq::index k : {1, 2, 7, 64, 131}) {
    for (const int low : {-16384, 0}) {
      const rq::index m = 7;
      const rq::index n = 19;
      problem p = make(m, n, k, 8, 8, fill::random, fill::random, static_cast<unsigned>(engine()));
      std::vector<std::int16_t> x(static_cast<std::size_t>(m * k));
      for (auto& v : x) v = static_cast<std::int16_t>(engine() % 2 == 0 ? 16384 : low);
      instruction_sets::for_each([&]<rq::instruction_set Set>() {
        rq::gemm_weights w;
        w.layout = {Set, rq::panel_storage::pairs, 1, 128, k, n};
        std::vector<std::byte> panels(static_cast<std::size_t>(w.layout.bytes()));
        rq::pack_panels(w.layout, {p.w.data(), k, 1}, panels.data());
        w.panels = panels.data();
        const guarded::memory<std::int16_t> rows(x, edge::back);
        std::vector<std::uint64_t> scratch(rq::gemm_scratch_bytes(w.layout) / 8 + 1);
        std::vector<std::int64_t> got(static_cast<std::size_t>(m * n));
        std::vector<std::int64_t> want(got.size());
        const auto keep = [&](rq::index i, rq::index j, const auto* sums, rq::index count) {
          std::copy(sums, sums + count, got.begin() + i * n + j);
        };
        rq::gemm<Set>(w, rows.data(), m, k, 0, w.layout.panels(), std::as_writable_bytes(std::span(scratch)),
                      keep);
        for (rq::index i = 0; i < m; ++i) {
          for (rq::index j = 0; j < n; ++j) {
            std::int64_t sum = 0;
            for (rq::index d = 0; d < k; ++d) {
              sum += std::int64_t{x[static_cast<std::size_t>(i * k + d)]} *
                     (p.w[static_cast<std::size_t>(j * k + d)] - 128);
            }
            want[static_cast<std::size_t>(i * n + j)] = sum;
          }
        }
        INFO(rq::name_of(Set) << ' ' << k);
        CHECK(got == want);
      });
    }
  }
}

TEST_CASE("groups are exact sums, scaled and added in order, on every instruction set") {
  std::mt19937 engine(21);
  std::uniform_real_distribution<float> uniform(-0.01F, 0.01F);
  for (const rq::index group : {32, 64, 128, 8, 24, 40, 96}) {
    for (const rq::index k : {1, 32, 129, 320}) {
      for (int trial = 0; trial < 6; ++trial) {
        const int w_bits = trial < 4 ? 4 : 8;
        const fill kind = trial % 2 == 0 ? fill::random : fill::highest;
        problem p = make(trial + 1, 21, k, 8, w_bits, kind, kind, static_cast<unsigned>(engine()));
        p.x_zero = trial % 3 == 0 ? 128 : 3;
        std::vector<float> scale(static_cast<std::size_t>(p.n * ((k + group - 1) / group)));
        for (auto& s : scale) s = uniform(engine);
        p.w_zero.assign(scale.size(), 8);
        for (std::size_t i = 0; trial >= 3 && i < p.w_zero.size(); ++i) {
          p.w_zero[i] = static_cast<std::int32_t>(engine() % 16);
        }
        INFO("trial " << trial);
        groups_agree(p, group, scale);
      }
    }
  }
}

TEST_CASE("runs in int16 are proved from the first place of every group") {
  // the highest activations; weights of 0 but for two pairs of 64, so that an int16 holds either pair and not
  // both; one behind the other in every way that a group may hold them
  for (const rq::index group : {24, 40, 96}) {
    const rq::index k = 3 * group;
    for (rq::index first = 0; first < k; first += 4) {
      for (const rq::index ahead : {4, 8, 16}) {
        problem p = make(3, 17, k, 8, 8, fill::highest, fill::lowest, 1);
        std::fill(p.w.begin(), p.w.end(), std::uint8_t{128});
        for (const rq::index d : {first, first + 1, first + ahead, first + ahead + 1}) {
          if (d < k) p.w[static_cast<std::size_t>(5 * k + d)] = 192;
        }
        p.w_zero.assign(17 * 3, 128);
        INFO("pairs at " << first << " and " << first + ahead);
        groups_agree(p, group, std::vector<float>(p.w_zero.size(), 1.0F));
      }
    }
  }
}

TEST_CASE("packed weights of something else, or damaged ones, are refused") {
  const problem p = make(2, 20, 40, 8, 8, fill::random, fill::random, 4);
  const auto set = rq::instruction_set::avx2;
  const rq::packing_plan plan = rq::plan_packing(set, p.weights());
  std::vector<std::uint64_t> memory(plan.bytes() / 8 + 2);
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(memory)).first(plan.bytes());
  rq::pack_weights(plan, p.weights(), bytes);
  rq::gemm_weights out;
  const auto refusal = [&](std::span<const std::byte> b, rq::instruction_set s, rq::index k, rq::index n,
                           int x_bits) {
    const rq::failure f = rq::open_weights(b, s, k, n, x_bits, out);
    if (f) CHECK(f.got != f.want);
    return f.code;
  };
  CHECK(refusal(bytes, set, 40, 20, 8) == rq::errc::ok);
  CHECK(refusal(bytes, rq::instruction_set::scalar, 40, 20, 8) == rq::errc::bad_format);
  CHECK(refusal(bytes, rq::instruction_set::avx_vnni, 40, 20, 8) == rq::errc::bad_format);
  CHECK(refusal(bytes, set, 41, 20, 8) == rq::errc::shape_mismatch);
  CHECK(refusal(bytes, set, 40, 21, 8) == rq::errc::shape_mismatch);
  CHECK(refusal(bytes, set, 40, 20, 7) == rq::errc::bad_bits);
  CHECK(refusal(bytes.first(plan.bytes() - 1), set, 40, 20, 8) == rq::errc::shape_mismatch);
  CHECK(refusal(bytes.first(63), set, 40, 20, 8) == rq::errc::shape_mismatch);
  CHECK(refusal(std::as_bytes(std::span(memory)).subspan(4), set, 40, 20, 8) == rq::errc::bad_format);
  // parts that are not written together, under a checksum that is right
  const auto with_header = [&](auto change) {
    std::vector<std::uint64_t> changed(memory.size() + plan.bytes() / 4);
    const std::span<std::byte> all = std::as_writable_bytes(std::span(changed));
    std::copy(bytes.begin(), bytes.end(), all.begin());
    rq::packed_header h;
    std::memcpy(&h, all.data(), sizeof h);
    change(h);
    rq::packing_plan parts;
    parts.layout = plan.layout;
    parts.layout.group = h.group;
    parts.wide = h.wide != 0;
    parts.has_slope = h.has_slope != 0;
    h.total_bytes = parts.bytes();
    REQUIRE(all.size() >= parts.bytes());
    h.checksum = rq::checksum(h, std::span<const std::byte>(all).first(parts.bytes()).subspan(sizeof h));
    std::memcpy(all.data(), &h, sizeof h);
    const rq::failure f = rq::open_weights(all, set, 40, 20, 8, out, h.group);
    if (f) CHECK(f.got != f.want);
    return f.code;
  };
  CHECK(with_header([](rq::packed_header&) {}) == rq::errc::ok);
  CHECK(with_header([](rq::packed_header& h) { h.wide = h.has_slope = 1; }) == rq::errc::ok);
  CHECK(with_header([](rq::packed_header& h) { h.group = 8; }) == rq::errc::ok);
  CHECK(with_header([](rq::packed_header& h) { h.wide = 1; }) == rq::errc::bad_format);
  CHECK(with_header([](rq::packed_header& h) { h.wide = h.has_slope = 1, h.group = 8; }) ==
        rq::errc::bad_format);
  // no byte can change unseen
  for (std::size_t i = 0; i < plan.bytes(); ++i) {
    bytes[i] ^= std::byte{4};
    INFO("byte " << i);
    CHECK(refusal(bytes, set, 40, 20, 8) != rq::errc::ok);
    bytes[i] ^= std::byte{4};
  }
  CHECK(refusal(bytes, set, 40, 20, 8) == rq::errc::ok);
}
