// SPDX-License-Identifier: MIT
/// How the weights of a product lie in memory, and which kernel that allows: a value, so that it can be
/// stored beside the weights and compared with what a build expects.
#pragma once

#include <repquant/kernel/gemm_operands.hpp>
#include <repquant/kernel/instruction_set.hpp>

#include <algorithm>

namespace repquant {

/// log2 of the columns of a panel: so that nothing divides by a number that is known at run time only.
constexpr int panel_width_bits(instruction_set s) noexcept {
  using enum instruction_set;
  switch (s) {
    case scalar:
      return 1;
    case avx2:
    case avx_vnni:
      return 4;
    case avx512:
    case avx512_vnni:
      return 5;
    default:
      return 3;
  }
}
/// Columns of a panel: two registers of int32 sums.
constexpr index panel_width(instruction_set s) noexcept { return index{1} << panel_width_bits(s); }

/// True where an instruction set multiplies bytes, and not only pairs of int16.
constexpr bool multiplies_bytes(instruction_set s) noexcept {
  return s != instruction_set::sse2 && s != instruction_set::neon;
}

/// True where its products of bytes are summed in int32 at once, exact for any range.
constexpr bool sums_bytes_exactly(instruction_set s) noexcept {
  using enum instruction_set;
  return s == scalar || s == avx_vnni || s == avx512_vnni || s == neon_dotprod || s == neon_i8mm;
}

/// Places k are padded with zeros to a multiple of this.
inline constexpr index panel_places = 8;

/// Codes of weights in panels: column j of panel i is output i * width() + j; columns and places beyond the
/// matrix hold zeros.
struct panel_layout {
  instruction_set set = instruction_set::scalar;
  panel_storage storage = panel_storage::bytes;
  std::int32_t products = 1;  ///< how many an int16 sum holds; counts where the instruction set sums in int16
  std::int32_t shift = 0;     ///< stored is code - shift
  index k = 0;                ///< places that are summed over
  index n = 0;                ///< outputs
  index group = 0;            ///< places that share a scale, a multiple of 8; 0: sums go over all places

  /// Groups in a row, the last perhaps smaller.
  [[nodiscard]] constexpr index groups() const noexcept { return group == 0 ? 1 : (k + group - 1) / group; }
  [[nodiscard]] constexpr index width() const noexcept { return panel_width(set); }
  [[nodiscard]] constexpr index panels() const noexcept { return (n + width() - 1) >> panel_width_bits(set); }
  /// Outputs, with those that fill the last panel.
  [[nodiscard]] constexpr index padded_n() const noexcept { return panels() * width(); }
  [[nodiscard]] constexpr index padded_k() const noexcept {
    return (k + panel_places - 1) / panel_places * panel_places;
  }
  [[nodiscard]] constexpr index panel_bytes() const noexcept {
    const index values = padded_k() * width();
    return storage == panel_storage::pairs   ? 2 * values
           : storage == panel_storage::bytes ? values
                                             : values / 2;
  }
  /// Bytes that pack_panels writes.
  [[nodiscard]] constexpr index bytes() const noexcept { return panels() * panel_bytes(); }

  friend constexpr bool operator==(const panel_layout&, const panel_layout&) = default;
};

/// Codes of weights as the caller has them: that of output j at place k is data[j * output_stride +
/// k * place_stride]. A linear layer's [out x in] has place_stride 1; a matrix whose rows are summed over, as
/// the values of an attention, has output_stride 1.
struct code_matrix {
  const std::uint8_t* data = nullptr;
  index output_stride = 0;
  index place_stride = 1;
  [[nodiscard]] constexpr std::uint8_t at(index j, index k) const noexcept {
    return data[j * output_stride + k * place_stride];
  }
};

/// The largest power of two p, at most 1024, such that p products of an activation in 0 .. max_x and a weight
/// in low .. high never leave an int16, whatever their order; 0 where not even one fits. For nibbles, whose
/// sums start at -32768, low is 0 and 65535 is what fits.
///
/// Requires  max_x >= 0, low <= 0 <= high
constexpr index products_in_range(std::int64_t max_x, std::int64_t low, std::int64_t high,
                                  panel_storage storage) noexcept {
  const std::int64_t top = storage == panel_storage::nibbles ? 65535 : 32767;
  index p = 1024;
  while (p > 0 && (p * max_x * high > top || -p * max_x * low > 32768)) p /= 2;
  return p;
}

/// How many products of a row meet in an int16 that takes all of its places: two of each four.
constexpr std::int32_t products_of_all(index k) noexcept {
  return static_cast<std::int32_t>((k + 3) / 4 * 2);
}

/// True where the panels are more than a second-level cache is sure to hold: they come from memory.
constexpr bool outgrows_cache(const panel_layout& l) noexcept { return l.bytes() > index{1} << 19; }

/// True where products are summed in int16 and not even two of them are proved to fit: activations are taken
/// in halves of four bits.
constexpr bool takes_halves(const panel_layout& l) noexcept {
  return l.storage == panel_storage::bytes && !sums_bytes_exactly(l.set) && l.products < 2;
}

/// What a choice of layout may look at besides the ranges.
enum class packing_goal : std::uint8_t {
  speed,   ///< the fastest kernel for many rows
  memory,  ///< a byte for a weight, half of one up to 4 bits: for few rows, where reading weights is the work
};

/// The layout that suits the bit widths alone: for weights packed while the model runs.
///
/// Requires  2 <= x_bits, w_bits <= 8; codes of activations and weights in 0 .. 2^bits - 1
constexpr panel_layout layout_of_bits(instruction_set set, index k, index n, int x_bits, int w_bits,
                                      packing_goal goal = packing_goal::speed) noexcept {
  panel_layout l{set, panel_storage::bytes, 1, 1 << (w_bits - 1), k, n};
  const std::int64_t max_x = (1 << x_bits) - 1;
  if (!multiplies_bytes(set)) {
    l.storage = panel_storage::pairs;
  } else if (w_bits <= 4 && goal == packing_goal::memory) {
    l.storage = panel_storage::nibbles;
    l.shift = 0;
    l.products = static_cast<std::int32_t>(products_in_range(max_x, 0, (1 << w_bits) - 1, l.storage));
  } else {
    if (set == instruction_set::neon_dotprod) l.shift = 0;  // its bytes have one sign on both sides
    l.products =
        static_cast<std::int32_t>(products_in_range(max_x, -l.shift, (1 << w_bits) - 1 - l.shift, l.storage));
    if (!sums_bytes_exactly(set) && l.products < 2 && goal == packing_goal::speed)
      l.storage = panel_storage::pairs;
  }
  return l;
}

}  // namespace repquant
