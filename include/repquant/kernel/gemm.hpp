// SPDX-License-Identifier: MIT
/// Exact integer products of u8 codes, or int16 values, with packed weights:
///
///   sum_k (x[i][k] - x_zero)(w[j][k] - w_zero[j]) = sum_k x[i][k] p[j][k] + slope[j] sum_k x[i][k] +
///   offset[j]
///
/// p is what pack_panels stored. Nothing saturates: the layout says how many products an int16 holds, int32
/// sums wrap and are exact where the final value fits, and where it might not the wide form adds in int64.
/// The same integers on every instruction set, however rows and panels are split among threads.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_avx2.hpp>
#include <repquant/kernel/gemm_avx512.hpp>
#include <repquant/kernel/gemm_avx512_vnni.hpp>
#include <repquant/kernel/gemm_avx_vnni.hpp>
#include <repquant/kernel/gemm_neon.hpp>
#include <repquant/kernel/gemm_neon_dotprod.hpp>
#include <repquant/kernel/gemm_neon_i8mm.hpp>
#include <repquant/kernel/gemm_scalar.hpp>
#include <repquant/kernel/gemm_sse2.hpp>
#include <repquant/kernel/gemm_sse4.hpp>
#include <repquant/kernel/panel_layout.hpp>

#include <span>

namespace repquant {

namespace detail {

template<instruction_set Set>
struct kernels_of;
template<>
struct kernels_of<instruction_set::scalar> {
  using type = gemm_scalar::kernels;
};
#if REPQUANT_X86_64
template<>
struct kernels_of<instruction_set::sse2> {
  using type = gemm_sse2::kernels;
};
template<>
struct kernels_of<instruction_set::sse4> {
  using type = gemm_sse4::kernels;
};
template<>
struct kernels_of<instruction_set::avx2> {
  using type = gemm_avx2::kernels;
};
template<>
struct kernels_of<instruction_set::avx_vnni> {
  using type = gemm_avx_vnni::kernels;
};
template<>
struct kernels_of<instruction_set::avx512> {
  using type = gemm_avx512::kernels;
};
template<>
struct kernels_of<instruction_set::avx512_vnni> {
  using type = gemm_avx512_vnni::kernels;
};
#endif
#if REPQUANT_AARCH64
template<>
struct kernels_of<instruction_set::neon> {
  using type = gemm_neon::kernels;
};
#endif
#if REPQUANT_NEON_DOTPROD
template<>
struct kernels_of<instruction_set::neon_dotprod> {
  using type = gemm_neon_dotprod::kernels;
};
#endif
#if REPQUANT_NEON_I8MM
template<>
struct kernels_of<instruction_set::neon_i8mm> {
  using type = gemm_neon_i8mm::kernels;
};
#endif

/// Rows that run together: their activations stay in the second-level cache while panels pass by.
inline constexpr index gemm_rows = 64;
/// The most int32 sums of a tile.
inline constexpr index gemm_tile_sums = 256;
/// Places that int32 sums of bytes hold whatever they are: 255 * 255 * 2^15 < 2^31.
inline constexpr index gemm_places = 32768;

}  // namespace detail

/// Packed weights and what makes them those of zero points.
struct gemm_weights {
  panel_layout layout;
  const std::byte* panels = nullptr;          ///< [layout.bytes()], what pack_panels wrote
  const std::int32_t* slope = nullptr;        ///< [layout.padded_n()], or null: all zero
  const std::int32_t* offset = nullptr;       ///< [layout.padded_n()], or null: all zero
  const std::int64_t* wide_slope = nullptr;   ///< [layout.padded_n()], or null: the sums are int32
  const std::int64_t* wide_offset = nullptr;  ///< with wide_slope
  index places = 0;                           ///< sum over the first places only; 0: over all layout.k

  [[nodiscard]] constexpr index summed_places() const noexcept { return places > 0 ? places : layout.k; }
};

/// An epilogue that is none: the kernels store int32 sums where they belong, to[row][column].
///
/// Requires  rows of `to` hold whole panels, layout.padded_n() sums: those behind n are written too
struct whole_panels {
  std::int32_t* to = nullptr;
  index stride = 0;
};

/// Bytes of scratch that gemm needs, for any number of rows and any range of panels.
constexpr std::size_t gemm_scratch_bytes(const panel_layout& l) noexcept {
  const index words = l.storage == panel_storage::pairs ? l.padded_k() : 0;
  return static_cast<std::size_t>(detail::gemm_rows * 2 * words);
}

namespace detail {

/// sum_k x[k], modulo 2^64.
inline std::int64_t row_sum(const std::uint8_t* x, index k) noexcept {
  std::int64_t sum = 0;
  for (index first = 0; first < k; first += 1 << 20) {
    std::uint32_t part = 0;
    for (index i = first; i < std::min<index>(k, first + (1 << 20)); ++i) part += x[i];
    sum += part;
  }
  return sum;
}

/// One tile in int64: chunks of places that int32 sums hold, then the corrections.
inline void wide_tile(const gemm_weights& w, tile_operands t, tile_function tile, index row_count,
                      index panels, const std::int64_t* row_sums, index column, std::int64_t* sums) noexcept {
  const index columns = panels * w.layout.width();
  const index k = t.k;
  const index place_bytes = w.layout.panel_bytes() / w.layout.padded_k();
  const bool half = w.layout.storage == panel_storage::nibbles;
  for (index i = 0; i < row_count * columns; ++i) {
    sums[i] =
        row_sums[i / columns] * w.wide_slope[column + i % columns] + w.wide_offset[column + i % columns];
  }
  for (index first = 0; first < k; first += gemm_places) {
    t.k = std::min(gemm_places, k - first);
    tile(t);
    for (index i = 0; i < row_count * columns; ++i) sums[i] += t.sums[i];
    if (t.codes != nullptr) t.codes += gemm_places;
    if (t.words != nullptr) t.words += gemm_places;
    t.panel += half ? gemm_places * w.layout.width() / 2 : gemm_places * place_bytes;
  }
}

/// All tiles of a block of rows. `from` has the rows; row_sums those that corrections ask for.
template<instruction_set Set, class Epilogue>
inline void gemm_block(const gemm_weights& w, tile_operands from, index first_row, index rows,
                       index first_panel, index last_panel, const std::int32_t* row_sums,
                       const std::int64_t* wide_row_sums, Epilogue& epilogue) noexcept {
  REPQUANT_ASSERT((!std::is_same_v<Epilogue, const whole_panels>) || w.wide_slope == nullptr);
  using K = typename kernels_of<Set>::type;
  static_assert(K::width == panel_width(Set) && K::rows * K::width <= gemm_tile_sums &&
                4 * K::width <= gemm_tile_sums);
  alignas(64) std::int32_t sums[static_cast<std::size_t>(gemm_tile_sums)];
  const panel_layout& l = w.layout;
  const auto run = [&](tile_function tile, index row, index row_count, index panel, index panels) {
    const index column = panel * l.width();
    const index columns = panels * l.width();
    const index count = std::min(columns, l.n - column);
    tile_operands t = from;
    if (t.codes != nullptr) t.codes += row * t.stride;
    if (t.words != nullptr) t.words += row * t.stride;
    t.panel = w.panels + panel * l.panel_bytes();
    t.panel_bytes = l.panel_bytes();
    t.sums = sums;
    t.sum_stride = columns;
    if constexpr (std::is_same_v<Epilogue, const whole_panels>) {
      t.sums = epilogue.to + (first_row + row) * epilogue.stride + column;
      t.sum_stride = epilogue.stride;
    }
    const auto finish = [&](const auto* all) {
      if constexpr (!std::is_same_v<Epilogue, const whole_panels>) {
        for (index r = 0; r < row_count; ++r) epilogue(first_row + row + r, column, all + r * columns, count);
      }
    };
    if (w.wide_slope == nullptr) {
      if (w.offset != nullptr) t.offset = w.offset + column;
      if (w.slope != nullptr) {
        t.slope = w.slope + column;
        t.row_sums = row_sums + row;
      }
      tile(t);
      finish(static_cast<const std::int32_t*>(sums));
    } else {
      std::int64_t wide[static_cast<std::size_t>(gemm_tile_sums)];
      wide_tile(w, t, tile, row_count, panels, wide_row_sums + row, column, wide);
      finish(static_cast<const std::int64_t*>(wide));
    }
  };
  const index full = rows / K::rows * K::rows;
  if (full > 0) {
    // panel by panel, so that a panel stays in the first-level cache while the rows pass by
    const tile_function tile = K::tile(l.storage, l.products, K::rows, 1);
    for (index panel = first_panel; panel < last_panel; ++panel) {
      for (index row = 0; row < full; row += K::rows) run(tile, row, K::rows, panel, 1);
    }
  }
  if (rows == full) return;
  const index side_by_side = K::panels_for(rows - full);
  const tile_function several = K::tile(l.storage, l.products, rows - full, side_by_side);
  const tile_function one = K::tile(l.storage, l.products, rows - full, 1);
  index panel = first_panel;
  for (; last_panel - panel >= side_by_side; panel += side_by_side) {
    run(several, full, rows - full, panel, side_by_side);
  }
  for (; panel < last_panel; ++panel) run(one, full, rows - full, panel, 1);
}

}  // namespace detail

/// Calls epilogue(row, column, sums, count) for pieces of rows that together are the sums of all rows and of
/// the outputs of panels [first_panel, last_panel). `sums` is const std::int32_t*, or const std::int64_t*
/// where the weights are wide; it may be read until the call returns. A const whole_panels is called for nothing.
///
/// Shapes    x [rows x w.summed_places()] with `stride` between rows, no byte outside is read
/// Requires  w.layout.set == Set; codes of x within the bits that the layout was chosen for; scratch of
///           gemm_scratch_bytes(w.layout) bytes, aligned to 2, for this call alone; int32: final sums fit;
///           x_sums null, or the sums of the rows of x where the caller has them
/// Cost      rows k n multiply-adds
template<instruction_set Set, class Epilogue>
inline void gemm(const gemm_weights& w, const std::uint8_t* x, index rows, index stride, index first_panel,
                 index last_panel, std::span<std::byte> scratch, Epilogue&& epilogue,
                 const std::int32_t* x_sums = nullptr) noexcept {
  const panel_layout& l = w.layout;
  REPQUANT_ASSERT(l.set == Set && scratch.size() >= gemm_scratch_bytes(l));
  const bool pairs = l.storage == panel_storage::pairs;
  const bool needs_sums = w.slope != nullptr || w.wide_slope != nullptr;
  std::int32_t row_sums[static_cast<std::size_t>(detail::gemm_rows)];
  std::int64_t wide_row_sums[static_cast<std::size_t>(detail::gemm_rows)];
  for (index row = 0; row < rows; row += detail::gemm_rows) {
    const index count = std::min(detail::gemm_rows, rows - row);
    const std::uint8_t* block = x + row * stride;
    detail::tile_operands t;
    t.k = w.summed_places();
    t.run = std::max<index>(1, l.products / 4);
    t.codes = block;
    t.stride = stride;
    for (index r = 0; needs_sums && r < count; ++r) {
      wide_row_sums[r] = x_sums != nullptr ? x_sums[row + r] : detail::row_sum(block + r * stride, t.k);
      row_sums[r] = static_cast<std::int32_t>(static_cast<std::uint32_t>(wide_row_sums[r]));
    }
    if (pairs) {
      auto* words = reinterpret_cast<std::int16_t*>(scratch.data());
      for (index r = 0; r < count; ++r) {
        std::int16_t* to = words + r * l.padded_k();
        for (index k = 0; k < t.k; ++k) to[k] = block[r * stride + k];
        std::fill(to + t.k, to + l.padded_k(), std::int16_t{0});
      }
      t.codes = nullptr;
      t.words = words;
      t.stride = l.padded_k();
    }
    detail::gemm_block<Set>(w, t, row, count, first_panel, last_panel, row_sums, wide_row_sums, epilogue);
  }
}

}  // namespace repquant
