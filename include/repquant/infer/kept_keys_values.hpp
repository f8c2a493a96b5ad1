// SPDX-License-Identifier: MIT
/// Keys and values of the tokens of a sequence, in the panels that the products of an attention read: what a
/// decoder keeps. A token is added without a look at those before it, and nothing is packed again
/// (docs/decisions/0016).
///
/// Of each group of heads that share them there are panels of keys: a token is a column. Behind those of all
/// groups there is for each head, and each of its keys, what makes scores of a query those of the query less
/// its zero points; and then the values of all groups side by side in one matrix of panels: a token is a
/// place. A head whose columns begin within a panel is read with some of its neighbour's. All of it has room
/// for `capacity` tokens, so where a token lies does not depend on how many there are.
#pragma once

#include <repquant/infer/packed_keys_values.hpp>
#include <repquant/kernel/panel_codes.hpp>

namespace repquant {

/// Where they lie, and the instruction set whose panels they are. Null: an attention without a past.
struct kept_keys_values {
  std::byte* memory = nullptr;  ///< [capacity x kept_token_bytes], aligned to 4
  index capacity = 0;           ///< in tokens, of kept_capacity
  instruction_set set = instruction_set::scalar;
};

/// Heads that keep keys and values together.
struct kept_sizes {
  index groups = 1;   ///< of heads that share keys and values
  index sharing = 1;  ///< heads of a group
};

/// Room for `tokens` tokens is room for so many: a whole number of panels on every instruction set.
constexpr index kept_capacity(index tokens) noexcept { return (tokens + 31) / 32 * 32; }

namespace detail {

/// The panels of the keys of a group, and of the values of all groups, with `keys` keys. Of h only head_dim,
/// code_bits and the kind and bits of the probabilities matter. Reading is the work of one query: both are
/// bytes where there are products of bytes that serve them.
constexpr packed_keys_values kept_layouts(instruction_set set, const attention_head& h, index groups,
                                          index keys, index capacity) noexcept {
  const packing_goal goal = h.code_bits > 4 ? packing_goal::memory : packing_goal::speed;
  return {layout_of_bits(set, h.head_dim, keys, h.code_bits, h.code_bits, goal),
          value_layout_of(set, capacity, groups * h.head_dim, h.code_bits, h.probability, goal)};
}

}  // namespace detail

/// Bytes that a token takes.
constexpr index kept_token_bytes(instruction_set set, const attention_head& h,
                                 const kept_sizes& sizes) noexcept {
  const index tokens = kept_capacity(1);
  const packed_keys_values p = detail::kept_layouts(set, h, sizes.groups, tokens, tokens);
  return (sizes.groups * p.keys.bytes() + p.values.bytes()) / tokens +
         sizes.groups * sizes.sharing * static_cast<index>(sizeof(std::int32_t));
}

/// The heads of an attention with a number of tokens.
class kept_heads {
 public:
  kept_heads(const kept_keys_values& kept, const attention_head& h, const kept_sizes& sizes,
             index tokens) noexcept
      : sizes_(sizes),
        capacity_(kept.capacity),
        layouts_(detail::kept_layouts(kept.set, h, sizes.groups, tokens, kept.capacity)),
        keys_(kept.memory),
        key_bytes_((kept.capacity >> panel_width_bits(kept.set)) * layouts_.keys.panel_bytes()),
        offsets_(reinterpret_cast<std::int32_t*>(keys_ + sizes.groups * key_bytes_)),
        values_(reinterpret_cast<std::byte*>(offsets_ + sizes.groups * sizes.sharing * kept.capacity)) {
    REPQUANT_ASSERT(reinterpret_cast<std::uintptr_t>(kept.memory) % sizeof(std::int32_t) == 0);
  }

  /// A head of a group as attend reads it.
  [[nodiscard]] packed_keys_values of(index head, index group) const noexcept {
    const index dim = layouts_.keys.k;
    const int width_bits = panel_width_bits(layouts_.values.set);
    packed_keys_values p = layouts_;
    p.key_panels = keys_ + group * key_bytes_;
    p.key_offsets = offsets_ + head * capacity_;
    p.first_column = (group * dim) & ((index{1} << width_bits) - 1);
    p.value_panels = values_ + ((group * dim) >> width_bits) * layouts_.values.panel_bytes();
    p.values.n = p.first_column + dim;
    return p;
  }

  /// Adds tokens, or writes them anew: rows [position, position + rows). q_zero are the zero points of the
  /// queries of all heads.
  ///
  /// Shapes    k and v [rows x groups head_dim], q_zero [groups sharing head_dim]
  /// Requires  position + rows is at most the number of tokens
  /// Cost      two stores for a column, and a multiplication for each head that reads it
  void keep(index position, index rows, const std::uint8_t* k, const std::uint8_t* v,
            std::span<const std::int32_t> q_zero) const noexcept {
    REPQUANT_ASSERT(position + rows <= layouts_.keys.n);
    const index dim = layouts_.keys.k;
    const index stride = sizes_.groups * dim;
    write_codes(layouts_.values, {0, stride, position, position + rows}, {v, 1, stride}, values_);
    const std::int32_t* zero = q_zero.data();
    std::int32_t* offsets = offsets_ + position;  // of a head
    for (index g = 0; g < sizes_.groups; ++g) {
      const std::uint8_t* const keys = k + g * dim;
      write_codes(layouts_.keys, {position, position + rows, 0, dim}, {keys, stride, 1},
                  keys_ + g * key_bytes_);
      for (index n = 0; n < sizes_.sharing; ++n, zero += dim, offsets += capacity_) {
        for (index i = 0; i < rows; ++i) offsets[i] = offset_of(keys + i * stride, zero, dim);
      }
    }
  }

  /// Reads the tokens of a group back as codes: what the definitions of attend work on.
  ///
  /// Shapes    k and v [tokens x head_dim] with `stride` between rows
  void read(index group, std::uint8_t* k, std::uint8_t* v, index stride) const noexcept {
    const index dim = layouts_.keys.k;
    const index tokens = layouts_.keys.n;
    read_codes(layouts_.keys, {0, tokens, 0, dim}, keys_ + group * key_bytes_, k, stride, 1);
    read_codes(layouts_.values, {group * dim, (group + 1) * dim, 0, tokens}, values_, v, 1, stride);
  }

 private:
  /// -sum_d zero[d] (key[d] - shift) modulo 2^32.
  [[nodiscard]] std::int32_t offset_of(const std::uint8_t* key, const std::int32_t* zero,
                                       index dim) const noexcept {
    std::uint32_t sum = 0;
    for (index d = 0; d < dim; ++d)
      sum -= static_cast<std::uint32_t>(zero[d]) * static_cast<std::uint32_t>(key[d] - layouts_.keys.shift);
    return static_cast<std::int32_t>(sum);
  }

  kept_sizes sizes_;
  index capacity_;
  packed_keys_values layouts_;
  std::byte* keys_;
  index key_bytes_;  ///< of a group
  std::int32_t* offsets_;
  std::byte* values_;
};

}  // namespace repquant
