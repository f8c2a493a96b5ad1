// SPDX-License-Identifier: MIT
/// encode: floats to codes, over a span with one parameter set, over columns with one each, or over a
/// matrix with any granularity. A codec that is a VectorCodec runs in registers, any other one value at
/// a time; the codes are the same, on every architecture.
#pragma once

#include <repquant/codec/concept.hpp>
#include <repquant/core/config.hpp>
#include <repquant/granularity/concept.hpp>
#include <repquant/granularity/granularities.hpp>
#include <repquant/kernel/narrow.hpp>
#include <repquant/kernel/quotient_bounds.hpp>

#include <algorithm>
#include <array>
#include <span>

namespace repquant {

namespace detail {

/// True where codes of C are bytes made in registers of Arch.
template<class Arch, class C>
inline constexpr bool runs_in_lanes = !std::same_as<Arch, scalar_arch> && VectorCodec<C, lane_of<Arch>> &&
                                      std::same_as<code_type_t<C>, std::uint8_t>;

/// The parameters of codec C for a register.
template<class V, class C>
struct plain_set {
  typename C::template lane_params<V> params;
};
/// The same, with what leaves out the division of the uniform codec.
template<class V, class C>
using register_set = std::conditional_t<std::same_as<C, uniform> && HasWords<typename lane_traits<V>::arch>,
                                        bounded_affine_of<V>, plain_set<V, C>>;

/// The codes of 4 lane_width values, whose register k has the parameters sets[k * step].
template<class V, class C, class Set>
inline void encode_four(const C& codec, const float* x, const Set* sets, index step,
                        std::uint8_t* codes) noexcept {
  if constexpr (std::same_as<Set, bounded_affine_of<V>>) {
    if (encode_by_bounds<V>(x, sets, step, static_cast<std::uint8_t>(codec.levels() - 1), codes)) return;
  }
  const auto at = [&](index k) {
    return codec.encode(lane::load<V>(x + k * lane_width<V>), sets[k * step].params);
  };
  narrow(at(0), at(1), at(2), at(3), codes);
}

/// How many columns have their parameters in lanes at a time (16 KB on the stack for those of the uniform
/// codec: they stay in the first cache), and how many rows one tile does before the next where there are
/// several: few enough that memory is read once. (Down all rows, four registers wide, is 3 times slower from
/// memory.)
inline constexpr index column_tile = 1024;
inline constexpr index rows_in_block = 32;

/// codes[i] = encode(x[i]) for n values that share p. Codec and parameters come by value: codes are bytes,
/// which may alias anything that has an address, and would be reloaded after every store.
template<class Arch, Codec C>
inline void encode_run(C codec, typename C::params p, const float* x, std::size_t n,
                       code_type_t<C>* codes) noexcept {
  std::size_t i = 0;
  if constexpr (runs_in_lanes<Arch, C>) {
    using V = lane_of<Arch>;
    constexpr std::size_t width = lane_width<V>;
    const register_set<V, C> set{C::template spread<V>(p)};
    for (; i + 4 * width <= n; i += 4 * width) encode_four<V>(codec, x + i, &set, 0, codes + i);
    for (; i + width <= n; i += width) narrow(codec.encode(lane::load<V>(x + i), set.params), codes + i);
  }
  for (; i < n; ++i) codes[i] = static_cast<code_type_t<C>>(codec.encode(x[i], p));
}

}  // namespace detail

/// The codes of values that share one parameter set.
///
///   codes[i] = codec.encode(x[i], p)
///
/// Shapes    x and codes of one size; no alignment is asked for
/// Requires  x and codes do not overlap; p as the codec's fit gives it
/// Cost      one pass. Of the uniform codec, products decide nearly all codes (kernel/quotient_bounds.hpp)
/// Precision the same codes for every Arch
/// Example   encode(uniform{.bits = 4}, p, x, codes);
template<class Arch = default_arch, Codec C>
inline void encode(const C& codec, const typename C::params& p, std::span<const float> x,
                   std::span<code_type_t<C>> codes) noexcept {
  REPQUANT_ASSERT(x.size() == codes.size());
  detail::encode_run<Arch>(codec, p, x.data(), x.size(), codes.data());
}

/// The codes of a row-major matrix whose columns have a parameter set each.
///
///   codes[i * code_stride + j] = codec.encode(x[i * row_stride + j], per_column[j])
///
/// The parameters of a tile of columns are put into lanes once for all rows: no call per value.
///
/// Shapes    x [rows x cols], row_stride floats from row to row; codes likewise; per_column [cols]
/// Requires  strides >= cols; x and codes do not overlap
/// Precision the same codes for every Arch
template<class Arch = default_arch, Codec C>
inline void encode_columns(const C& codec_in, std::span<const typename C::params> per_column, const float* x,
                           index rows, index cols, index row_stride, code_type_t<C>* codes,
                           index code_stride) noexcept {
  REPQUANT_ASSERT(static_cast<index>(per_column.size()) == cols);
  const C codec = codec_in;  // a copy, see encode_run
  const auto* params = per_column.data();
  index j = 0;
  if constexpr (detail::runs_in_lanes<Arch, C>) {
    using V = lane_of<Arch>;
    constexpr index width = lane_width<V>;
    std::array<detail::register_set<V, C>, detail::column_tile / width> sets;
    const index block = cols <= detail::column_tile ? rows : detail::rows_in_block;
    const index whole = cols - cols % width;
    for (index top = 0; top < rows; top += block) {
      const index bottom = std::min(top + block, rows);
      for (j = 0; j < whole; j += detail::column_tile) {
        const index registers = std::min(whole - j, detail::column_tile) / width;
        for (index r = 0; r < registers; ++r) {
          sets[static_cast<std::size_t>(r)] =
              detail::register_set<V, C>{C::template gather<V>(params + j + r * width)};
        }
        for (index i = top; i < bottom; ++i) {
          const float* in = x + i * row_stride + j;
          std::uint8_t* out = codes + i * code_stride + j;
          const auto* set = sets.data();
          index r = 0;
          for (; r + 4 <= registers; r += 4)
            detail::encode_four<V>(codec, in + r * width, set + r, 1, out + r * width);
          for (; r < registers; ++r) {
            narrow(codec.encode(lane::load<V>(in + r * width), set[r].params), out + r * width);
          }
        }
      }
    }
    j = whole;
  }
  for (index i = 0; i < rows; ++i) {
    for (index k = j; k < cols; ++k) {
      codes[i * code_stride + k] =
          static_cast<code_type_t<C>>(codec.encode(x[i * row_stride + k], params[k]));
    }
  }
}

/// The codes of a row-major matrix under any granularity.
///
///   codes[i * code_stride + j] = codec.encode(x[i * stride + j], params[granularity.group(size, i, j)])
///
/// Runs that share a parameter set are encoded together: whole rows (the whole matrix, where it is
/// contiguous), groups, or columns.
///
/// Shapes    x and codes [size.rows x size.cols] with their own distance between rows; params [groups(size)]
/// Requires  the granularity fits the size; strides >= cols; x and codes do not overlap
/// Precision the same codes for every Arch
/// Example   encode(codec, per_group{.size = 32}, {rows, cols}, params, x, cols, codes, cols);
template<class Arch = default_arch, Codec C, Granularity G>
inline void encode(const C& codec, const G& granularity, shape size,
                   std::span<const typename C::params> params, const float* x, index stride,
                   code_type_t<C>* codes, index code_stride) noexcept {
  if (size.rows <= 0 || size.cols <= 0) return;
  REPQUANT_ASSERT(granularity.groups(size) == static_cast<index>(params.size()));
  if constexpr (std::same_as<G, per_col>) {
    encode_columns<Arch>(codec, params, x, size.rows, size.cols, stride, codes, code_stride);
  } else {
    if (std::same_as<G, per_tensor> && stride == size.cols && code_stride == size.cols) {
      detail::encode_run<Arch>(codec, params[0], x, static_cast<std::size_t>(size.rows * size.cols), codes);
      return;
    }
    const index run = granularity.run(size);
    REPQUANT_ASSERT(run > 0 && size.cols % run == 0);
    for (index i = 0; i < size.rows; ++i) {
      for (index j = 0; j < size.cols; j += run) {
        const auto& p = params[static_cast<std::size_t>(granularity.group(size, i, j))];
        detail::encode_run<Arch>(codec, p, x + i * stride + j, static_cast<std::size_t>(run),
                                 codes + i * code_stride + j);
      }
    }
  }
}

}  // namespace repquant
