// SPDX-License-Identifier: MIT
/// Weights into panels, and the count over the weights that allows a faster kernel than their bits alone do.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/pack_tiles.hpp>
#include <repquant/kernel/panel_layout.hpp>

namespace repquant {

namespace detail {

/// True where every run of `products` products of the bytes or nibbles of one output keeps within int16.
///
/// A lane of int16 takes, from each four places, the first two or the last two; a run is products / 2 such
/// fours, counted from place 0 and anew from the first place of every group: a group ends its last run, which
/// may be shorter. With activations in 0 .. max_x every partial sum of a run lies
/// between max_x N and max_x P, the sums of its negative and of its positive weights, so those two bounds
/// suffice, and some activations reach them, so they are needed.
inline bool runs_fit(const panel_layout& l, const code_matrix& w, std::int64_t max_x,
                     index products) noexcept {
  const std::int64_t top = l.storage == panel_storage::nibbles ? 65535 : 32767;
  const index group = l.group == 0 ? l.k : l.group;
  for (index j = 0; j < l.n; ++j) {
    for (index first = 0, last = 0; first < l.k; first = last) {
      last = std::min({l.k, first + 2 * products, (first / group + 1) * group});
      std::int64_t positive[2] = {0, 0};
      std::int64_t negative[2] = {0, 0};
      for (index k = first; k < last; ++k) {
        const std::int64_t v = std::int64_t{w.at(j, k)} - l.shift;
        (v > 0 ? positive : negative)[k / 2 % 2] += v;
      }
      for (int half = 0; half < 2; ++half) {
        if (max_x * positive[half] > top || max_x * negative[half] < -32768) return false;
      }
    }
  }
  return true;
}

/// Four bytes minus a byte each, wrapping.
constexpr std::uint32_t subtract_bytes(std::uint32_t four, std::uint32_t shift) noexcept {
  const std::uint32_t s = shift * 0x01010101U;
  constexpr std::uint32_t high = 0x80808080U;
  return ((four | high) - (s & ~high)) ^ ((four ^ ~s) & high);
}

/// The four bytes of output j from place k on, those beyond the matrix equal to `shift`; the first lowest.
inline std::uint32_t four_codes(const panel_layout& l, const code_matrix& w, index j, index k) noexcept {
  std::uint32_t four = static_cast<std::uint32_t>(l.shift) * 0x01010101U;
  if (j >= l.n) return four;
  for (index i = 0; i < std::min<index>(4, l.k - k); ++i) {
    const std::uint32_t at = 8U * static_cast<std::uint32_t>(i);
    four = (four & ~(255U << at)) | (std::uint32_t{w.at(j, k + i)} << at);
  }
  return four;
}

/// Stores a word with its lowest byte first.
inline void store_word(std::byte* out, std::uint32_t v) noexcept {
  for (unsigned i = 0; i < 4; ++i) out[i] = static_cast<std::byte>((v >> (8 * i)) & 255U);
}

/// Columns and places of a panel.
struct panel_part {
  index first_column, last_column, first_place, last_place;
};

/// Words of four bytes, or of two int16, one by one: any part of a panel whose first output is j0.
template<bool Pairs>
inline void pack_words(const panel_layout& l, const code_matrix& w, index j0, const panel_part& part,
                       std::byte* panel) noexcept {
  constexpr index places = Pairs ? 2 : 4;
  const auto shift = static_cast<std::uint32_t>(l.shift);
  for (index k = part.first_place; k < part.last_place; k += places) {
    for (index j = part.first_column; j < part.last_column; ++j) {
      std::byte* const out = panel + (k / places * l.width() + j) * 4;
      const std::uint32_t codes = four_codes(l, w, j0 + j, k);
      if constexpr (Pairs) {
        store_word(out, (((codes & 255U) - shift) & 0xFFFFU) | ((((codes >> 8U) & 255U) - shift) << 16U));
      } else {
        store_word(out, subtract_bytes(codes, shift));
      }
    }
  }
}

/// One panel: what is whole by the tiles of pack_tiles.hpp, the edges word by word.
template<bool Pairs>
inline void pack_panel(const panel_layout& l, const code_matrix& w, index j0, std::byte* panel) noexcept {
  constexpr index places = Pairs ? 2 : 4;
  const index width = l.width();
  const index there = std::min(width, l.n - j0);
  const index word_stride = 4 * width;
  index columns = 0;  // packed in tiles, over the first `done` places
  index done = 0;
  if (w.place_stride == 1) {
    columns = there / 4 * 4;
    done = l.k / (4 * places) * (4 * places);
    for (index k = 0; k < done; k += 4 * places) {
      for (index j = 0; j < columns; j += 4) {
        pack_columns<Pairs>(w.data + (j0 + j) * w.output_stride + k, w.output_stride, l.shift,
                            panel + k / places * word_stride + 4 * j, word_stride);
      }
    }
  } else if (w.output_stride == 1) {
    columns = there / 8 * 8;
    done = l.k / places * places;
    for (index k = 0; k < done; k += places) {
      for (index j = 0; j < columns; j += 8) {
        pack_places<Pairs>(w.data + k * w.place_stride + j0 + j, w.place_stride, l.shift,
                           panel + k / places * word_stride + 4 * j);
      }
    }
  }
  pack_words<Pairs>(l, w, j0, {columns, width, 0, done}, panel);
  pack_words<Pairs>(l, w, j0, {0, width, done, l.padded_k()}, panel);
}

}  // namespace detail

/// The layout that suits these weights: that of their bits, or a faster one that a count over them proves.
///
/// Requires  as layout_of_bits; w holds n x k codes below 2^w_bits; group a multiple of 8, or 0: none
/// Cost      a pass over the weights for every doubling of the number of products
inline panel_layout layout_of_weights(instruction_set set, const code_matrix& w, index k, index n, int x_bits,
                                      int w_bits, packing_goal goal = packing_goal::speed,
                                      index group = 0) noexcept {
  panel_layout l = layout_of_bits(set, k, n, x_bits, w_bits, goal);
  l.group = group;
  if (!multiplies_bytes(set) || sums_bytes_exactly(set)) return l;
  const std::int64_t max_x = (1 << x_bits) - 1;
  panel_layout bytes = l;
  if (l.storage == panel_storage::pairs) bytes.storage = panel_storage::bytes;
  index products = l.products;
  while (products < 1024 && detail::runs_fit(bytes, w, max_x, 2 * products)) products *= 2;
  if (products < 2) return l;
  bytes.products = static_cast<std::int32_t>(products);
  return bytes;
}

/// Writes codes minus layout.shift into panels.
///
/// Shapes    w [n x k] by its strides, out [layout.bytes()]
/// Requires  codes - shift fit the storage; the two do not overlap
/// Cost      one pass, 16 bytes at a time where places or outputs lie side by side; allocates nothing, so it
///           also packs what is made while a model runs
inline void pack_panels(const panel_layout& l, const code_matrix& w, std::byte* out) noexcept {
  const index width = l.width();
  for (index j0 = 0; j0 < l.padded_n(); j0 += width, out += l.panel_bytes()) {
    if (l.storage == panel_storage::bytes) {
      detail::pack_panel<false>(l, w, j0, out);
    } else if (l.storage == panel_storage::pairs) {
      detail::pack_panel<true>(l, w, j0, out);
    } else {
      const auto shift = static_cast<std::uint32_t>(l.shift);
      std::byte* word = out;
      for (index k = 0; k < l.padded_k(); k += panel_places) {
        for (index j = j0; j < j0 + width; ++j, word += 4) {
          const std::uint32_t low = detail::subtract_bytes(detail::four_codes(l, w, j, k), shift);
          const std::uint32_t high = detail::subtract_bytes(detail::four_codes(l, w, j, k + 4), shift);
          detail::store_word(word, low | (high << 4U));
        }
      }
    }
  }
}

}  // namespace repquant
