// SPDX-License-Identifier: MIT
/// One band of the powers of logarithmic codes times packed values: the steps of log_product.hpp.
#pragma once

#include <repquant/kernel/gemm.hpp>
#include <repquant/kernel/listed_kernels.hpp>
#include <repquant/kernel/power_list.hpp>
#include <repquant/kernel/sum_rows.hpp>

namespace repquant {

/// Exact sums of the weights of a row of codes: of even codes and of odd ones, in 2^-D; log2 and uniform have
/// even only.
struct weight_sums {
  std::int64_t even = 0;
  std::int64_t odd = 0;
};

namespace detail {

/// The rows of codes that log_product works on, and where to.
template<class Sum>
struct log_rows {
  const std::uint8_t* codes = nullptr;
  index m = 0;
  index code_stride = 0;
  index k = 0;  ///< places that count
  Sum* sums = nullptr;
  index sum_stride = 0;
  weight_sums* weights = nullptr;  ///< of each row, or null
  std::int64_t weight_sums::*parity = &weight_sums::even;
  [[nodiscard]] index blocks() const noexcept { return (k + power_block - 1) / power_block; }

  /// Joins the sums of a band: to = to times + band. times is 0 for the first band.
  void join(index row, index column, const auto* band, index count, Sum times) const noexcept {
    Sum* const to = sums + row * sum_stride + column;
    for (index j = 0; j < count; ++j) {
      to[j] = (times == 0 ? Sum{0} : to[j] * times) + static_cast<Sum>(band[j]);
    }
  }
  /// A band with nothing in it.
  void join_nothing(index row, index count, Sum times) const noexcept {
    Sum* const to = sums + row * sum_stride;
    for (index j = 0; j < count; ++j) to[j] = times == 0 ? Sum{0} : to[j] * times;
  }
  /// Joins the sum of the multipliers of a band.
  void join_weight(index row, std::int32_t band, Sum times) const noexcept {
    if (weights == nullptr) return;
    std::int64_t& to = weights[row].*parity;
    to = (times == 0 ? 0 : to * std::int64_t{times}) + band;
  }
};

/// One band by rows of bytes or int16. Bytes of a row that add up to at most `fitting` keep all their sums
/// within int16.
template<instruction_set Set, class Arch, class Power, class Visible, class Sum>
inline void multiply_band(const power_table& table, const log_rows<Sum>& r, const Visible& visible,
                          const gemm_weights& v, std::int32_t fitting, Sum times,
                          std::span<std::byte> scratch) noexcept {
  const index width = r.blocks() * power_block;
  auto* const row_sums = reinterpret_cast<std::int32_t*>(scratch.data());
  auto* const rows = reinterpret_cast<Power*>(row_sums + (r.m + 1) / 2 * 2);
  std::int32_t largest = 0;
  for (index i = 0; i < r.m; ++i) {
    row_sums[i] = power_row<Arch>(table, r.codes + i * r.code_stride, std::min<index>(visible(i), r.k),
                                  r.blocks(), rows + i * width);
    r.join_weight(i, row_sums[i], times);
    largest = std::max(largest, row_sums[i]);
  }
  if (largest == 0) {
    for (index i = 0; i < r.m; ++i) r.join_nothing(i, v.layout.n, times);
    return;
  }
  gemm_weights w = v;
  if (largest <= fitting) w.layout.products = products_of_all(w.layout.k);
  w.places = std::min(width, v.layout.padded_k());  // the rows and the panels are padded with zeros
  const std::span<std::byte> rest = scratch.subspan(
      static_cast<std::size_t>(reinterpret_cast<std::byte*>(rows + r.m * width) - scratch.data()));
  const auto run = [&](auto&& epilogue) {
    gemm<Set>(w, rows, r.m, width, 0, w.layout.panels(), rest, epilogue, row_sums);
  };
  if constexpr (std::same_as<Sum, std::int32_t>) {
    if (times == 0) return run(sum_rows{r.sums, r.sum_stride});
  }
  run([&](index i, index column, const auto* sums, index count) { r.join(i, column, sums, count, times); });
}

/// One band by lists of the bytes that are not zero.
template<instruction_set Set, class Arch, class Visible, class Sum>
requires ListsRows<Set>
inline void multiply_listed_band(const power_table& table, const log_rows<Sum>& r, const Visible& visible,
                                 const gemm_weights& v, std::int32_t fitting, Sum times,
                                 std::span<std::byte> scratch) noexcept {
  using K = typename listed_kernels_of<Set>::type;
  const panel_layout& l = v.layout;
  power_list list;
  list.fours = reinterpret_cast<std::uint32_t*>(scratch.data());
  list.at = list.fours + r.blocks() * (power_block / 4);
  alignas(64) std::int32_t sums[static_cast<std::size_t>(gemm_tile_sums)];
  for (index i = 0; i < r.m; ++i) {
    list_powers<Arch>(table, r.codes + i * r.code_stride, std::min<index>(visible(i), r.k), r.blocks(),
                      4 * l.width(), list);
    r.join_weight(i, list.sum, times);
    if (list.count == 0) {
      r.join_nothing(i, l.n, times);
      continue;
    }
    listed_operands t;
    t.fours = list.fours;
    t.at = list.at;
    t.count = list.count;
    t.row_sum = list.sum;
    t.panel_bytes = l.panel_bytes();
    for (index panel = 0; panel < l.panels();) {
      const index panels = K::panels(l.panels() - panel);
      const index column = panel * l.width();
      const index count = std::min(panels * l.width(), l.n - column);
      const listed_function row = K::row(panels, list.sum <= fitting);
      t.panel = v.panels + panel * l.panel_bytes();
      if (v.slope != nullptr) t.slope = v.slope + column;
      t.sums = sums;
      panel += panels;
      if constexpr (std::same_as<Sum, std::int32_t>) {
        if (times == 0 && count == panels * l.width()) {
          t.sums = r.sums + i * r.sum_stride + column;
          row(t);
          continue;
        }
      }
      row(t);
      if (v.wide_slope == nullptr) {
        r.join(i, column, sums, count, times);
        continue;
      }
      std::int64_t wide[static_cast<std::size_t>(gemm_tile_sums)];
      for (index j = 0; j < count; ++j) wide[j] = sums[j] + v.wide_slope[column + j] * list.sum;
      r.join(i, column, wide, count, times);
    }
  }
}

}  // namespace detail

}  // namespace repquant
