// SPDX-License-Identifier: MIT
/// The exact sums of an attention head: by int16 products, and, for zero points that int16 cannot hold, by
/// plain loops that also serve as the definition.
#pragma once

#include <repquant/infer/attention_head.hpp>
#include <repquant/kernel/log_product.hpp>
#include <repquant/kernel/product.hpp>

namespace repquant::detail {

/// Score sums straight from codes, for zero points that int16 cannot hold.
inline void plain_scores(const attention_head& h, const attention_operands& x, index i, index visible,
                         std::int64_t* sums) noexcept {
  for (index j = 0; j < visible; ++j) {
    std::int64_t sum = 0;
    for (index d = 0; d < h.head_dim; ++d) {
      sum += (std::int64_t{x.q[i * x.q_stride + d]} - h.q_zero[static_cast<std::size_t>(d)]) *
             (std::int64_t{x.k[j * x.k_stride + d]} - h.k_zero);
    }
    sums[j] = sum;
  }
}

/// Value sums straight from codes; the definition of the fast forms.
inline void plain_values(const attention_head& h, const attention_operands& x, const std::uint8_t* codes,
                         index visible, std::int64_t* even, std::int64_t* odd) noexcept {
  for (index d = 0; d < h.head_dim; ++d) even[d] = odd[d] = 0;
  h.probability.visit([&]<class C>(const C& codec, const auto& p) {
    for (index j = 0; j < visible; ++j) {
      std::int64_t* sums = even;
      std::int64_t weight = 0;
      if constexpr (std::same_as<C, uniform>) {
        weight = std::int64_t{codes[j]} - p.zero_point;
      } else {
        if (codec.is_zero(codes[j])) continue;
        weight = std::int64_t{1} << (largest_shift(codec) - C::shift(codes[j]));
        if (std::same_as<C, log_sqrt2> && codes[j] % 2 != 0) sums = odd;
      }
      for (index d = 0; d < h.head_dim; ++d) {
        sums[d] += weight * (std::int64_t{x.v[j * x.v_stride + d]} - h.v_zero[static_cast<std::size_t>(d)]);
      }
    }
  });
}

/// The exact value sums of a block of queries by int16 products. v rows are padded_row(keys) long.
template<class Arch, class Sum>
inline void value_sums(const attention_head& h, const attention_forms& f, const std::uint8_t* codes,
                       index rows, const std::int16_t* v, index v_stride, index visible, Sum* even, Sum* odd,
                       std::span<std::int16_t> powers) noexcept {
  h.probability.visit([&]<class C>(const C& codec, const auto& p) {
    if constexpr (std::same_as<C, uniform>) {
      const index width = padded_row(visible);
      for (index i = 0; i < rows; ++i) {
        const auto row = powers.subspan(static_cast<std::size_t>(i * width), static_cast<std::size_t>(width));
        center<Arch>({codes + i * h.keys, static_cast<std::size_t>(visible)}, p.zero_point, row);
        std::fill(row.begin() + visible, row.end(), std::int16_t{0});
      }
      if constexpr (std::same_as<Sum, std::int32_t>) {
        product<Arch>(powers.data(), rows, width, v, h.head_dim, v_stride, width, even, h.head_dim);
      } else {
        product_wide<Arch>(powers.data(), rows, width, v, h.head_dim, v_stride, width, f.max_p, f.max_v, even,
                           h.head_dim);
      }
    } else {
      log_product<Arch>(codec, codes, rows, h.keys, v, h.head_dim, v_stride, visible, f.max_v, even, odd,
                        h.head_dim, powers);
    }
  });
}

}  // namespace repquant::detail
