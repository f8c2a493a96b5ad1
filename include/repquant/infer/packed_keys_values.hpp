// SPDX-License-Identifier: MIT
/// Keys and values of an attention in the panels that its products read: made once for all heads that share
/// them, and for all queries.
#pragma once

#include <repquant/infer/attention_head.hpp>
#include <repquant/infer/workspace.hpp>
#include <repquant/kernel/pack_panels.hpp>

namespace repquant {

namespace detail {

/// Keys in panels whose places are the columns of the head.
constexpr panel_layout key_layout(instruction_set set, index keys, index head_dim, int bits) noexcept {
  return layout_of_bits(set, head_dim, keys, bits, bits);
}
/// Values in panels whose places are keys.
constexpr panel_layout value_layout_of(instruction_set set, index keys, index head_dim, int bits,
                                       const probability_code& code,
                                       packing_goal goal = packing_goal::speed) noexcept {
  return code.visit([&]<class C>(const C& codec, const auto&) {
    if constexpr (std::same_as<C, uniform>) {
      return layout_of_bits(set, keys, head_dim, code.bits, bits, goal);
    } else {
      return value_layout(set, codec, keys, head_dim, bits);
    }
  });
}

}  // namespace detail

/// Keys and values of a head in panels: those of all heads that share them.
struct packed_keys_values {
  panel_layout keys;
  panel_layout values;  ///< of first_column + head_dim columns
  const std::byte* key_panels = nullptr;
  const std::byte* value_panels = nullptr;
  index first_column = 0;  ///< of value_panels, below a panel's width: where the head begins
  /// Of each key the int32 -sum_d q_zero[d] k'[d], k' its codes less keys.shift, modulo 2^32, up to the
  /// end of the last panel; null where nobody knows them
  const std::int32_t* key_offsets = nullptr;
};

/// Bytes that pack_keys_values needs, on any architecture.
[[nodiscard]] constexpr std::size_t packed_keys_values_size(index keys, index head_dim) noexcept {
  // at most int16, in panels of at most 32
  return workspace_alignment +
         2 * workspace_bytes_of<std::int16_t>(padded_scores(keys) * padded_scores(head_dim));
}

/// Packs the keys and the values of a head for attend<Arch>.
///
/// Requires  check(h) says nothing; memory of packed_keys_values_size bytes, any alignment, which what is
///           returned points to. Of h only keys, head_dim, code_bits and the codec of the
///           probabilities matter
/// Cost      one pass over both
template<class Arch = default_arch>
[[nodiscard]] inline packed_keys_values pack_keys_values(const attention_head& h, const attention_operands& x,
                                                         std::span<std::byte> memory) noexcept {
  constexpr instruction_set set = instruction_set_of<Arch>;
  workspace_parts parts(memory);
  packed_keys_values p;
  p.keys = detail::key_layout(set, h.keys, h.head_dim, h.code_bits);
  p.values = detail::value_layout_of(set, h.keys, h.head_dim, h.code_bits, h.probability);
  const std::span<std::byte> keys = parts.take<std::byte>(p.keys.bytes());
  const std::span<std::byte> values = parts.take<std::byte>(p.values.bytes());
  pack_panels(p.keys, {x.k, x.k_stride, 1}, keys.data());
  pack_panels(p.values, {x.v, 1, x.v_stride}, values.data());
  p.key_panels = keys.data();
  p.value_panels = values.data();
  return p;
}

}  // namespace repquant
