// SPDX-License-Identifier: MIT
/// What attend makes of the numbers of a head before it sees a code: the same for every token, so a model
/// that is prepared has it once.
#pragma once

#include <repquant/infer/attention_head.hpp>
#include <repquant/infer/code_weights.hpp>
#include <repquant/infer/packed_keys_values.hpp>
#include <repquant/infer/workspace.hpp>

#include <type_traits>

namespace repquant {

/// A head whose numbers were looked at, in memory of prepared_head_bytes.
struct prepared_head {
  /// What is not an array; these are the first bytes.
  struct numbers {
    instruction_set set;            ///< whose panels `slope` is for
    detail::attention_forms forms;  ///< with any number of keys: value_wide says nothing
    value_factor factor;
    std::uint8_t masked = 0;  ///< the code of probability 0
    bool has_odd = false;     ///< values have two sums
  };
  const numbers* of = nullptr;
  /// shift - zero point of each column of values, behind them zeros for a panel, and in front.
  const std::int32_t* slope = nullptr;
  value_scales scales;
};
static_assert(std::is_trivially_copyable_v<prepared_head::numbers>);

namespace detail {

/// The most columns of a panel.
inline constexpr index widest_panel = 32;
/// What stands in front of and behind the columns of a head, so that it may begin within a panel.
constexpr index padded_slopes(index head_dim) noexcept { return padded_scores(head_dim) + 2 * widest_panel; }

}  // namespace detail

/// Bytes that prepare_head writes.
[[nodiscard]] constexpr std::size_t prepared_head_bytes(index head_dim) noexcept {
  return workspace_bytes_of<prepared_head::numbers>(1) +
         workspace_bytes_of<std::int32_t>(detail::padded_slopes(head_dim)) +
         2 * workspace_bytes_of<float>(head_dim);
}

/// Where prepare_head has put what.
///
/// Requires  memory as prepare_head wrote it, for a head of so many columns
[[nodiscard]] inline prepared_head view_head(std::span<const std::byte> memory, index head_dim) noexcept {
  const std::byte* const slope = memory.data() + workspace_bytes_of<prepared_head::numbers>(1);
  const std::byte* const even = slope + workspace_bytes_of<std::int32_t>(detail::padded_slopes(head_dim));
  const auto columns = static_cast<std::size_t>(head_dim);
  prepared_head p;
  p.of = reinterpret_cast<const prepared_head::numbers*>(memory.data());
  p.slope = reinterpret_cast<const std::int32_t*>(slope) + detail::widest_panel;
  p.scales.even = {reinterpret_cast<const float*>(even), columns};
  if (p.of->has_odd) {
    p.scales.odd = {reinterpret_cast<const float*>(even + workspace_bytes_of<float>(head_dim)), columns};
  }
  return p;
}

/// Looks at the numbers of a head for Arch.
///
/// Shapes    memory [prepared_head_bytes(h.head_dim)], aligned to 8, better to 64
/// Requires  check(h) says nothing. queries and keys do not matter
template<class Arch = default_arch>
inline prepared_head prepare_head(const attention_head& h, std::span<std::byte> memory) noexcept {
  REPQUANT_ASSERT(memory.size() >= prepared_head_bytes(h.head_dim));
  constexpr instruction_set set = instruction_set_of<Arch>;
  const prepared_head::numbers n{set, detail::forms_of(h), value_factor(h.probability),
                                 h.probability.masked(),
                                 h.probability.kind == probability_kind::as_log_sqrt2};
  std::memcpy(memory.data(), &n, sizeof n);
  const prepared_head p = view_head(memory, h.head_dim);
  auto* const slope = const_cast<std::int32_t*>(p.slope);
  std::fill(slope - detail::widest_panel, slope - detail::widest_panel + detail::padded_slopes(h.head_dim),
            0);
  const index shift = detail::value_layout_of(set, 1, h.head_dim, h.code_bits, h.probability).shift;
  for (index d = 0; d < h.head_dim; ++d)
    slope[d] = static_cast<std::int32_t>(shift - index{h.v_zero[static_cast<std::size_t>(d)]});
  const auto columns = static_cast<std::size_t>(h.head_dim);
  auto* const even = const_cast<float*>(p.scales.even.data());
  float* const odd = even + workspace_bytes_of<float>(h.head_dim) / sizeof(float);
  static_cast<void>(scales_of<Arch>(h.probability, h.value_scale, {even, columns}, {odd, columns}));
  return p;
}

}  // namespace repquant
