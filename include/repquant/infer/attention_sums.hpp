// SPDX-License-Identifier: MIT
/// The exact sums of an attention head straight from codes: the definition of the fast forms, and what a
/// simulation runs.
#pragma once

#include <repquant/infer/attention_head.hpp>

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

/// Value sums straight from codes; the definition of the fast forms. Sum int32: where they fit.
template<class Sum>
inline void plain_values(const attention_head& h, const attention_operands& x, const std::uint8_t* codes,
                         index visible, Sum* even, Sum* odd) noexcept {
  for (index d = 0; d < h.head_dim; ++d) even[d] = odd[d] = 0;
  h.probability.visit([&]<class C>(const C& codec, const auto& p) {
    for (index j = 0; j < visible; ++j) {
      Sum* sums = even;
      std::int64_t weight = 0;
      if constexpr (std::same_as<C, uniform>) {
        weight = std::int64_t{codes[j]} - p.zero_point;
      } else {
        if (codec.is_zero(codes[j])) continue;
        weight = std::int64_t{1} << (largest_shift(codec) - C::shift(codes[j]));
        if (std::same_as<C, log_sqrt2> && codes[j] % 2 != 0) sums = odd;
      }
      for (index d = 0; d < h.head_dim; ++d) {
        sums[d] += static_cast<Sum>(
            weight * (std::int64_t{x.v[j * x.v_stride + d]} - h.v_zero[static_cast<std::size_t>(d)]));
      }
    }
  });
}

}  // namespace repquant::detail
