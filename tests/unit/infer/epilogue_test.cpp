// SPDX-License-Identifier: MIT
#include <repquant/infer/linear.hpp>

#include "catch.hpp"
#include <random>
#include <vector>

namespace rq = repquant;

namespace {

/// A layer, its input, and what linear_rows makes of it.
struct fixture {
  rq::index tokens = 7;
  rq::index in = 45;
  rq::index out = 83;
  std::vector<std::uint8_t> x;
  std::vector<std::uint8_t> w;
  std::vector<std::int32_t> zero;
  std::vector<float> m;
  std::vector<float> c;
  std::vector<std::byte> packed;
  rq::linear_codes layer;

  explicit fixture(std::int32_t w_zero) {
    std::mt19937 engine(3);
    std::normal_distribution<float> normal;
    x.resize(static_cast<std::size_t>(tokens * in));
    w.resize(static_cast<std::size_t>(out * in));
    for (auto& v : x) v = static_cast<std::uint8_t>(engine());
    for (auto& v : w) v = static_cast<std::uint8_t>(engine());
    zero.assign(static_cast<std::size_t>(out), w_zero);
    m.resize(zero.size());
    c.resize(zero.size());
    for (auto& v : m) v = 1e-4F * normal(engine);
    for (auto& v : c) v = normal(engine);
    layer.in = in;
    layer.out = out;
    layer.w = w;
    layer.w_zero = zero;
    layer.multiplier = m;
    layer.offset = c;
    layer.x_zero = 117;
  }
  template<class Arch, class Epilogue>
  void run(Epilogue&& epilogue) {
    packed.resize(rq::linear_packed_bytes<Arch>(layer));
    rq::pack_linear<Arch>(layer, packed);
    layer.packed = packed;
    std::vector<std::byte> workspace(rq::linear_workspace_size(layer));
    const rq::index panels = rq::linear_panels(layer);
    rq::linear_sums<Arch>(layer, x.data(), tokens, in, panels / 2, panels, workspace, epilogue);
    rq::linear_sums<Arch>(layer, x.data(), tokens, in, 0, panels / 2, workspace, epilogue);
  }
};

template<class Arch>
void fused_equals_unfused(std::int32_t w_zero) {
  fixture f(w_zero);
  const auto n = static_cast<std::size_t>(f.tokens * f.out);
  std::vector<float> reals(n);
  f.run<Arch>(rq::real_rows<Arch>{f.m, f.c, reals.data(), f.out});

  // the definition, one value at a time
  for (rq::index t = 0; t < f.tokens; ++t) {
    for (rq::index o = 0; o < f.out; ++o) {
      std::int64_t sum = 0;
      for (rq::index k = 0; k < f.in; ++k) {
        sum += (std::int64_t{f.x[static_cast<std::size_t>(t * f.in + k)]} - 117) *
               (std::int64_t{f.w[static_cast<std::size_t>(o * f.in + k)]} - w_zero);
      }
      const auto at = static_cast<std::size_t>(o);
      const auto product = static_cast<float>(static_cast<double>(static_cast<float>(sum)) * f.m[at]);
      REQUIRE(reals[static_cast<std::size_t>(t * f.out + o)] ==
              static_cast<float>(static_cast<double>(product) + f.c[at]));
    }
  }

  const rq::uniform codec{5};
  const rq::affine params{0.11F, 13};
  std::vector<std::uint8_t> codes(n, 77);
  f.run<Arch>(rq::requantized<rq::encode_rows<Arch>, Arch>{f.m, f.c, {codec, params, codes.data(), f.out}});
  std::vector<std::uint8_t> want(n);
  rq::encode<Arch>(codec, params, reals, want);
  CHECK(codes == want);

  std::vector<float> residual(n);
  std::mt19937 engine(8);
  std::normal_distribution<float> normal;
  for (auto& v : residual) v = normal(engine);
  std::vector<float> added(n);
  for (std::size_t i = 0; i < n; ++i) added[i] = reals[i] + residual[i];
  f.run<Arch>(rq::requantized<rq::added_rows<Arch>, Arch>{
      f.m, f.c, {residual.data(), f.out, residual.data(), f.out}});  // in place
  CHECK(residual == added);

  std::vector<std::int32_t> sums(n);
  f.run<Arch>(rq::sum_rows{sums.data(), f.out});
  std::vector<float> from_sums(n);
  for (rq::index t = 0; t < f.tokens; ++t) {
    const auto first = static_cast<std::size_t>(t * f.out);
    rq::requantize_row<Arch>(std::span<const std::int32_t>(sums).subspan(first, f.m.size()), f.m, f.c,
                             std::span(from_sums).subspan(first, f.m.size()));
  }
  CHECK(from_sums == reals);
}

}  // namespace

TEST_CASE("a fused epilogue gives the bits of the steps it fuses") {
  for (std::int32_t w_zero : {128, 100}) {
    fused_equals_unfused<rq::default_arch>(w_zero);
    fused_equals_unfused<rq::scalar_arch>(w_zero);
  }
}
