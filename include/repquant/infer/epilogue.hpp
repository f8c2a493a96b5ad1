// SPDX-License-Identifier: MIT
/// What happens to a finished piece of sums before it leaves the first-level cache: policies for gemm's
/// epilogue.
///
/// An epilogue is called as epilogue(row, column, sums, count) with `count` exact sums, of row `row` and
/// columns `column` on. The policies here are made of the functions of the unfused steps, so they give their
/// bits:
///
///   sum_rows       the sums themselves, int32
///   real_rows      requantize_row: float(sum) m[o] + c[o]
///   requantized    the same into a small buffer, and then what one of these does with it:
///     encode_rows    codes of a uniform codec
///     added_rows     the sum with a residual
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/infer/requantize.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/sum_rows.hpp>

#include <array>

namespace repquant {

/// to[row][column + i] = float(sums[i]) multiplier[column + i] + offset[column + i]; an empty offset is left
/// out.
///
/// Precision that of requantize_row
template<class Arch = default_arch>
struct real_rows {
  std::span<const float> multiplier;
  std::span<const float> offset;
  float* to = nullptr;
  index stride = 0;
  /// Where tiles requantize themselves.
  [[nodiscard]] float* real_place(index row, index column) const noexcept {
    return to + row * stride + column;
  }
  template<ExactSum Sum>
  void operator()(index row, index column, const Sum* sums, index count) const noexcept {
    const auto first = static_cast<std::size_t>(column);
    const auto n = static_cast<std::size_t>(count);
    requantize_row<Arch>(std::span<const Sum>(sums, n), multiplier.subspan(first, n),
                         offset.empty() ? offset : offset.subspan(first, n),
                         std::span<float>(real_place(row, column), n));
  }
};

/// Calls then(row, column, values) with the requantized values, as many as there are sums.
template<class Then, class Arch = default_arch>
struct requantized {
  std::span<const float> multiplier;
  std::span<const float> offset;
  Then then;
  template<ExactSum Sum>
  void operator()(index row, index column, const Sum* sums, index count) const noexcept {
    std::array<float, 256> buffer;  // the most that gemm hands over at once (detail::gemm_tile_sums)
    const std::span<float> values(buffer.data(), static_cast<std::size_t>(count));
    const auto first = static_cast<std::size_t>(column);
    requantize_row<Arch>(std::span<const Sum>(sums, values.size()), multiplier.subspan(first, values.size()),
                         offset.empty() ? offset : offset.subspan(first, values.size()), values);
    then(row, column, std::span<const float>(values));
  }
};

/// to[row][column + i] = codec.encode(values[i], params).
template<class Arch = default_arch>
struct encode_rows {
  uniform codec;
  affine params;
  std::uint8_t* to = nullptr;
  index stride = 0;
  void operator()(index row, index column, std::span<const float> values) const noexcept {
    encode<Arch>(codec, params, values, std::span<std::uint8_t>(to + row * stride + column, values.size()));
  }
};

/// to[row][column + i] = values[i] + residual[row][column + i]; the two may be the same memory.
template<class Arch = default_arch>
struct added_rows {
  const float* residual = nullptr;
  index residual_stride = 0;
  float* to = nullptr;
  index stride = 0;
  void operator()(index row, index column, std::span<const float> values) const noexcept {
    using V = lane_of<Arch>;
    map_row<Arch>(
        std::span<float>(to + row * stride + column, values.size()),
        [](const V& x, const V& r) { return lane::add(x, r); }, values.data(),
        residual + row * residual_stride + column);
  }
};

}  // namespace repquant
