// SPDX-License-Identifier: MIT
/// The law of a Lane, as a function that runs it: every operation gives each element of a register what it
/// gives a float, bit for bit. For users who add a register type.
///
/// Length: one line per operation, and the values that operations get wrong.
#pragma once

#include <repquant/core/lane.hpp>
#include <repquant/core/shuffle.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace repquant::testing {

namespace detail {

inline constexpr std::size_t lane_value_count = 38;
/// Floats that operations get wrong: zeros, subnormals, ties, the edges of exact integers, huge ones,
/// infinities, NaN.
inline std::array<float, lane_value_count> lane_values() noexcept {
  using limits = std::numeric_limits<float>;
  return {0.0F,
          -0.0F,
          1.0F,
          -1.0F,
          0.5F,
          -0.5F,
          1.5F,
          -1.5F,
          2.5F,
          -2.5F,
          0x1.fffffep-2F,
          0x1.000002p-1F,
          3.0F,
          -7.0F,
          0x1.6a09e6p0F,
          0.1F,
          -0.3F,
          255.5F,
          -254.5F,
          0x1p23F,
          -0x1.000002p22F,
          -0x1.ffff64p21F,
          0x1p24F,
          0x1.fffffep30F,
          -0x1p31F,
          0x1p-126F,
          -0x1.8p-126F,
          0x1p-127F,
          0x1p-149F,
          -0x1p-149F,
          0x1p100F,
          -0x1p100F,
          0x1p-100F,
          limits::max(),
          -limits::max(),
          limits::infinity(),
          -limits::infinity(),
          limits::quiet_NaN()};
}
inline constexpr std::size_t int_value_count = 19;
inline std::array<std::int32_t, int_value_count> int_values() noexcept {
  using limits = std::numeric_limits<std::int32_t>;
  return {0,
          1,
          -1,
          2,
          3,
          127,
          -128,
          255,
          256,
          -255,
          1 << 22,
          -(1 << 22),
          16777217,
          -16777219,
          33554435,
          0x3504F3,
          limits::max(),
          limits::min(),
          limits::min() + 1};
}

/// Equal bits, or both NaN where `any_nan`: which payload and which sign a sum or product of NaNs gets
/// depends on the order of operands, which the compiler may change, so no law can be made of it; that it is
/// NaN is the law.
inline bool equal_bits(float a, float b, bool any_nan) noexcept {
  if (any_nan && a != a && b != b) return true;
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}
inline bool equal_bits(std::int32_t a, std::int32_t b, bool) noexcept { return a == b; }

/// Runs f on registers of arguments and on each element; true where the results have equal bits.
template<Lane V, class R, class F, class... T>
inline bool same(bool any_nan, const F& f,
                 const std::array<T, static_cast<std::size_t>(lane_width<V>)>&... in) noexcept {
  constexpr auto width = static_cast<std::size_t>(lane_width<V>);
  const auto load = [](const auto& values) {
    if constexpr (std::same_as<std::decay_t<decltype(values[0])>, float>) {
      return lane::load<V>(values.data());
    } else {
      return lane::load<ints_of<V>>(values.data());
    }
  };
  std::array<R, width> out{};
  lane::store(out.data(), f(load(in)...));
  for (std::size_t i = 0; i < width; ++i) {
    if (!equal_bits(out[i], f(in[i]...), any_nan)) return false;
  }
  return true;
}

/// True where swap_neighbours<Distance> puts what stands in place l ^ Distance into place l, and first is
/// place 0.
template<Lane V, int Distance>
inline bool swaps_neighbours() noexcept {
  constexpr auto width = static_cast<std::size_t>(lane_width<V>);
  std::array<float, width> in{};
  std::array<float, width> out{};
  for (std::size_t i = 0; i < width; ++i) in[i] = static_cast<float>(3 * i + 1);
  if (lane::first(lane::load<V>(in.data())) != in[0]) return false;
  if constexpr (lane_width < V >> Distance) {
    lane::store(out.data(), lane::swap_neighbours<Distance>(lane::load<V>(in.data())));
    for (std::size_t i = 0; i < width; ++i) {
      if (out[i] != in[i ^ static_cast<std::size_t>(Distance)]) return false;
    }
  }
  return true;
}

/// True where exchange<Distance> puts place l + Distance of the first register and place l of the second in
/// each other's stead, for every l without that bit, and leaves the other places.
template<Lane V, int Distance>
inline bool exchanges() noexcept {
  constexpr auto width = static_cast<std::size_t>(lane_width<V>);
  if constexpr (lane_width < V >> Distance) {
    std::array<float, 2 * width> in{};
    std::array<float, 2 * width> out{};
    for (std::size_t i = 0; i < 2 * width; ++i) in[i] = static_cast<float>(3 * i + 1);
    V a = lane::load<V>(in.data());
    V b = lane::load<V>(in.data() + width);
    lane::exchange<Distance>(a, b);
    lane::store(out.data(), a);
    lane::store(out.data() + width, b);
    for (std::size_t i = 0; i < width; ++i) {
      const bool upper = (i & static_cast<std::size_t>(Distance)) != 0;
      const std::size_t other = i ^ static_cast<std::size_t>(Distance);
      if (out[i] != in[upper ? width + other : i] || out[width + i] != in[upper ? width + i : other])
        return false;
    }
  }
  return true;
}

}  // namespace detail

/// The name of the first operation of namespace lane that differs between a register of Arch and a float, or
/// "mul fused" where a product fuses with the sum that follows; nullptr where none does.
///
/// Every pair of 37 floats, and every pair of 19 int32, in every place of a register.
///
/// Cost      a few thousand operations; no heap
template<class Arch = default_arch>
inline const char* broken_lane_law() noexcept {
  using V = lane_of<Arch>;
  constexpr auto width = static_cast<std::size_t>(lane_width<V>);
  using detail::same;
  const auto floats = detail::lane_values();
  const auto ints = detail::int_values();
  std::array<float, width> a{};
  std::array<float, width> b{};
  std::array<float, width> c{};
  std::array<float, width> sign{};
  std::array<std::int32_t, width> m{};
  std::array<std::int32_t, width> n{};
  std::array<std::int32_t, width> mask{};
  const auto add = [](auto x, auto y) { return lane::add(x, y); };
  const auto sub = [](auto x, auto y) { return lane::sub(x, y); };
  const auto mul = [](auto x, auto y) { return lane::mul(x, y); };
  const auto add_signed = [](auto x, auto y, auto z) { return lane::add_signed(x, y, z); };
  const auto div = [](auto x, auto y) { return lane::div(x, y); };
  const auto min = [](auto x, auto y) { return lane::min(x, y); };
  const auto max = [](auto x, auto y) { return lane::max(x, y); };
  const auto greater = [](auto x, auto y) { return lane::greater(x, y); };
  const auto equal = [](auto x, auto y) { return lane::equal(x, y); };
  const auto clamp = [](auto x, auto lo, auto hi) { return lane::clamp(x, lo, hi); };
  const auto select = [](auto which, auto x, auto y) { return lane::select(which, x, y); };
  const auto where_greater = [](auto x, auto y, auto z) { return lane::where_greater(x, y, z, x); };
  const auto where_equal = [](auto x, auto y, auto z) { return lane::where_equal(x, y, z, x); };
  const auto bits = [](auto x) { return lane::bits(x); };
  const auto from_bits = [](auto x) { return lane::from_bits(x); };
  const auto real = [](auto x) { return lane::real(x); };
  const auto sqrt = [](auto x) { return lane::sqrt(x); };
  const auto zero_if_nan = [](auto x) { return lane::zero_if_nan(x); };
  const auto round_to_int = [](auto x) { return lane::round_to_int(x); };
  const auto look_up = [](auto x) {
    return lane::look_up(std::array<std::int32_t, 8>{7, -1, 1 << 30, 0, -5, 255, 1 << 20, 3}, x);
  };
  const auto product_and_sum = [](auto x, auto y, auto z) { return lane::add(lane::mul(x, y), z); };

  if (!detail::swaps_neighbours<V, 1>() || !detail::swaps_neighbours<V, 2>() ||
      !detail::swaps_neighbours<V, 4>() || !detail::swaps_neighbours<V, 8>())
    return "swap_neighbours";
  if (!detail::exchanges<V, 1>() || !detail::exchanges<V, 2>() || !detail::exchanges<V, 4>() ||
      !detail::exchanges<V, 8>())
    return "exchange";
  for (std::size_t i = 0; i < floats.size(); ++i) {
    for (std::size_t j = 0; j < floats.size(); ++j) {
      for (std::size_t k = 0; k < width; ++k) {
        a[k] = floats[(i + k) % floats.size()];
        b[k] = floats[(j + 5 * k) % floats.size()];
        c[k] = floats[(i + j + 3 * k) % floats.size()];
        mask[k] = (i + j + k) % 3 == 0 ? 0 : -1;
        sign[k] = mask[k] == 0 ? 1.0F : -1.0F;
      }
      if (!same<V, float>(true, add, a, b)) return "add";
      if (!same<V, float>(true, sub, a, b)) return "sub";
      if (!same<V, float>(true, mul, a, b)) return "mul";
      if (!same<V, float>(true, add_signed, a, b, sign)) return "add_signed";
      if (!same<V, float>(true, div, a, b)) return "div";
      if (!same<V, float>(true, product_and_sum, a, b, c)) return "mul then add";
      if (!same<V, float>(false, min, a, b)) return "min";
      if (!same<V, float>(false, max, a, b)) return "max";
      if (!same<V, float>(false, clamp, a, b, c)) return "clamp";
      if (!same<V, std::int32_t>(false, greater, a, b)) return "greater";
      if (!same<V, std::int32_t>(false, equal, a, b)) return "equal";
      if (!same<V, float>(false, select, mask, a, b)) return "select";
      if (!same<V, float>(false, where_greater, a, b, c)) return "where_greater";
      if (!same<V, float>(false, where_equal, a, b, c)) return "where_equal";
    }
    if (!same<V, float>(true, sqrt, a)) return "sqrt";
    if (!same<V, float>(false, zero_if_nan, a)) return "zero_if_nan";
    if (!same<V, std::int32_t>(false, bits, a)) return "bits";
    for (float& x : a) x = x > -0x1p31F && x < 0x1p31F ? x : 0.0F;  // what round_to_int asks for
    if (!same<V, std::int32_t>(false, round_to_int, a)) return "round_to_int";
  }
  for (std::size_t i = 0; i < ints.size(); ++i) {
    for (std::size_t j = 0; j < ints.size(); ++j) {
      for (std::size_t k = 0; k < width; ++k) {
        m[k] = ints[(i + k) % ints.size()];
        n[k] = ints[(j + 5 * k) % ints.size()];
        mask[k] = (i + j + k) % 3 == 0 ? 0 : -1;
      }
      if (!same<V, std::int32_t>(false, min, m, n)) return "min of ints";
      if (!same<V, std::int32_t>(false, max, m, n)) return "max of ints";
      if (!same<V, std::int32_t>(false, greater, m, n)) return "greater of ints";
      if (!same<V, std::int32_t>(false, equal, m, n)) return "equal of ints";
      if (!same<V, std::int32_t>(false, select, mask, m, n)) return "select of ints";
    }
    for (std::size_t k = 0; k < width; ++k)
      n[k] = static_cast<std::int32_t>(static_cast<std::size_t>(m[k]) + i + k);
    if (!same<V, std::int32_t>(false, look_up, m) || !same<V, std::int32_t>(false, look_up, n))
      return "look_up";
    if (!same<V, float>(false, real, m)) return "real";
    if (!same<V, float>(false, from_bits, m)) return "from_bits";
  }
  // (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24, and 0 where the product is rounded first
  volatile float near_one = 0x1.001p0F;  // volatile: computed by the machine, not by the compiler
  volatile float minus_square = -0x1.002p0F;
  a.fill(float{near_one});
  c.fill(float{minus_square});
  std::array<float, width> sum{};
  lane::store(sum.data(),
              product_and_sum(lane::load<V>(a.data()), lane::load<V>(a.data()), lane::load<V>(c.data())));
  for (float s : sum) {
    if (s != 0) return "mul fused";
  }
  return product_and_sum(a[0], a[0], c[0]) == 0 ? nullptr : "mul fused";
}

}  // namespace repquant::testing
