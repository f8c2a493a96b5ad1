// SPDX-License-Identifier: MIT
/// decode: codes to floats, over a span with one parameter set, over columns with one each, or over a
/// matrix with any granularity. The mirror of kernel/encode.hpp.
#pragma once

#include <repquant/kernel/encode.hpp>

namespace repquant {

namespace detail {

/// x[i] = decode(codes[i]) for n codes that share p.
template<class Arch, Codec C>
inline void decode_run(C codec, typename C::params p, const code_type_t<C>* codes, std::size_t n,
                       float* x) noexcept {
  std::size_t i = 0;
  if constexpr (runs_in_lanes<Arch, C>) {
    using V = lane_of<Arch>;
    constexpr std::size_t width = lane_width<V>;
    const auto lanes = C::template spread<V>(p);
    for (const std::size_t whole = n - n % width; i < whole; i += width) {
      lane::store(x + i, codec.decode(widen<ints_of<V>>(codes + i), lanes));
    }
  }
  for (; i < n; ++i) x[i] = codec.decode(static_cast<std::int32_t>(codes[i]), p);
}

}  // namespace detail

/// The values of codes that share one parameter set.
///
///   x[i] = codec.decode(codes[i], p)
///
/// Shapes    codes and x of one size; no alignment is asked for
/// Requires  codes that encode makes; x and codes do not overlap
/// Precision the same bits for every Arch
template<class Arch = default_arch, Codec C>
inline void decode(const C& codec, const typename C::params& p, std::span<const code_type_t<C>> codes,
                   std::span<float> x) noexcept {
  REPQUANT_ASSERT(x.size() == codes.size());
  detail::decode_run<Arch>(codec, p, codes.data(), x.size(), x.data());
}

/// The values of a row-major matrix of codes whose columns have a parameter set each.
///
///   x[i * row_stride + j] = codec.decode(codes[i * code_stride + j], per_column[j])
///
/// Shapes    codes and x [rows x cols] with their own distance between rows; per_column [cols]
/// Requires  strides >= cols; x and codes do not overlap
/// Precision the same bits for every Arch
template<class Arch = default_arch, Codec C>
inline void decode_columns(const C& codec_in, std::span<const typename C::params> per_column,
                           const code_type_t<C>* codes, index rows, index cols, index code_stride, float* x,
                           index row_stride) noexcept {
  REPQUANT_ASSERT(static_cast<index>(per_column.size()) == cols);
  const C codec = codec_in;
  const auto* params = per_column.data();
  index j = 0;
  if constexpr (detail::runs_in_lanes<Arch, C>) {
    using V = lane_of<Arch>;
    constexpr index width = lane_width<V>;
    std::array<typename C::template lane_params<V>, detail::column_tile / width> sets;
    const index block = cols <= detail::column_tile ? rows : detail::rows_in_block;
    const index whole = cols - cols % width;
    for (index top = 0; top < rows; top += block) {
      const index bottom = std::min(top + block, rows);
      for (j = 0; j < whole; j += detail::column_tile) {
        const index registers = std::min(whole - j, detail::column_tile) / width;
        for (index r = 0; r < registers; ++r) {
          sets[static_cast<std::size_t>(r)] = C::template gather<V>(params + j + r * width);
        }
        for (index i = top; i < bottom; ++i) {
          const std::uint8_t* in = codes + i * code_stride + j;
          float* out = x + i * row_stride + j;
          const auto* set = sets.data();
          for (index r = 0; r < registers; ++r) {
            lane::store(out + r * width, codec.decode(widen<ints_of<V>>(in + r * width), set[r]));
          }
        }
      }
    }
    j = whole;
  }
  for (index i = 0; i < rows; ++i) {
    for (index k = j; k < cols; ++k) {
      x[i * row_stride + k] = codec.decode(static_cast<std::int32_t>(codes[i * code_stride + k]), params[k]);
    }
  }
}

/// The values of a row-major matrix of codes under any granularity.
///
///   x[i * stride + j] = codec.decode(codes[i * code_stride + j], params[granularity.group(size, i, j)])
///
/// Shapes    codes and x [size.rows x size.cols] with their own distance between rows; params [groups(size)]
/// Requires  the granularity fits the size; strides >= cols; x and codes do not overlap
/// Precision the same bits for every Arch
template<class Arch = default_arch, Codec C, Granularity G>
inline void decode(const C& codec, const G& granularity, shape size,
                   std::span<const typename C::params> params, const code_type_t<C>* codes, index code_stride,
                   float* x, index stride) noexcept {
  if (size.rows <= 0 || size.cols <= 0) return;
  REPQUANT_ASSERT(granularity.groups(size) == static_cast<index>(params.size()));
  if constexpr (std::same_as<G, per_col>) {
    decode_columns<Arch>(codec, params, codes, size.rows, size.cols, code_stride, x, stride);
  } else {
    if (std::same_as<G, per_tensor> && stride == size.cols && code_stride == size.cols) {
      detail::decode_run<Arch>(codec, params[0], codes, static_cast<std::size_t>(size.rows * size.cols), x);
      return;
    }
    const index run = granularity.run(size);
    REPQUANT_ASSERT(run > 0 && size.cols % run == 0);
    for (index i = 0; i < size.rows; ++i) {
      for (index j = 0; j < size.cols; j += run) {
        const auto& p = params[static_cast<std::size_t>(granularity.group(size, i, j))];
        detail::decode_run<Arch>(codec, p, codes + i * code_stride + j, static_cast<std::size_t>(run),
                                 x + i * stride + j);
      }
    }
  }
}

}  // namespace repquant
