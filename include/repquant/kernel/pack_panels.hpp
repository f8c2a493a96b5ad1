// SPDX-License-Identifier: MIT
/// Weights into panels, and the count over the weights that allows a faster kernel than their bits alone do.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

namespace repquant {

namespace detail {

/// True where every run of `products` products of the bytes or nibbles of one output keeps within int16.
///
/// A lane of int16 takes, from each group of four places, the first two or the last two; a run is products /
/// 2 such groups, counted from place 0. With activations in 0 .. max_x every partial sum of a run lies
/// between max_x N and max_x P, the sums of its negative and of its positive weights, so those two bounds
/// suffice, and some activations reach them, so they are needed.
inline bool runs_fit(const panel_layout& l, const code_matrix& w, std::int64_t max_x,
                     index products) noexcept {
  const std::int64_t top = l.storage == panel_storage::nibbles ? 65535 : 32767;
  const index places = 2 * products;
  for (index j = 0; j < l.n; ++j) {
    for (index first = 0; first < l.k; first += places) {
      std::int64_t positive[2] = {0, 0};
      std::int64_t negative[2] = {0, 0};
      for (index k = first; k < std::min(l.k, first + places); ++k) {
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

}  // namespace detail

/// The layout that suits these weights: that of their bits, or a faster one that a count over them proves.
///
/// Requires  as layout_of_bits; w holds n x k codes below 2^w_bits
/// Cost      a pass over the weights for every doubling of the number of products
inline panel_layout layout_of_weights(instruction_set set, const code_matrix& w, index k, index n, int x_bits,
                                      int w_bits, packing_goal goal = packing_goal::speed) noexcept {
  panel_layout l = layout_of_bits(set, k, n, x_bits, w_bits, goal);
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
/// Cost      one pass; allocates nothing, so it also packs what is made while a model runs
inline void pack_panels(const panel_layout& l, const code_matrix& w, std::byte* out) noexcept {
  const index width = l.width();
  const auto shift = static_cast<std::uint32_t>(l.shift);
  for (index j0 = 0; j0 < l.padded_n(); j0 += width) {
    for (index k = 0; k < l.padded_k(); k += panel_places) {
      if (l.storage == panel_storage::nibbles) {
        for (index j = j0; j < j0 + width; ++j, out += 4) {
          const std::uint32_t low = detail::subtract_bytes(detail::four_codes(l, w, j, k), shift);
          const std::uint32_t high = detail::subtract_bytes(detail::four_codes(l, w, j, k + 4), shift);
          detail::store_word(out, low | (high << 4U));
        }
        continue;
      }
      for (index four = k; four < k + panel_places; four += 4) {
        if (l.storage == panel_storage::bytes) {
          for (index j = j0; j < j0 + width; ++j, out += 4) {
            detail::store_word(out, detail::subtract_bytes(detail::four_codes(l, w, j, four), shift));
          }
          continue;
        }
        for (index two = four; two < four + 4; two += 2) {
          for (index j = j0; j < j0 + width; ++j, out += 4) {
            const std::uint32_t codes = detail::four_codes(l, w, j, two);
            const std::uint32_t first = (codes & 255U) - shift;
            const std::uint32_t second = ((codes >> 8U) & 255U) - shift;
            detail::store_word(out, (first & 0xFFFFU) | (second << 16U));
          }
        }
      }
    }
  }
}

}  // namespace repquant
