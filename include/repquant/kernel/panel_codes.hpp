// SPDX-License-Identifier: MIT
/// Single codes in panels: for panels that grow while a model runs, and to read codes back.
#pragma once

#include <repquant/core/config.hpp>
#include <repquant/kernel/panel_layout.hpp>

#include <cstring>

namespace repquant {

/// Outputs and places of a matrix of codes.
struct code_range {
  index first_output, last_output, first_place, last_place;
};

namespace detail {

/// Calls f(output, place, byte of the panels where the weight begins) for all codes of a range.
template<class F>
inline void for_codes(const panel_layout& l, const code_range& r, const F& f) noexcept {
  REPQUANT_ASSERT(l.storage != panel_storage::nibbles);
  // a word holds 4 places in bytes, or 2; shifts, because the compiler knows none of these numbers
  const int place_bits = l.storage == panel_storage::pairs ? 1 : 2;
  const index place = (index{1} << place_bits) - 1;
  const index width = l.width();
  for (index panel = r.first_output >> panel_width_bits(l.set); panel * width < r.last_output; ++panel) {
    const index first = std::max(r.first_output, panel * width);
    const index last = std::min(r.last_output, (panel + 1) * width);
    for (index k = r.first_place; k < r.last_place; ++k) {
      const index row =
          panel * l.panel_bytes() + (k >> place_bits) * width * 4 + (k & place) * (4 >> place_bits);
      for (index j = first; j < last; ++j) f(j, k, row + (j - panel * width) * 4);
    }
  }
}

}  // namespace detail

/// Writes the codes of a range into panels and leaves all others as they are.
///
/// Shapes    w holds the range: that of output j at place k is w.at(j - r.first_output, k - r.first_place);
///           panels [l.bytes()]
/// Requires  bytes or pairs; codes - shift fit them; places that nobody has written count only where
///           activations are zero
inline void write_codes(const panel_layout& l, const code_range& r, const code_matrix& w,
                        std::byte* panels) noexcept {
  const bool pairs = l.storage == panel_storage::pairs;
  detail::for_codes(l, r, [&](index j, index k, index at) {
    const auto weight = static_cast<std::int16_t>(w.at(j - r.first_output, k - r.first_place) - l.shift);
    if (pairs) {
      std::memcpy(panels + at, &weight, sizeof weight);
    } else {
      panels[at] = static_cast<std::byte>(weight);
    }
  });
}

/// Reads the codes of a range: that of output j at place k goes to out[(j - r.first_output) * output_stride +
/// (k - r.first_place) * place_stride].
///
/// Requires  bytes or pairs
inline void read_codes(const panel_layout& l, const code_range& r, const std::byte* panels, std::uint8_t* out,
                       index output_stride, index place_stride) noexcept {
  // modulo 256 a byte and the lower byte of a pair say the same
  detail::for_codes(l, r, [&](index j, index k, index at) {
    out[(j - r.first_output) * output_stride + (k - r.first_place) * place_stride] =
        static_cast<std::uint8_t>(std::to_integer<std::int32_t>(panels[at]) + l.shift);
  });
}

}  // namespace repquant
