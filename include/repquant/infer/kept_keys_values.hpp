// SPDX-License-Identifier: MIT
/// Keys and values of the tokens of a sequence, in the panels that the products of an attention read: what a
/// decoder keeps. A token is added without a look at those before it, and nothing is packed again
/// (docs/decisions/0016).
///
/// Of each group of heads that share them there are panels of keys (a token is a column), behind them panels
/// of values (a token is a place), and the sum of each key: scores less the zero point that all columns of a
/// query have need nothing else. All of it has room for `capacity` tokens, so where a token lies does not
/// depend on how many there are.
#pragma once

#include <repquant/infer/packed_keys_values.hpp>
#include <repquant/kernel/panel_codes.hpp>

namespace repquant {

/// Where they lie, and the instruction set whose panels they are. Null: an attention without a past.
struct kept_keys_values {
  std::byte* memory = nullptr;  ///< [capacity x kept_token_bytes x groups], of any alignment
  index capacity = 0;           ///< in tokens, of kept_capacity
  instruction_set set = instruction_set::scalar;
};

/// Room for `tokens` tokens is room for so many: a whole number of panels on every instruction set.
constexpr index kept_capacity(index tokens) noexcept { return (tokens + 31) / 32 * 32; }

namespace detail {

/// The panels of a group with `keys` keys. Of h only head_dim, code_bits and the kind and bits of the
/// probabilities matter. Reading is the work of one query: keys are bytes wherever there are products of
/// bytes.
constexpr packed_keys_values kept_layouts(instruction_set set, const attention_head& h, index keys,
                                          index capacity) noexcept {
  const packing_goal goal = h.code_bits > 4 ? packing_goal::memory : packing_goal::speed;
  return {layout_of_bits(set, h.head_dim, keys, h.code_bits, h.code_bits, goal),
          value_layout_of(set, capacity, h.head_dim, h.code_bits, h.probability)};
}

}  // namespace detail

/// Bytes that a token takes in a group.
constexpr index kept_token_bytes(instruction_set set, const attention_head& h) noexcept {
  const index tokens = kept_capacity(1);
  const packed_keys_values p = detail::kept_layouts(set, h, tokens, tokens);
  return (p.keys.bytes() + p.values.bytes()) / tokens + static_cast<index>(sizeof(std::int32_t));
}

/// The groups of an attention with a number of tokens.
class kept_groups {
 public:
  kept_groups(const kept_keys_values& kept, const attention_head& h, index tokens) noexcept
      : memory_(kept.memory),
        one_(detail::kept_layouts(kept.set, h, tokens, kept.capacity)),
        values_(kept.capacity / one_.keys.width() * one_.keys.panel_bytes()),
        sums_(values_ + one_.values.bytes()),
        bytes_(sums_ + kept.capacity * static_cast<index>(sizeof(std::int32_t))) {}

  /// A group as attend reads it.
  [[nodiscard]] packed_keys_values operator[](index group) const noexcept {
    packed_keys_values p = one_;
    p.key_panels = memory_ + group * bytes_;
    p.value_panels = p.key_panels + values_;
    p.key_sums = p.key_panels + sums_;
    return p;
  }

  /// Adds tokens to a group, or writes them anew: rows [position, position + rows).
  ///
  /// Shapes    k and v [rows x head_dim] with `stride` between rows
  /// Requires  position + rows is at most the number of tokens
  /// Cost      a store per code
  void keep(index group, index position, index rows, const std::uint8_t* k, const std::uint8_t* v,
            index stride) const noexcept {
    REPQUANT_ASSERT(position + rows <= one_.keys.n);
    std::byte* const at = memory_ + group * bytes_;
    const index dim = one_.keys.k;
    write_codes(one_.keys, {position, position + rows, 0, dim}, {k, stride, 1}, at);
    write_codes(one_.values, {0, dim, position, position + rows}, {v, 1, stride}, at + values_);
    for (index i = 0; i < rows; ++i) {
      std::int32_t sum = 0;
      for (index d = 0; d < dim; ++d) sum += k[i * stride + d] - one_.keys.shift;
      std::memcpy(at + sums_ + (position + i) * static_cast<index>(sizeof sum), &sum, sizeof sum);
    }
  }

  /// Reads the tokens of a group back as codes: what the definitions of attend work on.
  ///
  /// Shapes    k and v [tokens x head_dim] with `stride` between rows
  void read(index group, std::uint8_t* k, std::uint8_t* v, index stride) const noexcept {
    const packed_keys_values p = (*this)[group];
    const index dim = p.keys.k;
    read_codes(p.keys, {0, p.keys.n, 0, dim}, p.key_panels, k, stride, 1);
    read_codes(p.values, {0, dim, 0, p.keys.n}, p.value_panels, v, 1, stride);
  }

 private:
  std::byte* memory_;
  packed_keys_values one_;  ///< its layouts
  index values_;            ///< bytes of a group in front of its values, of its sums, of the next group
  index sums_;
  index bytes_;
};

}  // namespace repquant
