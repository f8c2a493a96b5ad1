// SPDX-License-Identifier: MIT
/// simulated_products: the matrix products of a simulation, on exact integers held in double. The float steps
/// are the engine's own, so both give the same bits; what this checks is the integer arithmetic.
#pragma once

#include <repquant/infer/integer_products.hpp>

namespace repquant {

/// Plain loops in double. A sum is exact while it stays below 2^53, which every instruction that
/// check_products accepts does for less than 2^20 keys.
struct simulated_products {
  std::span<const std::int16_t> weights;  ///< not used: the codes are read as they are stored
  std::span<std::byte> scratch;

  static std::size_t scratch_bytes(const instruction& s, index rows) noexcept {
    if (s.kind == opcode::linear) {
      return workspace_alignment + workspace_bytes_of<double>(s.inner) + workspace_bytes_of<double>(s.cols);
    }
    if (s.kind != opcode::attention) return 0;
    return workspace_alignment + workspace_bytes_of<double>(rows) + workspace_bytes_of<float>(rows) +
           workspace_bytes_of<std::uint8_t>(rows) + 2 * workspace_bytes_of<double>(s.inner) +
           2 * workspace_bytes_of<float>(s.inner);
  }

  template<class Arch>
  void linear(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* a, index rows,
              float* out) noexcept {
    const auto codes =
        detail::numbers<std::uint8_t>(constants, s.data[0], static_cast<index>(s.cols) * s.inner);
    const auto zero = detail::numbers<std::int32_t>(constants, s.data[1], s.cols);
    workspace_parts parts(scratch);
    const std::span<double> x = parts.take<double>(s.inner);
    const std::span<double> sums = parts.take<double>(s.cols);
    for (index t = 0; t < rows; ++t) {
      for (std::size_t k = 0; k < x.size(); ++k) x[k] = a[t * s.inner + static_cast<index>(k)] - s.zero_a;
      for (std::size_t o = 0; o < sums.size(); ++o) {
        double sum = 0;
        for (std::size_t k = 0; k < x.size(); ++k) sum += x[k] * (codes[o * x.size() + k] - zero[o]);
        sums[o] = sum;
      }
      requantize_row<Arch>(std::span<const double>(sums),
                           detail::numbers<float>(constants, s.data[2], s.cols),
                           detail::numbers<float>(constants, s.data[3], s.cols),
                           std::span<float>(out + t * s.cols, sums.size()));
    }
  }

  template<class Arch, class Sink>
  void attend(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* q,
              const std::uint8_t* k, const std::uint8_t* v, index rows, index keys, float* out,
              Sink&& sink) noexcept {
    workspace_parts parts(scratch);
    const std::span<double> scores = parts.take<double>(keys);
    const std::span<float> probabilities = parts.take<float>(keys);
    const std::span<std::uint8_t> codes = parts.take<std::uint8_t>(keys);
    const std::span<double> even = parts.take<double>(s.inner);
    const std::span<double> odd = parts.take<double>(s.inner);
    const std::span<float> even_scale = parts.take<float>(s.inner);
    const std::span<float> odd_scale = parts.take<float>(s.inner);
    for (index n = 0; n < s.heads; ++n) {
      const attention_head h = head_of(s, constants, n, rows, keys);
      const value_scales scales = scales_of<Arch>(h.probability, h.value_scale, even_scale, odd_scale);
      const attention_operands x = operands_of(s, n, q, k, v, out);
      for (index i = 0; i < rows; ++i) {
        for (index j = 0; j < keys; ++j) {
          double sum = 0;
          for (index d = 0; d < h.head_dim; ++d) {
            sum += static_cast<double>(x.q[i * x.q_stride + d] - h.q_zero[static_cast<std::size_t>(d)]) *
                   static_cast<double>(x.k[j * x.k_stride + d] - h.k_zero);
          }
          scores[static_cast<std::size_t>(j)] = sum;
        }
        probability_row<Arch>(h.probability, std::span<const double>(scores), h.score_multiplier,
                              h.visible(i), probabilities, codes);
        sink(s.site, static_cast<const std::uint8_t*>(codes.data()), index{1}, keys);
        const bool two = sum_values(h, x, codes, h.visible(i), even, odd);
        value_row<Arch>(std::span<const double>(even),
                        std::span<const double>(odd).first(two ? odd.size() : 0), scales,
                        std::span<float>(x.out + i * x.out_stride, even.size()));
      }
    }
  }

 private:
  /// even and odd sums of powers of two times values, or one sum for uniform codes; true for two.
  static bool sum_values(const attention_head& h, const attention_operands& x,
                         std::span<const std::uint8_t> codes, index visible, std::span<double> even,
                         std::span<double> odd) noexcept {
    std::fill(even.begin(), even.end(), 0.0);
    std::fill(odd.begin(), odd.end(), 0.0);
    return h.probability.visit([&]<class C>(const C& codec, const auto& params) {
      for (index j = 0; j < visible; ++j) {
        const int code = codes[static_cast<std::size_t>(j)];
        std::span<double> sums = even;
        double weight = 0;
        if constexpr (std::same_as<C, uniform>) {
          weight = code - params.zero_point;
        } else {
          if (codec.is_zero(code)) continue;
          weight = std::ldexp(1.0, largest_shift(codec) - C::shift(code));
          if (std::same_as<C, log_sqrt2> && code % 2 != 0) sums = odd;
        }
        for (std::size_t d = 0; d < sums.size(); ++d) {
          sums[d] += weight * (x.v[j * x.v_stride + static_cast<index>(d)] - h.v_zero[d]);
        }
      }
      return std::same_as<C, log_sqrt2>;
    });
  }
};

}  // namespace repquant
