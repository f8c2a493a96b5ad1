// SPDX-License-Identifier: MIT
/// integer_products: the matrix products of the engine, in exact integers.
#pragma once

#include <repquant/infer/attention.hpp>
#include <repquant/infer/execute.hpp>
#include <repquant/kernel/product.hpp>

namespace repquant {

namespace detail {
/// Largest |w - zero| of the weights of a linear instruction, from the codes that are there.
inline std::int64_t largest_weight(const instruction& s, std::span<const std::byte> constants) noexcept {
  const auto codes = numbers<std::uint8_t>(constants, s.data[0], static_cast<index>(s.cols) * s.inner);
  const auto zero = numbers<std::int32_t>(constants, s.data[1], s.cols);
  std::int64_t most = 0;
  for (index o = 0; o < s.cols; ++o) {
    for (index i = 0; i < s.inner; ++i) {
      const std::int64_t w =
          codes[static_cast<std::size_t>(o * s.inner + i)] - std::int64_t{zero[static_cast<std::size_t>(o)]};
      most = std::max(most, w < 0 ? -w : w);
    }
  }
  return most;
}
}  // namespace detail

/// The numbers of one head of an attention instruction.
inline attention_head head_of(const instruction& s, index queries, index keys) noexcept {
  attention_head h;
  h.queries = queries;
  h.keys = keys;
  h.head_dim = s.inner;
  h.q_zero = s.zero_a;
  h.k_zero = s.zero_b;
  h.v_zero = s.zero_c;
  h.code_bits = s.bits_a;
  h.score_multiplier = s.m_score;
  h.value_scale = s.value_scale;
  h.probability = {s.probability,       s.probability_bits,  static_cast<zero_rule>(s.probability_zero_rule),
                   s.probability_depth, s.probability_scale, s.probability_zero};
  h.causal = s.flag != 0;
  return h;
}

/// Where the operands of head `n` of an attention instruction lie.
inline attention_operands operands_of(const instruction& s, index n, const std::uint8_t* q,
                                      const std::uint8_t* k, const std::uint8_t* v, float* out) noexcept {
  const index d = s.inner;
  const index group = n / (s.heads / s.kv_heads);
  return {q + n * d,     s.heads * d,    k + group * d, s.kv_heads * d,
          v + group * d, s.kv_heads * d, out + n * d,   s.heads * d};
}

/// How many int16 the packed weights of an instruction take: one per weight of a linear one.
constexpr std::size_t packed_weight_count(const instruction& s) noexcept {
  return s.kind == opcode::linear ? static_cast<std::size_t>(s.cols) * static_cast<std::size_t>(s.inner) : 0;
}

/// Writes the weights of a linear instruction centred, w - zero point, in int16 [cols x inner].
///
/// Requires  check_products(s, constants) said nothing; out.size() == packed_weight_count(s)
inline void pack_weights(const instruction& s, std::span<const std::byte> constants,
                         std::span<std::int16_t> out) noexcept {
  if (s.kind != opcode::linear) return;
  const auto codes =
      detail::numbers<std::uint8_t>(constants, s.data[0], static_cast<index>(s.cols) * s.inner);
  const auto zero = detail::numbers<std::int32_t>(constants, s.data[1], s.cols);
  const auto inner = static_cast<std::size_t>(s.inner);
  for (std::size_t o = 0; o < static_cast<std::size_t>(s.cols); ++o) {
    center<scalar_arch>(codes.subspan(o * inner, inner), zero[o], out.subspan(o * inner, inner));
  }
}

/// Nothing, or why the integer products cannot hold an instruction: a zero point that int16 cannot centre, or
/// an int32 sum that could overflow (got = the inner size, want = the largest that fits).
///
/// Cost  one pass over the weights of a linear instruction
inline failure check_products(const instruction& s, std::span<const std::byte> constants) noexcept {
  const std::int64_t most_a = center_largest(s.zero_a, 1 << s.bits_a);
  if (s.kind == opcode::linear) {
    for (std::int32_t z : detail::numbers<std::int32_t>(constants, s.data[1], s.cols)) {
      if (!center_fits(z)) return {errc::too_large, "products: zero point of a weight", z, 32767};
    }
    if (!center_fits(s.zero_a)) return {errc::too_large, "products: zero point", s.zero_a, 32767};
    const std::int64_t most_w = detail::largest_weight(s, constants);
    if (!product_fits(s.inner, most_a, most_w)) {
      return {errc::too_large, "products: columns of a linear layer", s.inner, product_chunk(most_a, most_w)};
    }
  }
  // attention proves its own sums, and takes wider ones where int32 does not do
  if (s.kind == opcode::attention) return check(head_of(s, 1, 1), "products: attention");
  return {};
}

/// The products of the engine. Made anew for every instruction: it only points to memory.
struct integer_products {
  std::span<const std::int16_t> weights;  ///< packed, of the instruction at hand
  std::span<std::byte> scratch;           ///< scratch_bytes(instruction, rows) of them

  /// Bytes of scratch for an instruction whose operands have at most `rows` rows.
  static std::size_t scratch_bytes(const instruction& s, index rows) noexcept {
    if (s.kind == opcode::linear) {
      const auto n = static_cast<std::size_t>(std::min<index>(rows, row_block));
      return detail::round_up(n * static_cast<std::size_t>(s.inner) * sizeof(std::int16_t), 64) +
             n * static_cast<std::size_t>(s.cols) * sizeof(std::int32_t);
    }
    return s.kind == opcode::attention ? attention_scratch_size(rows, rows, s.inner) : 0;
  }

  /// y[t][o] = float(sum_k (a - zero_a)(w - zw)) m[o] + c[o], in blocks of tokens that stay in cache.
  template<class Arch>
  void linear(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* a, index rows,
              float* out) noexcept {
    const index k = s.inner;
    const index n = s.cols;
    const auto multiplier = detail::numbers<float>(constants, s.data[2], n);
    const auto offset = detail::numbers<float>(constants, s.data[3], n);
    const index block = std::min<index>(rows, row_block);
    auto* centred = reinterpret_cast<std::int16_t*>(scratch.data());
    auto* sums = reinterpret_cast<std::int32_t*>(
        scratch.data() + detail::round_up(static_cast<std::uint64_t>(block * k) * sizeof(std::int16_t), 64));
    for (index first = 0; first < rows; first += block) {
      const index m = std::min(block, rows - first);
      const auto count = static_cast<std::size_t>(m * k);
      center<Arch>({a + first * k, count}, s.zero_a, {centred, count});
      product<Arch>(centred, m, k, weights.data(), n, k, k, sums, n);
      for (index i = 0; i < m; ++i) {
        const auto width = static_cast<std::size_t>(n);
        requantize_row<Arch>(std::span<const std::int32_t>(sums + i * n, width), multiplier, offset,
                             std::span<float>(out + (first + i) * n, width));
      }
    }
  }

  template<class Arch, class Sink>
  void attend(const instruction& s, const std::uint8_t* q, const std::uint8_t* k, const std::uint8_t* v,
              index rows, index keys, float* out, Sink&& sink) noexcept {
    const attention_head h = head_of(s, rows, keys);
    for (index n = 0; n < s.heads; ++n) {
      repquant::attend<Arch>(
          h, operands_of(s, n, q, k, v, out), scratch,
          [&](index, const std::uint8_t* codes, index count) { sink(s.site, codes, index{1}, count); });
    }
  }

 private:
  static constexpr index row_block = 64;
};

}  // namespace repquant
