// SPDX-License-Identifier: MIT
/// A linear layer on codes: y = requantize(sum (x - z_x)(w - z_w)), the sums exact.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/infer/requantize.hpp>
#include <repquant/infer/workspace.hpp>
#include <repquant/kernel/product.hpp>

#include <limits>

namespace repquant {

/// The numbers of a linear layer, all of them where the caller keeps them.
///
///   y[t][o] = float(sum_k (x[t][k] - x_zero)(w[o][k] - w_zero[o])) multiplier[o] + offset[o]
///
/// Shapes  w [out x in] contiguous, w_zero, multiplier [out]; offset [out] or empty; packed [packed_size()]
/// Units   multiplier = s_x s_w[o], offset the bias in the unit of y
struct linear_codes {
  index in = 0;
  index out = 0;
  std::span<const std::uint8_t> w;
  std::span<const std::int32_t> w_zero;
  std::span<const float> multiplier;
  std::span<const float> offset;
  std::int32_t x_zero = 0;
  int x_bits = 8;
  int w_bits = 8;
  std::span<const std::int16_t> packed;  ///< what pack_linear wrote

  /// Values from one packed row to the next: `in`, padded with zeros to a whole number of registers.
  [[nodiscard]] constexpr index stride() const noexcept { return padded_row(in); }
  /// How many int16 values pack_linear writes.
  [[nodiscard]] constexpr index packed_size() const noexcept { return out * stride(); }
};

/// Nothing, or what is wrong: an empty layer, sizes that disagree, bits out of range, sums that int64 could
/// not be proved to hold (too_large).
[[nodiscard]] inline failure check(const linear_codes& l, std::string_view place) noexcept {
  const auto size = [](const auto& s) { return static_cast<index>(s.size()); };
  if (l.in < 1 || l.out < 1) return {errc::empty, place, std::min(l.in, l.out), 1};
  if (size(l.w) != l.in * l.out) return {errc::shape_mismatch, place, size(l.w), l.in * l.out};
  if (size(l.w_zero) != l.out) return {errc::shape_mismatch, place, size(l.w_zero), l.out};
  if (size(l.multiplier) != l.out) return {errc::shape_mismatch, place, size(l.multiplier), l.out};
  if (!l.offset.empty() && size(l.offset) != l.out) {
    return {errc::shape_mismatch, place, size(l.offset), l.out};
  }
  if (l.x_bits < 2 || l.x_bits > 8) return {errc::bad_bits, place, l.x_bits, 8};
  if (l.w_bits < 2 || l.w_bits > 8) return {errc::bad_bits, place, l.w_bits, 8};
  const std::int64_t x = center_largest(l.x_zero, 1 << l.x_bits);
  for (std::int32_t z : l.w_zero) {
    const std::int64_t most =
        std::numeric_limits<std::int64_t>::max() / (x * center_largest(z, 1 << l.w_bits));
    if (l.in > most) return {errc::too_large, place, l.in, most};
  }
  return {};
}

/// Centres the weights: out[o * stride() + k] = w[o][k] - w_zero[o], zeros behind each row. Rows whose zero
/// point an int16 cannot hold are zeros; linear_rows computes them from the codes.
///
/// Shapes    packed [packed_size()]
/// Requires  check(l) says nothing
template<class Arch = default_arch>
inline void pack_linear(const linear_codes& l, std::span<std::int16_t> packed) noexcept {
  REPQUANT_ASSERT(static_cast<index>(packed.size()) >= l.packed_size());
  const auto in = static_cast<std::size_t>(l.in);
  for (index o = 0; o < l.out; ++o) {
    const auto row =
        packed.subspan(static_cast<std::size_t>(o * l.stride()), static_cast<std::size_t>(l.stride()));
    std::fill(row.begin(), row.end(), std::int16_t{0});
    const std::int32_t zero = l.w_zero[static_cast<std::size_t>(o)];
    if (center_fits(zero)) center<Arch>(l.w.subspan(static_cast<std::size_t>(o) * in, in), zero, row);
  }
}

namespace detail {

/// Tokens and outputs that run together: their operands stay in the second-level cache.
inline constexpr index linear_tokens = 64;
inline constexpr index linear_outputs = 64;

/// The largest centred weight of outputs [first, last) that are packed.
inline std::int64_t largest_weight(const linear_codes& l, index first, index last) noexcept {
  std::int64_t most = 0;
  for (index o = first; o < last; ++o) {
    const std::int32_t zero = l.w_zero[static_cast<std::size_t>(o)];
    if (center_fits(zero)) most = std::max(most, center_largest(zero, 1 << l.w_bits));
  }
  return most;
}

/// One output of one token from the codes: the definition.
inline std::int64_t plain_sum(const linear_codes& l, const std::uint8_t* x, index o) noexcept {
  const std::uint8_t* w = l.w.data() + o * l.in;
  const std::int64_t zero = l.w_zero[static_cast<std::size_t>(o)];
  std::int64_t sum = 0;
  for (index k = 0; k < l.in; ++k) sum += (std::int64_t{x[k]} - l.x_zero) * (std::int64_t{w[k]} - zero);
  return sum;
}

}  // namespace detail

/// Bytes of workspace that linear_rows needs, for any number of tokens.
[[nodiscard]] constexpr std::size_t linear_workspace_size(const linear_codes& l) noexcept {
  return workspace_alignment + workspace_bytes_of<std::int16_t>(detail::linear_tokens * l.stride()) +
         workspace_bytes_of<std::int64_t>(detail::linear_tokens * detail::linear_outputs);
}

/// Runs the layer on rows of codes.
///
/// Shapes    x [tokens x in], y [tokens x out], each with its distance between rows
/// Requires  check(l) says nothing and l.packed is what pack_linear(l) wrote; workspace of
///           linear_workspace_size(l) bytes, any alignment; y overlaps nothing
/// Cost      tokens in out multiply-adds in int32; in int64 chunks where the ranges ask for it, and one plain
///           loop for zero points outside -32512 .. 32767
/// Precision integer sums exact, then requantize_row: the same bits on every Arch
template<class Arch = default_arch>
inline void linear_rows(const linear_codes& l, const std::uint8_t* x, index tokens, index x_stride,
                        std::span<std::byte> workspace, float* y, index y_stride) noexcept {
  REPQUANT_ASSERT(workspace.size() >= linear_workspace_size(l));
  workspace_parts parts(workspace);
  const auto centered = parts.take<std::int16_t>(detail::linear_tokens * l.stride());
  const auto sums = parts.take<std::int64_t>(detail::linear_tokens * detail::linear_outputs);
  const bool x_fits = center_fits(l.x_zero);
  const std::int64_t max_x = center_largest(l.x_zero, 1 << l.x_bits);
  const auto in = static_cast<std::size_t>(l.in);

  for (index t0 = 0; t0 < tokens; t0 += detail::linear_tokens) {
    const index t1 = std::min(tokens, t0 + detail::linear_tokens);
    for (index t = t0; x_fits && t < t1; ++t) {
      std::int16_t* row = centered.data() + (t - t0) * l.stride();
      center<Arch>({x + t * x_stride, in}, l.x_zero, {row, in});
      std::fill(row + l.in, row + l.stride(), std::int16_t{0});
    }
    for (index o0 = 0; o0 < l.out; o0 += detail::linear_outputs) {
      const index n = std::min(detail::linear_outputs, l.out - o0);
      const auto first = static_cast<std::size_t>(o0);
      const auto count = static_cast<std::size_t>(n);
      const auto finish = [&]<class Sum>(const Sum* acc, index acc_stride) {
        for (index t = t0; t < t1; ++t) {
          requantize_row<Arch>(std::span<const Sum>(acc + (t - t0) * acc_stride, count),
                               l.multiplier.subspan(first, count),
                               l.offset.empty() ? l.offset : l.offset.subspan(first, count),
                               std::span<float>(y + t * y_stride + o0, count));
        }
      };
      const std::int64_t max_w = detail::largest_weight(l, o0, o0 + n);
      const std::int16_t* w = l.packed.data() + o0 * l.stride();
      if (x_fits && product_fits(l.in, max_x, max_w)) {
        auto* acc = reinterpret_cast<std::int32_t*>(sums.data());
        product<Arch>(centered.data(), t1 - t0, l.stride(), w, n, l.stride(), l.stride(), acc,
                      detail::linear_outputs);
        finish(static_cast<const std::int32_t*>(acc), detail::linear_outputs);
      } else if (x_fits) {
        product_wide<Arch>(centered.data(), t1 - t0, l.stride(), w, n, l.stride(), l.stride(), max_x, max_w,
                           sums.data(), detail::linear_outputs);
        finish(static_cast<const std::int64_t*>(sums.data()), detail::linear_outputs);
      }
      for (index o = o0; o < o0 + n; ++o) {
        const auto at = static_cast<std::size_t>(o);
        if (x_fits && center_fits(l.w_zero[at])) continue;
        for (index t = t0; t < t1; ++t) {
          const std::int64_t sum = detail::plain_sum(l, x + t * x_stride, o);
          requantize_row<scalar_arch>(std::span<const std::int64_t>(&sum, 1), l.multiplier.subspan(at, 1),
                                      l.offset.empty() ? l.offset : l.offset.subspan(at, 1),
                                      std::span<float>(y + t * y_stride + o, 1));
        }
      }
    }
  }
}

}  // namespace repquant
