// SPDX-License-Identifier: MIT
/// Keys and values of the tokens of a sequence, in the panels that the products of an attention read: what a
/// decoder keeps. A token is added without a look at those before it, and nothing is packed again
/// (docs/decisions/0016).
///
/// Of each group of heads that share them there are panels of keys (a token is a column) and, behind them,
/// panels of values (a token is a place). Values have room for `capacity` tokens; where the last ones lie
/// does not depend on how many there are.
#pragma once

#include <repquant/infer/packed_keys_values.hpp>
#include <repquant/kernel/panel_codes.hpp>

namespace repquant {

/// Where they lie, and the instruction set whose panels they are. Null: an attention without a past.
struct kept_keys_values {
  std::byte* memory = nullptr;  ///< [capacity x kept_token_bytes x groups]
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
  return (p.keys.bytes() + p.values.bytes()) / tokens;
}

/// The first `keys` tokens of a group, as attend reads them.
inline packed_keys_values kept_group(const kept_keys_values& kept, const attention_head& h, index group,
                                     index keys) noexcept {
  packed_keys_values p = detail::kept_layouts(kept.set, h, keys, kept.capacity);
  p.key_panels = kept.memory + group * kept.capacity * kept_token_bytes(kept.set, h);
  p.value_panels =
      p.key_panels + detail::kept_layouts(kept.set, h, kept.capacity, kept.capacity).keys.bytes();
  return p;
}

/// Adds tokens, or writes them anew.
///
/// Shapes    k and v [rows x head_dim] with `stride` between rows
/// Requires  position + rows <= kept.capacity
/// Cost      a store per code
inline void keep_tokens(const kept_keys_values& kept, const attention_head& h, index group, index position,
                        index rows, const std::uint8_t* k, const std::uint8_t* v, index stride) noexcept {
  REPQUANT_ASSERT(position + rows <= kept.capacity);
  const packed_keys_values p = kept_group(kept, h, group, kept.capacity);
  std::byte* const keys = kept.memory + (p.key_panels - kept.memory);
  std::byte* const values = kept.memory + (p.value_panels - kept.memory);
  write_codes(p.keys, {position, position + rows, 0, h.head_dim}, {k, stride, 1}, keys);
  write_codes(p.values, {0, h.head_dim, position, position + rows}, {v, 1, stride}, values);
}

/// Reads the first `keys` tokens back as codes: what the definitions of attend work on.
///
/// Shapes    k and v [keys x head_dim] with `stride` between rows
inline void read_tokens(const kept_keys_values& kept, const attention_head& h, index group, index keys,
                        std::uint8_t* k, std::uint8_t* v, index stride) noexcept {
  const packed_keys_values p = kept_group(kept, h, group, keys);
  read_codes(p.keys, {0, keys, 0, h.head_dim}, p.key_panels, k, stride, 1);
  read_codes(p.values, {0, h.head_dim, 0, keys}, p.value_panels, v, 1, stride);
}

}  // namespace repquant
