// SPDX-License-Identifier: MIT
/// simulated_products: the matrix products of a simulation, on exact integers held in double. The float steps
/// are the engine's own, so both give the same bits; what this checks is the integer arithmetic.
#pragma once

#include <repquant/infer/integer_products.hpp>

namespace repquant {

/// Plain loops in double, where every sum is exact up to 2^53. A linear layer or an attention whose sums are
/// not proved to stay below (zero points far beyond the codes, or 2^15 keys under powers of two up to 2^30)
/// is run by the plain loops in int64 that define it.
struct simulated_products {
  std::span<const std::byte> weights;  ///< not used: the codes are read as they are stored
  std::span<std::byte> scratch;
  kept_keys_values kept = {};  ///< as in integer_products

  static std::size_t scratch_bytes(const instruction& s, index, index keys) noexcept {
    if (s.kind == opcode::linear) {
      return workspace_alignment + workspace_bytes_of<double>(s.inner) + workspace_bytes_of<double>(s.cols);
    }
    if (s.kind != opcode::attention) return 0;
    return workspace_alignment + 2 * workspace_bytes_of<std::uint8_t>(keys * s.kv_heads * s.inner) +
           workspace_bytes_of<double>(keys) + workspace_bytes_of<float>(probability_scratch(keys)) +
           workspace_bytes_of<std::uint8_t>(keys) + 2 * workspace_bytes_of<double>(s.inner) +
           2 * workspace_bytes_of<float>(s.inner) + workspace_bytes_of<std::int64_t>(keys) +
           2 * workspace_bytes_of<std::int64_t>(s.inner);
  }

  template<class Arch>
  void linear(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* a, index rows,
              float* out) noexcept {
    const linear_codes l = linear_of(s, constants, {});
    if (!fits_double(l)) {
      const real_rows<Arch> to{l.multiplier, l.offset, out, l.out};
      return detail::plain_rows(l, a, rows, l.in, 0, l.out, to);
    }
    workspace_parts parts(scratch);
    const std::span<double> x = parts.take<double>(s.inner);
    const std::span<double> sums = parts.take<double>(s.cols);
    for (index t = 0; t < rows; ++t) {
      for (std::size_t k = 0; k < x.size(); ++k) x[k] = a[t * l.in + static_cast<index>(k)] - l.x_zero;
      for (std::size_t o = 0; o < sums.size(); ++o) {
        double sum = 0;
        for (std::size_t k = 0; k < x.size(); ++k) sum += x[k] * (l.w[o * x.size() + k] - l.w_zero[o]);
        sums[o] = sum;
      }
      requantize_row<Arch>(std::span<const double>(sums), l.multiplier, l.offset,
                           std::span<float>(out + t * l.out, sums.size()));
    }
  }

  template<class Arch, class Sink>
  void attend(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* q,
              const std::uint8_t* k, const std::uint8_t* v, index rows, index keys, float* out,
              Sink&& sink) noexcept {
    workspace_parts parts(scratch);
    if (kept.memory != nullptr) {
      const index kv_cols = s.kv_heads * s.inner;
      const std::span<std::uint8_t> read_k = parts.take<std::uint8_t>(keys * kv_cols);
      const std::span<std::uint8_t> read_v = parts.take<std::uint8_t>(keys * kv_cols);
      const kept_heads heads(kept, head_of(s, constants, 0, rows, keys), kept_sizes_of(s), keys);
      for (index g = 0; g < s.kv_heads; ++g)
        heads.read(g, read_k.data() + g * s.inner, read_v.data() + g * s.inner, kv_cols);
      k = read_k.data();
      v = read_v.data();
    }
    const std::span<float> probabilities = parts.take<float>(probability_scratch(keys));
    const std::span<std::uint8_t> codes = parts.take<std::uint8_t>(keys);
    const std::span<float> even_scale = parts.take<float>(s.inner);
    const std::span<float> odd_scale = parts.take<float>(s.inner);
    const auto sums_in = [&]<class Sum>(Sum) {
      return attention_sums<Sum>{parts.take<Sum>(keys), parts.take<Sum>(s.inner), parts.take<Sum>(s.inner)};
    };
    const attention_sums<double> in_double = sums_in(0.0);
    const attention_sums<std::int64_t> in_integers = sums_in(std::int64_t{0});
    for (index n = 0; n < s.heads; ++n) {
      const attention_head h = head_of(s, constants, n, rows, keys);
      const attention_operands x = operands_of(s, n, q, k, v, out);
      const value_scales scales = scales_of<Arch>(h.probability, h.value_scale, even_scale, odd_scale);
      const value_factor factor(h.probability);
      const auto run = [&]<class Sum>(const attention_sums<Sum>& sums) {
        for (index i = 0; i < rows; ++i) {
          sum_scores(h, x, i, sums.scores);
          probability_row<Arch>(h.probability, std::span<const Sum>(sums.scores), h.score_multiplier,
                                h.visible(i), probabilities, codes);
          sink(s.site, static_cast<const std::uint8_t*>(codes.data()), index{1}, keys);
          sum_values(h, x, codes, h.visible(i), sums.even, sums.odd);
          value_row<Arch>(std::span<const Sum>(sums.even),
                          std::span<const Sum>(sums.odd).first(scales.odd.size()), scales,
                          std::span<float>(x.out + i * x.out_stride, sums.even.size()),
                          factor(codes.data(), h.visible(i)));
        }
      };
      if (fits_double(h)) {
        run(in_double);
      } else {
        run(in_integers);
      }
    }
  }

 private:
  /// The sums of one query: a score per key, one or two values per column.
  template<class Sum>
  struct attention_sums {
    std::span<Sum> scores, even, odd;
  };

  static constexpr std::int64_t most_in_double = std::int64_t{1} << 53;

  /// True where no sum of a layer, and no part of one, can pass 2^53.
  static bool fits_double(const linear_codes& l) noexcept {
    const std::int64_t far_x = center_largest(l.x_zero, 1 << l.x_bits);
    return std::all_of(l.w_zero.begin(), l.w_zero.end(), [&](std::int32_t z) {
      return l.in <= most_in_double / (far_x * center_largest(z, 1 << l.w_bits));
    });
  }
  /// The same of a head.
  static bool fits_double(const attention_head& h) noexcept {
    const detail::attention_forms f = detail::forms_of(h);
    return f.sum_q <= most_in_double / f.far_k && h.keys <= most_in_double / (f.max_p * f.far_v);
  }

  static void sum_scores(const attention_head& h, const attention_operands& x, index i,
                         std::span<double> sums) noexcept {
    for (std::size_t j = 0; j < sums.size(); ++j) {
      const std::uint8_t* key = x.k + static_cast<index>(j) * x.k_stride;
      double sum = 0;
      for (std::size_t d = 0; d < h.q_zero.size(); ++d) {
        sum += static_cast<double>(x.q[i * x.q_stride + static_cast<index>(d)] - h.q_zero[d]) *
               static_cast<double>(key[d] - h.k_zero);
      }
      sums[j] = sum;
    }
  }
  static void sum_scores(const attention_head& h, const attention_operands& x, index i,
                         std::span<std::int64_t> sums) noexcept {
    detail::plain_scores(h, x, i, h.keys, sums.data());
  }

  /// Even and odd sums of powers of two times values, or one sum for uniform codes.
  static void sum_values(const attention_head& h, const attention_operands& x,
                         std::span<const std::uint8_t> codes, index visible, std::span<double> even,
                         std::span<double> odd) noexcept {
    std::fill(even.begin(), even.end(), 0.0);
    std::fill(odd.begin(), odd.end(), 0.0);
    h.probability.visit([&]<class C>(const C& codec, const auto& params) {
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
    });
  }
  static void sum_values(const attention_head& h, const attention_operands& x,
                         std::span<const std::uint8_t> codes, index visible, std::span<std::int64_t> even,
                         std::span<std::int64_t> odd) noexcept {
    detail::plain_values(h, x, codes.data(), visible, even.data(), odd.data());
  }
};

}  // namespace repquant
