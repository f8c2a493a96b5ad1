// SPDX-License-Identifier: MIT
/// Exact integer products of u8 codes, or int16 values, with packed weights:
///
///   sum_k (x[i][k] - x_zero)(w[j][k] - w_zero[j]) = sum_k x[i][k] p[j][k] + slope[j] sum_k x[i][k] +
///   offset[j]
///
/// p is what pack_panels stored. Nothing saturates: the layout says how many products an int16 holds, int32
/// sums wrap and are exact where the final value fits, and where it might not the wide form adds in int64.
/// The same integers on every instruction set, however rows and panels are split among threads.
///
/// Length: blocks of rows, their tiles, and the two functions that are called.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/gemm_kernels.hpp>
#include <repquant/kernel/panel_layout.hpp>
#include <repquant/kernel/row_bytes.hpp>

#include <algorithm>
#include <concepts>
#include <span>

namespace repquant {

namespace detail {

/// Rows that run together: their activations stay in the second-level cache while panels pass by.
inline constexpr index gemm_rows = 64;
/// The most sums of a tile.
inline constexpr index gemm_tile_sums = 256;
/// Places that int32 sums hold whatever the operands are: 255 * 255 * 2^15 and 2^15 * 255 * 248 are below
/// 2^31.
template<class Value>
inline constexpr index gemm_places = sizeof(Value) == 1 ? 32768 : 248;

}  // namespace detail

/// Packed weights and what makes their sums those of zero points, and with groups, of scales.
struct gemm_weights {
  panel_layout layout;
  const std::byte* panels = nullptr;     ///< [layout.bytes()], what pack_panels wrote
  const std::int32_t* offset = nullptr;  ///< [panels x groups x width], or null: all zero
  const std::int32_t* slope = nullptr;   ///< the same, or null: all common_slope
  std::int32_t common_slope = 0;
  const std::int64_t* wide_offset = nullptr;  ///< [panels x width], instead of offset: sums are int64
  const std::int64_t* wide_slope = nullptr;   ///< with wide_offset
  const float* scale = nullptr;               ///< [panels x groups x width], where layout.group > 0
  index places = 0;                           ///< without groups: only the first places are summed; 0: all

  [[nodiscard]] constexpr index summed_places() const noexcept { return places > 0 ? places : layout.k; }
};

/// Bytes of scratch that gemm needs, for any number of rows and any range of panels; to be aligned to 8.
constexpr std::size_t gemm_scratch_bytes(const panel_layout& l) noexcept {
  const index words = l.storage == panel_storage::pairs || takes_halves(l) ? 2 * l.padded_k() : 0;
  return static_cast<std::size_t>(detail::gemm_rows * (8 + (l.groups() + 1) / 2 * 8 + words));
}

namespace detail {

/// The rows of a block: as the tiles want them, and as they are.
template<class Value>
struct gemm_block {
  tile_operands t;
  index first = 0;  ///< number of the first row
  index rows = 0;
  const std::int64_t* wide_sums = nullptr;  ///< of each row, for wide weights

  /// The operands of all tiles of a panel.
  [[nodiscard]] tile_operands of_panel(const gemm_weights& w, index panel) const noexcept {
    const panel_layout& l = w.layout;
    tile_operands o = t;
    o.offset = w.offset;
    o.slope = w.slope;
    o.scale = w.scale;
    o.panel = w.panels;
    o.panel_bytes = l.panel_bytes();
    to_next(o, panel, l.width());
    return o;
  }
  /// Moves operands of a panel on by some panels, of `width` columns.
  static void to_next(tile_operands& o, index panels, index width) noexcept {
    const index corrections = panels * o.groups * width;
    if (o.offset != nullptr) o.offset += corrections;
    if (o.slope != nullptr) o.slope += corrections;
    if (o.scale != nullptr) o.scale += corrections;
    o.panel += panels * o.panel_bytes;
  }
  /// Moves operands of a panel to a row.
  void to_row(tile_operands& o, index row) const noexcept {
    if (t.codes != nullptr) o.codes = t.codes + row * t.stride;
    if (t.words != nullptr) o.words = t.words + row * t.stride;
    if (t.row_sums != nullptr) o.row_sums = t.row_sums + row * t.groups;
  }
  /// Moves operands of a panel, whose results are stored in place, on by some rows.
  static void move_on(tile_operands& o, index row_count) noexcept {
    if (o.codes != nullptr) o.codes += row_count * o.stride;
    if (o.words != nullptr) o.words += row_count * o.stride;
    if (o.row_sums != nullptr) o.row_sums += row_count * o.groups;
    if (o.sums != nullptr) o.sums += row_count * o.sums_stride;
    if (o.reals != nullptr) o.reals += row_count * o.sums_stride;
  }
};

/// True where an epilogue takes int32 sums as they are: its place(row, column) says where they go, rows
/// `stride` apart, and tiles that are full store there.
template<class Epilogue>
concept StoresSums = requires(const Epilogue& e) {
  { e.place(index{0}, index{0}) } -> std::same_as<std::int32_t*>;
  { e.stride } -> std::convertible_to<index>;
};

/// True where an epilogue takes real(sum) multiplier[column] + offset[column], rounded twice: its
/// real_place(row, column) says where they go, rows `stride` apart, and tiles that are full requantize.
template<class Epilogue>
concept StoresReals = requires(const Epilogue& e) {
  { e.real_place(index{0}, index{0}) } -> std::same_as<float*>;
  { e.stride } -> std::convertible_to<index>;
  { e.multiplier.data() } -> std::same_as<const float*>;
  { e.offset.data() } -> std::same_as<const float*>;
};

/// One tile in int64: the corrections, then the places in parts that int32 sums hold.
template<class Value>
inline void wide_tile(const gemm_weights& w, const gemm_block<Value>& block, tile_function tile,
                      tile_operands t, index row, index row_count, index column, index columns,
                      std::int64_t* sums) noexcept {
  for (index i = 0; i < row_count * columns; ++i) {
    const auto x = static_cast<std::uint64_t>(block.wide_sums[row + i / columns]);
    const auto slope = static_cast<std::uint64_t>(w.wide_slope[column + i % columns]);
    const auto offset = static_cast<std::uint64_t>(w.wide_offset[column + i % columns]);
    sums[i] = static_cast<std::int64_t>(x * slope + offset);
  }
  const index eight_places = w.layout.panel_bytes() / (w.layout.padded_k() / 8);
  for (index left = t.k; left > 0; left -= gemm_places<Value>) {
    t.k = std::min(gemm_places<Value>, left);
    tile(t);
    for (index i = 0; i < row_count * columns; ++i) sums[i] += t.sums[i];
    if (t.codes != nullptr) t.codes += (takes_halves(w.layout) ? 2 : 1) * gemm_places<Value>;
    if (t.words != nullptr) t.words += gemm_places<Value>;
    t.panel += gemm_places<Value> / 8 * eight_places;
  }
}

/// True, and the place is set, where the tiles of these columns of a row, and of those below, store their
/// results themselves.
template<bool Grouped, class Epilogue>
inline bool stores_in_place(const gemm_weights& w, const Epilogue& epilogue,
                            [[maybe_unused]] tile_operands& t, [[maybe_unused]] index row, index column,
                            index columns) noexcept {
  if (Grouped || w.wide_offset != nullptr || w.layout.n - column < columns) return false;
  if constexpr (StoresSums<Epilogue>) {
    t.sums = epilogue.place(row, column);
    t.sums_stride = epilogue.stride;
    return true;
  } else if constexpr (StoresReals<Epilogue>) {
    if (epilogue.offset.empty()) return false;
    t.reals = epilogue.real_place(row, column);
    t.sums_stride = epilogue.stride;
    t.multiplier = epilogue.multiplier.data() + column;
    t.addend = epilogue.offset.data() + column;
    return true;
  } else {
    return false;
  }
}

/// All tiles of a single row: many sums are finished at once, for few calls of the epilogue.
template<instruction_set Set, bool Grouped, class Value, class Epilogue>
inline void run_one_row(const gemm_weights& w, const gemm_block<Value>& block, index first_panel,
                        index last_panel, Epilogue& epilogue) noexcept {
  using K = typename kernels_of<Set>::type;
  using sum = std::conditional_t<Grouped, float, std::int32_t>;
  static_assert(4 * K::width <= gemm_tile_sums);
  alignas(64) sum sums[static_cast<std::size_t>(gemm_tile_sums)];
  const panel_layout& l = w.layout;
  const index side_by_side = K::panels_for(l, 1);
  const tile_function several = K::template tile<Grouped>(l, 1, side_by_side);
  const tile_function one = K::template tile<Grouped>(l, 1, 1);
  tile_operands t = block.of_panel(w, first_panel);
  t.fetches = outgrows_cache(l);
  index column = first_panel * K::width;
  index finished = column;  // the columns behind it are in `sums`
  const index end = last_panel * K::width;
  const auto finish = [&]() {
    if (finished < column) {
      epilogue(block.first, finished, static_cast<const sum*>(sums), std::min(column, l.n) - finished);
    }
    finished = column;
  };
  while (column < end) {
    const index left = (end - column) / K::width;
    const index panels = left >= side_by_side ? side_by_side : 1;
    const index columns = panels * K::width;
    const bool in_place = stores_in_place<Grouped>(w, epilogue, t, block.first, column, columns);
    if (!in_place) {
      if (column + columns - finished > gemm_tile_sums) finish();
      t.multiplier = nullptr;
      if constexpr (Grouped) {
        t.reals = sums + (column - finished);
      } else {
        t.sums = sums + (column - finished);
      }
    }
    (panels == 1 ? one : several)(t);
    block.to_next(t, panels, K::width);
    column += columns;
    if (in_place) finished = column;
  }
  finish();
}

/// All tiles of a block of rows.
template<instruction_set Set, bool Grouped, class Value, class Epilogue>
inline void run_block(const gemm_weights& w, const gemm_block<Value>& block, index first_panel,
                      index last_panel, Epilogue& epilogue) noexcept {
  using K = typename kernels_of<Set>::type;
  static_assert(K::width == panel_width(Set) && K::template rows<Grouped> * K::width <= gemm_tile_sums);
  alignas(64) std::int32_t sums[static_cast<std::size_t>(gemm_tile_sums)];
  alignas(64) float reals[static_cast<std::size_t>(gemm_tile_sums)];
  const panel_layout& l = w.layout;
  const bool fetches = outgrows_cache(l);
  const auto run = [&](tile_function tile, tile_operands& t, index row, index row_count, index panel,
                       index panels) {
    const index column = panel * K::width;
    const index columns = panels * K::width;
    const index count = std::min(columns, l.n - column);
    block.to_row(t, row);
    t.fetches = fetches && row == 0;
    if (stores_in_place<Grouped>(w, epilogue, t, block.first + row, column, columns)) return tile(t);
    t.sums = sums;
    t.sums_stride = columns;
    t.reals = reals;
    const auto finish = [&](const auto* all) {
      for (index r = 0; r < row_count; ++r) epilogue(block.first + row + r, column, all + r * columns, count);
    };
    if constexpr (Grouped) {
      tile(t);
      finish(static_cast<const float*>(reals));
    } else if (w.wide_offset != nullptr) {
      std::int64_t wide[static_cast<std::size_t>(gemm_tile_sums)];
      wide_tile(w, block, tile, t, row, row_count, column, columns, wide);
      finish(static_cast<const std::int64_t*>(wide));
    } else {
      tile(t);
      finish(static_cast<const std::int32_t*>(sums));
    }
  };
  const index tile_rows = K::template rows_for<Grouped>(l);
  const index full = block.rows / tile_rows * tile_rows;
  const index rest = block.rows - full;
  const index side_by_side = full > 0 ? 1 : K::panels_for(l, rest);
  const tile_function tall = full > 0 ? K::template tile<Grouped>(l, tile_rows, 1) : nullptr;
  const tile_function one = rest > 0 ? K::template tile<Grouped>(l, rest, 1) : nullptr;
  const tile_function several = rest > 0 ? K::template tile<Grouped>(l, rest, side_by_side) : nullptr;
  // panel by panel, so that a panel stays in the first-level cache while the rows pass by
  for (index panel = first_panel; panel < last_panel;) {
    const index panels = last_panel - panel >= side_by_side ? side_by_side : 1;
    tile_operands t = block.of_panel(w, panel);
    if (full > 0 && stores_in_place<Grouped>(w, epilogue, t, block.first, panel * K::width, K::width)) {
      for (index row = 0; row < full; row += tile_rows, block.move_on(t, tile_rows)) {
        t.fetches = fetches && row == 0;
        tall(t);
      }
    } else {
      for (index row = 0; row < full; row += tile_rows) run(tall, t, row, tile_rows, panel, 1);
    }
    if (rest > 0) run(panels == 1 ? one : several, t, full, rest, panel, panels);
    panel += panels;
  }
}

/// The operands of `rows` rows, at most gemm_rows, from row `first` on: their sums, and their codes as the
/// tiles want them, in scratch.
template<class Value>
REPQUANT_ALWAYS_INLINE inline gemm_block<Value> block_of(const gemm_weights& w, const Value* x, index first,
                                                         index rows, index stride,
                                                         std::span<std::byte> scratch,
                                                         const std::int32_t* x_sums) noexcept {
  const panel_layout& l = w.layout;
  const index k = w.summed_places();
  const index groups = l.groups();
  const auto sum_of = [x_sums](const Value* from, index n, index row) {
    return x_sums != nullptr ? std::int64_t{x_sums[row]} : row_sum(from, n);
  };
  auto* wide_sums = reinterpret_cast<std::int64_t*>(scratch.data());
  auto* row_sums = reinterpret_cast<std::int32_t*>(wide_sums + gemm_rows);
  auto* words = reinterpret_cast<std::int16_t*>(row_sums + gemm_rows * ((groups + 1) / 2 * 2));
  const bool wide = w.wide_offset != nullptr;
  const bool needs_sums = w.slope != nullptr || w.common_slope != 0;
  gemm_block<Value> block;
  block.first = first;
  block.rows = rows;
  block.wide_sums = wide_sums;
  const Value* from = x + first * stride;
  for (index r = 0; wide && r < rows; ++r) wide_sums[r] = sum_of(from + r * stride, k, first + r);
  for (index r = 0; needs_sums && r < rows; ++r) {
    for (index g = 0; g < groups; ++g) {
      const index begin = g * l.group;
      const index count = l.group == 0 ? k : std::min(l.group, k - begin);
      const auto sum = static_cast<std::uint32_t>(sum_of(from + r * stride + begin, count, first + r));
      row_sums[r * groups + g] = static_cast<std::int32_t>(
          w.slope != nullptr ? sum : sum * static_cast<std::uint32_t>(w.common_slope));
    }
  }
  block.t.k = k;
  block.t.run = std::max<index>(1, l.products / 4);
  block.t.stride = stride;
  block.t.groups = groups;
  block.t.group = l.group;
  if (needs_sums) block.t.row_sums = row_sums;
  if constexpr (std::same_as<Value, std::int16_t>) {
    REPQUANT_ASSERT(l.storage == panel_storage::pairs);
    block.t.words = from;
  } else if (l.storage == panel_storage::pairs) {
    for (index r = 0; r < rows; ++r) widen_row(from + r * stride, k, words + r * l.padded_k());
    block.t.words = words;
    block.t.stride = l.padded_k();
  } else if (takes_halves(l)) {
    auto* const halves = reinterpret_cast<std::uint8_t*>(words);
    for (index r = 0; r < rows; ++r) split_codes(from + r * stride, k, halves + r * 2 * l.padded_k());
    block.t.codes = halves;
    block.t.stride = 2 * l.padded_k();
    block.t.k = (k + panel_places - 1) / panel_places * panel_places;
  } else {
    block.t.codes = from;
  }
  return block;
}

/// All blocks of rows.
template<instruction_set Set, bool Grouped, class Value, class Epilogue>
inline void run_rows(const gemm_weights& w, const Value* x, index rows, index stride, index first_panel,
                     index last_panel, std::span<std::byte> scratch, const std::int32_t* x_sums,
                     Epilogue& epilogue) noexcept {
  REPQUANT_ASSERT(w.layout.set == Set && scratch.size() >= gemm_scratch_bytes(w.layout));
  REPQUANT_ASSERT(reinterpret_cast<std::uintptr_t>(scratch.data()) % 8 == 0);
  if (rows == 1 && w.wide_offset == nullptr) {
    const gemm_block<Value> block = block_of(w, x, 0, 1, stride, scratch, x_sums);
    return run_one_row<Set, Grouped>(w, block, first_panel, last_panel, epilogue);
  }
  for (index first = 0; first < rows; first += gemm_rows) {
    const gemm_block<Value> block =
        block_of(w, x, first, std::min(gemm_rows, rows - first), stride, scratch, x_sums);
    run_block<Set, Grouped>(w, block, first_panel, last_panel, epilogue);
  }
}

}  // namespace detail

/// What gemm multiplies: u8 codes, or int16 values, which weights in pairs take.
template<class T>
concept GemmValue = std::same_as<T, std::uint8_t> || std::same_as<T, std::int16_t>;

/// Calls epilogue(row, column, sums, count) for pieces of rows that together are the sums of all rows and of
/// the outputs of panels [first_panel, last_panel). `sums` is const std::int32_t*, or const std::int64_t*
/// where the weights are wide; it may be read until the call returns.
///
/// Shapes    x [rows x w.summed_places()] with `stride` between rows, nothing outside is read; x_sums null,
///           or the sums of those rows where the caller has them
/// Requires  w.layout.set == Set, no groups; codes of x within the bits that the layout was chosen for;
///           scratch of gemm_scratch_bytes(w.layout) bytes, aligned to 8, for this call alone; int32: final
///           sums fit; wide: |weight - shift| <= 255
/// Cost      rows k n multiply-adds
template<instruction_set Set, GemmValue Value, class Epilogue>
inline void gemm(const gemm_weights& w, const Value* x, index rows, index stride, index first_panel,
                 index last_panel, std::span<std::byte> scratch, Epilogue&& epilogue,
                 const std::int32_t* x_sums = nullptr) noexcept {
  REPQUANT_ASSERT(w.layout.group == 0);
  detail::run_rows<Set, false>(w, x, rows, stride, first_panel, last_panel, scratch, x_sums, epilogue);
}

/// The same for weights with groups, whose exact int32 sums are scaled and added up in order, each step
/// rounded once: total = total + float(sum of the group) scale. `sums` is const float*.
///
/// Requires  as gemm, but w.layout.group > 0
/// Precision the same bits on every instruction set
template<instruction_set Set, GemmValue Value, class Epilogue>
inline void gemm_groups(const gemm_weights& w, const Value* x, index rows, index stride, index first_panel,
                        index last_panel, std::span<std::byte> scratch, Epilogue&& epilogue) noexcept {
  REPQUANT_ASSERT(w.layout.group > 0 && w.scale != nullptr);
  detail::run_rows<Set, true>(w, x, rows, stride, first_panel, last_panel, scratch, nullptr, epilogue);
}

}  // namespace repquant
