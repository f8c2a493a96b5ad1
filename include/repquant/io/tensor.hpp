// SPDX-License-Identifier: MIT
/// What a file of weights holds: named arrays of numbers, as bytes.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/core/shape.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace repquant {

/// The number formats of safetensors, ordered by alignment.
enum class dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

/// How a number format is spelled, and the bits of one number.
struct dtype_facts {
  const char* name;
  int bits;
};

/// The facts of every dtype, in its order.
inline constexpr dtype_facts dtype_table[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

/// The spelling of a number format: "F32".
constexpr const char* name_of(dtype t) noexcept { return dtype_table[static_cast<std::size_t>(t)].name; }
/// Bits of one number.
constexpr int bits_of(dtype t) noexcept { return dtype_table[static_cast<std::size_t>(t)].bits; }

/// An array of numbers in somebody else's memory: row-major, little-endian, not necessarily aligned.
struct tensor {
  std::string name;
  dtype type = dtype::f32;
  std::vector<index> shape;
  std::span<const std::byte> bytes;

  [[nodiscard]] index rank() const noexcept { return static_cast<index>(shape.size()); }
  /// How many numbers; 1 for a scalar (no dimensions).
  [[nodiscard]] index size() const noexcept {
    index n = 1;
    for (const index d : shape) {
      if (d == 0) return 0;  // first, since the others then need not fit
    }
    for (const index d : shape) n *= d;
    return n;
  }
};

/// Bytes that a tensor of this format and shape has, or -1 where the numbers do not fill whole bytes or
/// the count does not fit an int64.
constexpr std::int64_t byte_size(dtype type, std::span<const index> shape) noexcept {
  std::int64_t n = 1;
  bool none = false;
  for (const index d : shape) {
    if (d < 0) return -1;
    if (d == 0) none = true;
  }
  if (none) return 0;
  for (const index d : shape) {
    if (__builtin_mul_overflow(n, static_cast<std::int64_t>(d), &n)) return -1;
  }
  if (__builtin_mul_overflow(n, static_cast<std::int64_t>(bits_of(type)), &n)) return -1;
  return n % 8 == 0 ? n / 8 : -1;
}

namespace detail {
static_assert(std::endian::native == std::endian::little, "repquant: file readers assume little-endian");

template<class T>
T number_at(std::span<const std::byte> bytes, index i) noexcept {
  T v;
  std::memcpy(&v, bytes.data() + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return v;
}

/// The value of an IEEE half, exactly.
inline float half_to_float(std::uint16_t h) noexcept {
  const std::uint32_t sign = (h & 0x8000U) << 16U;
  const std::uint32_t exponent = (h >> 10U) & 31U;
  const std::uint32_t mantissa = h & 1023U;
  if (exponent == 0) {  // zero and subnormals: a count of 2^-24
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(mantissa) * 0x1p-24F) | sign);
  }
  const std::uint32_t widened = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | widened << 23U | mantissa << 13U);
}
}  // namespace detail

/// Writes the numbers of a float tensor to `out`: F32, F16 and BF16 exactly, F64 rounded to float.
///
/// Requires  out.size() == t.size()
/// Errors    bad_format: another number format
inline failure copy_floats(const tensor& t, std::span<float> out) {
  const index n = t.size();
  auto each = [&](auto value) {
    for (index i = 0; i < n; ++i) out[static_cast<std::size_t>(i)] = value(i);
    return failure{};
  };
  switch (t.type) {
    case dtype::f32:
      if (n > 0) std::memcpy(out.data(), t.bytes.data(), t.bytes.size());
      return {};
    case dtype::f16:
      return each(
          [&](index i) { return detail::half_to_float(detail::number_at<std::uint16_t>(t.bytes, i)); });
    case dtype::bf16:
      return each([&](index i) {
        const std::uint32_t high = detail::number_at<std::uint16_t>(t.bytes, i);
        return std::bit_cast<float>(high << 16U);
      });
    case dtype::f64:
      return each([&](index i) { return static_cast<float>(detail::number_at<double>(t.bytes, i)); });
    default:
      return {errc::bad_format, std::string("dtype ") + name_of(t.type) + " where floats belong"};
  }
}

/// Writes the numbers of an integer tensor to `out`, whatever their width.
///
/// Requires  out.size() == t.size()
/// Errors    bad_format: not integers; too_large: a number that an int32 cannot hold, got = the number
inline failure copy_ints(const tensor& t, std::span<std::int32_t> out) {
  auto each = [&]<class T>(T /*width*/) -> failure {
    for (index i = 0; i < t.size(); ++i) {
      const T v = detail::number_at<T>(t.bytes, i);
      const auto narrow = static_cast<std::int32_t>(v);  // NOLINT(bugprone-signed-char-misuse): int8 is meant
      const bool same_sign = std::is_signed_v<T> || narrow >= 0;
      if (static_cast<T>(narrow) != v || !same_sign) {
        return {errc::too_large, "number", static_cast<std::int64_t>(v), 0x7FFFFFFF};
      }
      out[static_cast<std::size_t>(i)] = narrow;
    }
    return {};
  };
  switch (t.type) {
    case dtype::boolean:
    case dtype::u8:
      return each(std::uint8_t{});
    case dtype::i8:
      return each(std::int8_t{});
    case dtype::i16:
      return each(std::int16_t{});
    case dtype::u16:
      return each(std::uint16_t{});
    case dtype::i32:
      return each(std::int32_t{});
    case dtype::u32:
      return each(std::uint32_t{});
    case dtype::i64:
      return each(std::int64_t{});
    case dtype::u64:
      return each(std::uint64_t{});
    default:
      return {errc::bad_format, std::string("dtype ") + name_of(t.type) + " where integers belong"};
  }
}

}  // namespace repquant
