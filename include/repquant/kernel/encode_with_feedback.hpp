// SPDX-License-Identifier: MIT
/// encode_with_feedback: codes whose errors make up for each other in what is read from them.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/core/config.hpp>
#include <repquant/kernel/error_feedback.hpp>
#include <repquant/kernel/feed_errors.hpp>
#include <repquant/kernel/narrow.hpp>
#include <repquant/kernel/transpose_bytes.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace repquant {

namespace detail {

/// Keeps the codes of a block, channel by channel, until they are written in rows.
template<std::size_t Lanes>
struct code_store {
  std::uint8_t* to;
  index stride;
  index rows = 0;
  std::array<std::uint8_t, 512 * Lanes> kept;

  code_store(std::uint8_t* codes, index code_stride) : to(codes), stride(code_stride) {}

  template<Lane V, std::size_t Groups, CodeLane I>
  void operator()(index channel, const std::array<V, Groups>&, const std::array<I, Groups>& code) {
    std::uint8_t* const at = kept.data() + static_cast<std::size_t>(channel) * Groups * lane_width<V>;
    each<Groups>([&](auto g) REPQUANT_ALWAYS_INLINE { narrow(code[g], at + g * lane_width<V>); });
  }
  template<index Places>
  void finish(index left, index n) {
    transpose_bytes(kept.data(), Places, n, rows, to + left, stride);
  }
  void next() { to += rows * stride; }
};

/// Writes moved values.
struct value_store {
  float* to;
  index stride;
  index rows = 0;
  index left = 0;

  template<Lane V, std::size_t Groups, CodeLane I>
  void operator()(index channel, const std::array<V, Groups>& moved, const std::array<I, Groups>&) {
    std::array<float, Groups * lane_width<V>> values;
    for (std::size_t g = 0; g < Groups; ++g) lane::store(values.data() + g * lane_width<V>, moved[g]);
    for (index r = 0; r < rows; ++r) to[r * stride + left + channel] = values[static_cast<std::size_t>(r)];
  }
  template<index Places>
  void finish(index, index n) {
    left += n;
  }
  void next() {
    to += rows * stride;
    left = 0;
  }
};

}  // namespace detail

/// The codes of the rows of a matrix, each of them chosen for what the errors of those before it left:
///
///   q_i = encode(x_i - sum over j < i of reach(j, i) f_j),   f_j = unit_j (decode(q_j) - x_j)
///
/// i, j steps in the order of the feedback, the differences taken one j after the other, each operation
/// rounded once. A NaN counts as 0, values are cut to 2^120.
///
/// Shapes    params one, or one per column; x and codes [rows x cols], row_stride floats from row to row,
///           codes likewise; feedback of as many columns
/// Requires  1 <= block <= error_feedback::most; strides >= cols; x and codes do not overlap
/// Cost      min(block, cols) / 2 products and differences per value: of a register of rows at a time, or,
///           where rows are at most a quarter of its lanes, of a register of later channels; on the stack
///           44 KB with AVX-512 in blocks of up to 64 channels, 80 KB in larger ones
/// Precision the same codes for every Arch, and for a row whatever the others are
/// Source    error diffusion (Floyd and Steinberg 1976) with the successive cancellation of integer least
///           squares, which GPTQ (arXiv 2210.17323) does for weights
template<class Arch = default_arch>
inline void encode_with_feedback(const uniform& codec_in, std::span<const affine> params,
                                 const error_feedback& feedback, const float* x, index rows, index cols,
                                 index row_stride, std::uint8_t* codes, index code_stride) noexcept {
  using V = lane_of<Arch>;
  const uniform codec = codec_in;  // a copy: codes may alias anything that has an address
  detail::code_store<lane_width<V>> store(codes, code_stride);
  detail::feed_errors<V>(codec, params, feedback, x, rows, cols, row_stride, store);
}

/// What the errors of the codes move the values to: values whose own codes are those of
/// encode_with_feedback.
///
///   out_i = x_i - sum over j < i of reach(j, i) f_j
///
/// Shapes    as there; x and out [rows x cols] without distance between rows
/// Requires, Cost, Precision  as there
template<class Arch = default_arch>
inline void move_by_feedback(const uniform& codec, std::span<const affine> params,
                             const error_feedback& feedback, const float* x, index rows, index cols,
                             float* out) noexcept {
  using V = lane_of<Arch>;
  detail::value_store store{out, cols};
  detail::feed_errors<V>(codec, params, feedback, x, rows, cols, cols, store);
}

}  // namespace repquant
