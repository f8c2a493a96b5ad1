// SPDX-License-Identifier: MIT
/// The exact sums of an attention head: by int16 products, and by plain loops that are the definition.
///
/// With n the codes nearest to the zero points z, and z_k, n_k those of the keys,
///
///   sum_d (q - z)(k - z_k) = sum_d (q - n)(k - n_k) + (n_k - z_k) sum_d (q - n) + sum_d (n - z)(k - z_k)
///   sum_j p (v - z)        = sum_j p (v - n) + (n - z) sum_j p
///
/// so that any zero point takes int16 products of small operands, one number per query and one per key. The
/// terms are added modulo 2^64, which is exact because check() proved that the results fit.
#pragma once

#include <repquant/infer/attention_head.hpp>
#include <repquant/kernel/log_product.hpp>
#include <repquant/kernel/product.hpp>

namespace repquant::detail {

/// Score sums straight from codes; the definition of the fast forms.
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

/// a + b c modulo 2^64.
inline std::int64_t add_product(std::int64_t a, std::int64_t b, std::int64_t c) noexcept {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) +
                                   static_cast<std::uint64_t>(b) * static_cast<std::uint64_t>(c));
}

/// parts[j] = sum_d (n - z)(k[j] - z_k): what the scores of key j lack.
inline void score_parts_of_keys(const attention_head& h, const attention_operands& x,
                                std::span<std::int64_t> parts) noexcept {
  std::fill(parts.begin(), parts.end(), std::int64_t{0});
  for (index d = 0; d < h.head_dim; ++d) {
    const std::int32_t zero = h.q_zero[static_cast<std::size_t>(d)];
    const std::int64_t missing = std::int64_t{nearest_code(h, zero)} - zero;
    if (missing == 0) continue;
    for (std::size_t j = 0; j < parts.size(); ++j) {
      const std::int64_t key = x.k[static_cast<index>(j) * x.k_stride + d];
      parts[j] = add_product(parts[j], missing, key - h.k_zero);
    }
  }
}

/// Adds to the scores of a query, made of q [head_dim] centred on the nearest codes, what they lack.
inline void complete_scores(const attention_head& h, const std::int16_t* q,
                            std::span<const std::int64_t> parts_of_keys, std::int64_t* scores) noexcept {
  std::int64_t sum = 0;
  for (index d = 0; d < h.head_dim; ++d) sum += q[d];
  const std::int64_t part = add_product(0, std::int64_t{nearest_code(h, h.k_zero)} - h.k_zero, sum);
  for (std::size_t j = 0; j < parts_of_keys.size(); ++j) {
    scores[j] = add_product(scores[j], 1, add_product(part, 1, parts_of_keys[j]));
  }
}

/// Adds to the sums of a query, made of values centred on the nearest codes, what they lack.
inline void complete_values(const attention_head& h, const std::uint8_t* codes, index visible,
                            std::int64_t* even, std::int64_t* odd) noexcept {
  h.probability.visit([&]<class C>(const C& codec, const auto& p) {
    std::int64_t weights[2] = {0, 0};  // sums of the probabilities, of even and of odd codes
    for (index j = 0; j < visible; ++j) {
      if constexpr (std::same_as<C, uniform>) {
        weights[0] += std::int64_t{codes[j]} - p.zero_point;
      } else if (!codec.is_zero(codes[j])) {
        const bool is_odd = std::same_as<C, log_sqrt2> && codes[j] % 2 != 0;
        weights[is_odd ? 1 : 0] += std::int64_t{1} << (largest_shift(codec) - C::shift(codes[j]));
      }
    }
    for (index d = 0; d < h.head_dim; ++d) {
      const std::int32_t zero = h.v_zero[static_cast<std::size_t>(d)];
      const std::int64_t missing = std::int64_t{nearest_code(h, zero)} - zero;
      if (missing == 0) continue;
      even[d] = add_product(even[d], missing, weights[0]);
      if constexpr (std::same_as<C, log_sqrt2>) odd[d] = add_product(odd[d], missing, weights[1]);
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
