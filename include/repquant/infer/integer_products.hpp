// SPDX-License-Identifier: MIT
/// integer_products: the matrix products of the engine, in exact integers.
///
/// Length: what is read from an instruction, what is prepared of it, and its run.
#pragma once

#include <repquant/infer/attention.hpp>
#include <repquant/infer/execute.hpp>
#include <repquant/infer/kept_keys_values.hpp>
#include <repquant/infer/linear.hpp>

namespace repquant {

/// The sizes of a linear instruction, without its numbers.
constexpr linear_codes sizes_of(const instruction& s) noexcept {
  linear_codes l;
  l.in = s.inner;
  l.out = s.cols;
  return l;
}

/// The numbers of a linear instruction; `packed` is what pack_products wrote, or empty.
inline linear_codes linear_of(const instruction& s, std::span<const std::byte> constants,
                              std::span<const std::byte> packed) noexcept {
  linear_codes l = sizes_of(s);
  l.w = detail::numbers<std::uint8_t>(constants, s.data[0], l.in * l.out);
  l.w_zero = detail::numbers<std::int32_t>(constants, s.data[1], l.out);
  l.multiplier = detail::numbers<float>(constants, s.data[2], l.out);
  l.offset = detail::numbers<float>(constants, s.data[3], l.out);
  l.x_zero = s.zero_a;
  l.x_bits = s.bits_a;
  l.w_bits = s.bits;
  l.packed = packed;
  return l;
}

/// The numbers of head `n` of an attention instruction.
inline attention_head head_of(const instruction& s, std::span<const std::byte> constants, index n,
                              index queries, index keys) noexcept {
  const auto d = static_cast<std::size_t>(s.inner);
  const auto head = static_cast<std::size_t>(n);
  const std::size_t group = head / static_cast<std::size_t>(s.heads / s.kv_heads);
  const index kv_cols = static_cast<index>(s.kv_heads) * s.inner;
  attention_head h;
  h.queries = queries;
  h.keys = keys;
  h.head_dim = s.inner;
  h.q_zero = detail::numbers<std::int32_t>(constants, s.data[1], s.cols).subspan(head * d, d);
  h.k_zero = s.zero_b;
  h.v_zero = detail::numbers<std::int32_t>(constants, s.data[2], kv_cols).subspan(group * d, d);
  h.code_bits = s.bits_a;
  h.score_multiplier = detail::numbers<float>(constants, s.data[0], s.heads)[head];
  h.value_scale = detail::numbers<float>(constants, s.data[3], kv_cols).subspan(group * d, d);
  h.probability = probability_of(s);
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

/// How many bytes the packed form of an instruction takes on Arch: the weights of a linear one, the prepared
/// heads of an attention; none for others.
///
/// Requires  check_products(s, constants) said nothing
template<class Arch = default_arch>
std::size_t packed_bytes(const instruction& s, std::span<const std::byte> constants,
                         packing_goal goal = packing_goal::speed) noexcept {
  if (s.kind == opcode::attention) return static_cast<std::size_t>(s.heads) * prepared_head_bytes(s.inner);
  if (s.kind != opcode::linear) return 0;
  return linear_packed_bytes<Arch>(linear_of(s, constants, {}), goal);
}

/// Packs the weights of a linear instruction for Arch, and prepares the heads of an attention; does nothing
/// for others.
///
/// Requires  check_products(s, constants) said nothing; out.size() == packed_bytes<Arch>(s, constants, goal),
///           aligned to 8
template<class Arch = default_arch>
void pack_products(const instruction& s, std::span<const std::byte> constants, std::span<std::byte> out,
                   packing_goal goal = packing_goal::speed) noexcept {
  if (s.kind == opcode::linear) pack_linear<Arch>(linear_of(s, constants, {}), out, goal);
  const std::size_t bytes = prepared_head_bytes(s.inner);
  for (index n = 0; s.kind == opcode::attention && n < s.heads; ++n) {
    prepare_head<Arch>(head_of(s, constants, n, 1, 1),
                       out.subspan(static_cast<std::size_t>(n) * bytes, bytes));
  }
}

/// The heads of an attention that keep keys and values together.
constexpr kept_sizes kept_sizes_of(const instruction& s) noexcept {
  return {s.kv_heads, s.heads / s.kv_heads};
}

/// Bytes that a decoder keeps of a token for an instruction: keys and values of an attention.
inline index kept_bytes(const instruction& s, std::span<const std::byte> constants,
                        instruction_set set) noexcept {
  if (s.kind != opcode::attention) return 0;
  return kept_token_bytes(set, head_of(s, constants, 0, 1, 1), kept_sizes_of(s));
}

/// Adds the keys and values of `rows` tokens from `position` on to what an attention keeps.
///
/// Shapes    k and v [rows x kv_heads inner] contiguous
inline void keep_rows(const instruction& s, std::span<const std::byte> constants,
                      const kept_keys_values& kept, index position, index rows, const std::uint8_t* k,
                      const std::uint8_t* v) noexcept {
  kept_heads(kept, head_of(s, constants, 0, 1, 1), kept_sizes_of(s), position + rows)
      .keep(position, rows, k, v, detail::numbers<std::int32_t>(constants, s.data[1], s.cols));
}

/// Nothing, or why the integer products cannot hold an instruction: what check() of a linear layer or of an
/// attention head says.
inline failure check_products(const instruction& s, std::span<const std::byte> constants) noexcept {
  if (s.kind == opcode::linear) return check(linear_of(s, constants, {}), "products: linear");
  if (s.kind != opcode::attention) return {};
  for (index n = 0; n < s.heads; ++n) {
    if (failure f = check(head_of(s, constants, n, 1, 1), "products: attention")) return f;
  }
  return {};
}

/// The most keys that the integer products can hold in an attention instruction; any number in others.
inline index most_keys(const instruction& s, std::span<const std::byte> constants) noexcept {
  index most = std::numeric_limits<index>::max();
  if (s.kind != opcode::attention) return most;
  for (index n = 0; n < s.heads; ++n) most = std::min(most, most_keys(head_of(s, constants, n, 1, 1)));
  return most;
}

/// The products of the engine. Made anew for every instruction: it only points to memory.
struct integer_products {
  std::span<const std::byte> weights;  ///< packed, of the instruction at hand
  std::span<std::byte> scratch;        ///< scratch_bytes(instruction, rows, keys) of them
  /// Of an attention with a past: its keys and values are read here, not where attend is told
  kept_keys_values kept = {};

  /// Bytes of scratch for an instruction that runs on at most `rows` rows, an attention with at most `keys`.
  static std::size_t scratch_bytes(const instruction& s, index rows, index keys) noexcept {
    if (s.kind == opcode::linear) return linear_workspace_size(sizes_of(s));
    if (s.kind != opcode::attention) return 0;
    return 2 * code_bytes(s, keys) + attention_scratch_size(rows, keys, s.inner);
  }

  template<class Arch>
  void linear(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* a, index rows,
              float* out) noexcept {
    linear_rows<Arch>(linear_of(s, constants, weights), a, rows, s.inner, scratch, out, s.cols);
  }

  template<class Arch, class Sink>
  void attend(const instruction& s, std::span<const std::byte> constants, const std::uint8_t* q,
              const std::uint8_t* k, const std::uint8_t* v, index rows, index keys, float* out,
              Sink&& sink) noexcept {
    const std::size_t front = packed_keys_values_size(keys, s.inner);
    const index sharing = s.heads / s.kv_heads;
    const std::size_t codes = code_bytes(s, keys);
    auto* const read_k = reinterpret_cast<std::uint8_t*>(scratch.data());
    std::uint8_t* const read_v = read_k + codes;
    const std::span<std::byte> rest = scratch.subspan(2 * codes);
    const auto prepared = [&](index n) {
      const std::size_t bytes = prepared_head_bytes(s.inner);
      return view_head(weights.subspan(static_cast<std::size_t>(n) * bytes, bytes), s.inner);
    };
    const bool is_prepared = !weights.empty() && prepared(0).of->set == instruction_set_of<Arch>;
    const auto run = [&](index n, const attention_head& h, const attention_operands& x,
                         const packed_keys_values& packed) {
      const std::span<std::byte> scratch_of_head = rest.subspan(front);
      const auto told = [&](index, const std::uint8_t* made, index count) {
        sink(s.site, made, index{1}, count);
      };
      if (is_prepared) {
        repquant::attend<Arch>(h, prepared(n), x, packed, scratch_of_head, told);
      } else {
        repquant::attend<Arch>(h, x, packed, scratch_of_head, told);
      }
    };
    packed_keys_values packed;
    if (kept.memory == nullptr) {
      for (index n = 0; n < s.heads; ++n) {
        const attention_head h = head_of(s, constants, n, rows, keys);
        const attention_operands x = operands_of(s, n, q, k, v, out);
        if (n % sharing == 0) packed = pack_keys_values<Arch>(h, x, rest.first(front));
        run(n, h, x, packed);
      }
      return;
    }
    const bool foreign = kept.set != instruction_set_of<Arch>;
    const kept_heads heads(kept, head_of(s, constants, 0, rows, keys), kept_sizes_of(s), keys);
    for (index n = 0; n < s.heads; ++n) {
      const attention_head h = head_of(s, constants, n, rows, keys);
      attention_operands x = operands_of(s, n, q, read_k, read_v, out);
      x.k = read_k;
      x.v = read_v;
      x.k_stride = x.v_stride = s.inner;
      if (foreign || reads_codes(h, is_prepared ? prepared(n).of->forms : detail::forms_of(h)))
        heads.read(n / sharing, read_k, read_v, s.inner);
      if (!foreign) {
        packed = heads.of(n, n / sharing);
      } else if (n % sharing == 0) {
        packed = pack_keys_values<Arch>(h, x, rest.first(front));
      }
      run(n, h, x, packed);
    }
  }

 private:
  /// Bytes of the keys, or the values, of a group as codes.
  static std::size_t code_bytes(const instruction& s, index keys) noexcept {
    return workspace_bytes_of<std::uint8_t>(keys * s.inner);
  }
};

}  // namespace repquant
