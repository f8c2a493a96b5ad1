// SPDX-License-Identifier: MIT
/// A linear layer on codes: y = requantize(sum (x - z_x)(w - z_w)), the sums exact.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/infer/epilogue.hpp>
#include <repquant/infer/workspace.hpp>
#include <repquant/kernel/exact_range.hpp>
#include <repquant/kernel/packed_weights.hpp>

#include <limits>

namespace repquant {

/// The numbers of a linear layer, all of them where the caller keeps them.
///
///   y[t][o] = float(sum_k (x[t][k] - x_zero)(w[o][k] - w_zero[o])) multiplier[o] + offset[o]
///
/// Shapes  w [out x in] contiguous, w_zero, multiplier [out]; offset [out] or empty
/// Units   multiplier = s_x s_w[o], offset the bias in the unit of y
struct linear_codes {
  index in = 0;
  index out = 0;
  std::span<const std::uint8_t> w;
  std::span<const std::int32_t> w_zero;
  std::span<const float> multiplier;
  std::span<const float> offset;
  std::int32_t x_zero = 0;
  int x_bits = 8;
  int w_bits = 8;
  std::span<const std::byte> packed;  ///< what pack_linear wrote

  /// The weights and zero points, as packing wants them.
  [[nodiscard]] constexpr weight_codes weights() const noexcept {
    return {{w.data(), in, 1}, in, out, x_bits, w_bits, x_zero, w_zero};
  }
};

/// Nothing, or what is wrong: an empty layer, sizes that disagree, bits out of range, sums that int64 could
/// not be proved to hold (too_large).
[[nodiscard]] inline failure check(const linear_codes& l, std::string_view place) noexcept {
  const auto size = [](const auto& s) { return static_cast<index>(s.size()); };
  if (l.in < 1 || l.out < 1) return {errc::empty, place, std::min(l.in, l.out), 1};
  if (size(l.w) != l.in * l.out) return {errc::shape_mismatch, place, size(l.w), l.in * l.out};
  if (size(l.w_zero) != l.out) return {errc::shape_mismatch, place, size(l.w_zero), l.out};
  if (size(l.multiplier) != l.out) return {errc::shape_mismatch, place, size(l.multiplier), l.out};
  if (!l.offset.empty() && size(l.offset) != l.out) {
    return {errc::shape_mismatch, place, size(l.offset), l.out};
  }
  if (l.x_bits < 2 || l.x_bits > 8) return {errc::bad_bits, place, l.x_bits, 8};
  if (l.w_bits < 2 || l.w_bits > 8) return {errc::bad_bits, place, l.w_bits, 8};
  const std::int64_t x = center_largest(l.x_zero, 1 << l.x_bits);
  for (std::int32_t z : l.w_zero) {
    const std::int64_t most =
        std::numeric_limits<std::int64_t>::max() / (x * center_largest(z, 1 << l.w_bits));
    if (l.in > most) return {errc::too_large, place, l.in, most};
  }
  return {};
}

/// Bytes that pack_linear writes. Depends on the weights: a count over them chooses the kernel.
///
/// Requires  check(l) says nothing
template<class Arch = default_arch>
[[nodiscard]] inline std::size_t linear_packed_bytes(const linear_codes& l,
                                                     packing_goal goal = packing_goal::speed) noexcept {
  return plan_packing(instruction_set_of<Arch>, l.weights(), goal).bytes();
}

/// Packs the weights for Arch.
///
/// Shapes    packed [linear_packed_bytes<Arch>(l, goal)], aligned to 8, better to 64
/// Requires  check(l) says nothing
template<class Arch = default_arch>
inline void pack_linear(const linear_codes& l, std::span<std::byte> packed,
                        packing_goal goal = packing_goal::speed) noexcept {
  pack_weights(plan_packing(instruction_set_of<Arch>, l.weights(), goal), l.weights(), packed);
}

/// Nothing, or why l.packed, perhaps stored before, is not what this layer on Arch wants.
///
/// Errors  those of open_weights
template<class Arch = default_arch>
[[nodiscard]] inline failure check_packed(const linear_codes& l) noexcept {
  gemm_weights ignored;
  return open_weights(l.packed, instruction_set_of<Arch>, l.in, l.out, l.x_bits, ignored);
}

/// Bytes of workspace that linear_rows needs, for any number of tokens and any range of panels.
[[nodiscard]] constexpr std::size_t linear_workspace_size(const linear_codes& l) noexcept {
  panel_layout widest;
  widest.storage = panel_storage::pairs;
  widest.k = l.in;
  return workspace_alignment + gemm_scratch_bytes(widest);
}

/// Panels of a packed layer: what threads divide among them.
[[nodiscard]] inline index linear_panels(const linear_codes& l) noexcept {
  return view_weights(l.packed).layout.panels();
}

namespace detail {

/// All rows by definition: what serves weights that were packed for another architecture.
template<class Epilogue>
inline void plain_rows(const linear_codes& l, const std::uint8_t* x, index tokens, index x_stride,
                       index first, index last, Epilogue&& epilogue) noexcept {
  for (index t = 0; t < tokens; ++t) {
    for (index o = first; o < last; ++o) {
      const std::uint8_t* row = x + t * x_stride;
      const std::uint8_t* w = l.w.data() + o * l.in;
      const std::int64_t zero = l.w_zero[static_cast<std::size_t>(o)];
      std::int64_t sum = 0;
      for (index k = 0; k < l.in; ++k) {
        sum += (std::int64_t{row[k]} - l.x_zero) * (std::int64_t{w[k]} - zero);
      }
      epilogue(t, o, static_cast<const std::int64_t*>(&sum), index{1});
    }
  }
}

}  // namespace detail

/// Runs the panels [first_panel, last_panel) of the layer on rows of codes and hands the exact sums to an
/// epilogue (infer/epilogue.hpp): epilogue(row, output, sums, count), sums int32 or, where ranges ask for it,
/// int64.
///
/// Shapes    x [tokens x in] with its distance between rows
/// Requires  check(l) says nothing and l.packed is what pack_linear(l) wrote, or check_packed accepted;
///           workspace of linear_workspace_size(l) bytes for this call alone, any alignment
/// Cost      tokens in out multiply-adds, 2 to 64 of them an instruction; weights packed for another
///           architecture are not used, and a plain loop over the codes gives the same integers
template<class Arch = default_arch, class Epilogue>
inline void linear_sums(const linear_codes& l, const std::uint8_t* x, index tokens, index x_stride,
                        index first_panel, index last_panel, std::span<std::byte> workspace,
                        Epilogue&& epilogue) noexcept {
  REPQUANT_ASSERT(workspace.size() >= linear_workspace_size(l));
  constexpr instruction_set set = instruction_set_of<Arch>;
  const gemm_weights w = view_weights(l.packed);
  if (w.layout.set != set) {
    const index width = w.layout.width();
    detail::plain_rows(l, x, tokens, x_stride, first_panel * width, std::min(l.out, last_panel * width),
                       epilogue);
    return;
  }
  workspace_parts parts(workspace);
  const auto scratch = parts.take<std::byte>(static_cast<index>(gemm_scratch_bytes(w.layout)));
  gemm<set>(w, x, tokens, x_stride, first_panel, last_panel, scratch, epilogue);
}

/// Runs the layer on rows of codes.
///
/// Shapes    x [tokens x in], y [tokens x out], each with its distance between rows
/// Requires  as linear_sums; y overlaps nothing
/// Precision integer sums exact, then requantize_row: the same bits on every Arch
template<class Arch = default_arch>
inline void linear_rows(const linear_codes& l, const std::uint8_t* x, index tokens, index x_stride,
                        std::span<std::byte> workspace, float* y, index y_stride) noexcept {
  linear_sums<Arch>(l, x, tokens, x_stride, 0, linear_panels(l), workspace,
                    real_rows<Arch>{l.multiplier, l.offset, y, y_stride});
}

}  // namespace repquant
