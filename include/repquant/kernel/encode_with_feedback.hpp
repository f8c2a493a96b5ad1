// SPDX-License-Identifier: MIT
/// encode_with_feedback: codes whose errors make up for each other in what is read from them.
///
/// Length: one loop, how rows are shared out to it, and the two things that it gives: codes, and the values
/// that they are codes of.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/core/config.hpp>
#include <repquant/kernel/narrow.hpp>
#include <repquant/kernel/transpose_bytes.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace repquant {

/// How the error of a code moves the values that are coded after it.
///
/// Channels stand in blocks of `block`, of which the last may be smaller. A block of n codes its channel
/// order[i] in step i, and an error e of it moves the channel of each later step j by unit[i] e times the
/// integer reach(i, j). Those are stored for i = 0, 1, ..: j = i + 1 .. n - 1, block behind block.
struct error_feedback {
  /// The largest block.
  static constexpr index most = 256;

  index block = 0;
  std::span<const std::uint8_t> order;  ///< [cols]: of each block, a permutation of 0 .. n - 1
  std::span<const float> unit;          ///< [cols], by step
  std::span<const std::int8_t> reach;   ///< [reach_of(cols, block)]

  /// How many integers a block of n channels has.
  static constexpr std::size_t reach_of(index n) noexcept {
    return static_cast<std::size_t>(n * (n - 1) / 2);
  }
  /// How many all blocks have.
  static constexpr std::size_t reach_of(index cols, index block) noexcept {
    return static_cast<std::size_t>(cols / block) * reach_of(block) + reach_of(cols % block);
  }
};

namespace detail {

/// The magnitude that values are cut to, so that no error of a code is infinite.
inline constexpr float largest_fed = 0x1p120F;
/// Errors that move what is behind them together.
inline constexpr index fed_panel = 4;

/// One block, as encode_with_feedback has it of a whole row.
struct feedback_block {
  index n;
  const affine* params;  ///< of the channels
  index step;            ///< from one to the next: 0 where all have the same
  const std::uint8_t* order;
  const float* unit;
  const std::int8_t* reach;
};

/// The panel of steps from `first` on, in `Groups` registers of rows that do not wait for each other.
/// store(channel, moved values, their codes). Leaves the errors in their units.
template<std::size_t Groups, Lane V, class Store>
inline void feed_panel(const uniform& codec, const feedback_block& b, index first, index last,
                       const std::array<const std::int8_t*, fed_panel>& reach,
                       const std::array<V, Groups>* value, std::array<V, Groups>* moved,
                       std::array<std::array<V, Groups>, fed_panel>& error, Store& store) noexcept {
  for (index i = first; i < last; ++i) {
    const index channel = b.order[i];
    const auto p = uniform::spread<V>(b.params[b.step * channel]);
    const V unit(b.unit[i]);
    auto& e = error[static_cast<std::size_t>(i - first)];
    std::array<ints_of<V>, Groups> code;
    for (std::size_t g = 0; g < Groups; ++g) {
      code[g] = codec.encode(moved[i][g], p);
      e[g] = lane::mul(unit, lane::sub(codec.decode(code[g], p), value[i][g]));
    }
    store(channel, moved[i], code);
    const std::int8_t* const row = reach[static_cast<std::size_t>(i - first)];
    for (index j = i + 1; j < last; ++j) {
      const V factor(static_cast<float>(row[j - i - 1]));
      for (std::size_t g = 0; g < Groups; ++g) moved[j][g] = lane::sub(moved[j][g], lane::mul(factor, e[g]));
    }
  }
}

/// One block of at most `Groups * lane_width<V>` rows and at most `Most` channels.
template<std::size_t Groups, std::size_t Most, Lane V, class Store>
inline void feed_block(const uniform& codec, const feedback_block& b, const float* x, index rows,
                       index stride, Store& store) noexcept {
  using group = std::array<V, Groups>;
  std::array<group, Most> value;
  std::array<group, Most> moved;
  std::array<float, Groups * lane_width<V>> together{};
  for (index i = 0; i < b.n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    for (index r = 0; r < rows; ++r) together[static_cast<std::size_t>(r)] = x[r * stride + b.order[i]];
    for (std::size_t g = 0; g < Groups; ++g) {
      const V own = lane::zero_if_nan(lane::load<V>(together.data() + g * lane_width<V>));
      value[at][g] = moved[at][g] = lane::clamp(own, V(-largest_fed), V(largest_fed));
    }
  }
  std::array<std::array<float, Most>, fed_panel> factors;
  std::array<group, fed_panel> error;
  const std::int8_t* from = b.reach;
  for (index first = 0; first < b.n; first += fed_panel) {
    const index last = std::min(first + fed_panel, b.n);
    std::array<const std::int8_t*, fed_panel> reach{};  // of each step: those of the later ones
    for (index i = first; i < last; ++i) {
      reach[static_cast<std::size_t>(i - first)] = from;
      from += b.n - 1 - i;
    }
    feed_panel<Groups, V>(codec, b, first, last, reach, value.data(), moved.data(), error, store);
    if (last == b.n) break;
    for (std::size_t k = 0; k < fed_panel; ++k) {
      const index next = first + static_cast<index>(k) + 1;
      for (index j = last; j < b.n; ++j) factors[k][static_cast<std::size_t>(j)] = reach[k][j - next];
    }
    for (auto j = static_cast<std::size_t>(last); j < static_cast<std::size_t>(b.n); ++j) {
      group to = moved[j];
      for (std::size_t k = 0; k < fed_panel; ++k) {
        const V factor(factors[k][j]);
        for (std::size_t g = 0; g < Groups; ++g) to[g] = lane::sub(to[g], lane::mul(factor, error[k][g]));
      }
      moved[j] = to;
    }
  }
}

/// All blocks of at most `Groups * lane_width<V>` rows. store(channel of its block, moved values, their
/// codes), and store.finish(first channel of a block, its channels) behind each
template<std::size_t Groups, std::size_t Most, Lane V, class Store>
inline void feed_rows(const uniform& codec, std::span<const affine> params, const error_feedback& f,
                      const float* x, index rows, index cols, index stride, Store& store) noexcept {
  const std::int8_t* reach = f.reach.data();
  const index step = params.size() > 1 ? 1 : 0;
  for (index left = 0; left < cols; left += f.block) {
    const index n = std::min(f.block, cols - left);
    feed_block<Groups, Most, V>(
        codec, {n, params.data() + step * left, step, f.order.data() + left, f.unit.data() + left, reach},
        x + left, rows, stride, store);
    store.template finish<Groups>(left, n);
    reach += error_feedback::reach_of(n);
  }
}

/// Keeps the codes of a block, channel by channel, until they are written in rows.
template<Lane V>
struct code_store {
  std::uint8_t* to;
  index stride;
  index rows = 0;
  std::array<std::uint8_t, std::size_t{512} * lane_width<V>> kept;

  code_store(std::uint8_t* codes, index code_stride) : to(codes), stride(code_stride) {}

  template<std::size_t Groups>
  void operator()(index channel, const std::array<V, Groups>&, const std::array<ints_of<V>, Groups>& code) {
    for (std::size_t g = 0; g < Groups; ++g)
      narrow(code[g], kept.data() + (static_cast<std::size_t>(channel) * Groups + g) * lane_width<V>);
  }
  template<std::size_t Groups>
  void finish(index left, index n) {
    transpose_bytes(kept.data(), Groups * lane_width<V>, n, rows, to + left, stride);
  }
  void next() { to += rows * stride; }
};

/// Writes moved values.
template<Lane V>
struct value_store {
  float* to;
  index stride;
  index rows = 0;
  index left = 0;

  template<std::size_t Groups>
  void operator()(index channel, const std::array<V, Groups>& moved, const std::array<ints_of<V>, Groups>&) {
    std::array<float, Groups * lane_width<V>> values;
    for (std::size_t g = 0; g < Groups; ++g) lane::store(values.data() + g * lane_width<V>, moved[g]);
    for (index r = 0; r < rows; ++r) to[r * stride + left + channel] = values[static_cast<std::size_t>(r)];
  }
  template<std::size_t Groups>
  void finish(index, index n) {
    left += n;
  }
  void next() {
    to += rows * stride;
    left = 0;
  }
};

/// All rows, as many registers of them at a time as there are and as the stack has room for.
template<Lane V, class Store>
inline void feed_all(const uniform& codec, std::span<const affine> params, const error_feedback& f,
                     const float* x, index rows, index cols, index stride, Store& store) noexcept {
  REPQUANT_ASSERT(static_cast<index>(f.order.size()) == cols);
  constexpr index lanes = lane_width<V>;
  constexpr std::size_t small = 64;
  const bool wide = f.block > static_cast<index>(small) && cols > static_cast<index>(small);
  for (index top = 0; top < rows; top += store.rows, store.next()) {
    store.rows = std::min(rows - top, (wide ? 2 : 4) * lanes);
    const auto run = [&]<std::size_t Groups, std::size_t Most>() {
      feed_rows<Groups, Most, V>(codec, params, f, x + top * stride, store.rows, cols, stride, store);
    };
    if (wide && store.rows > lanes) {
      run.template operator()<2, error_feedback::most>();
    } else if (wide) {
      run.template operator()<1, error_feedback::most>();
    } else if (store.rows > 2 * lanes) {
      run.template operator()<4, small>();
    } else if (store.rows > lanes) {
      run.template operator()<2, small>();
    } else {
      run.template operator()<1, small>();
    }
  }
}

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
/// Cost      min(block, cols) / 2 products and differences per value; fewer rows than a register has lanes
///           cost as many as it has; on the stack 44 KB with AVX-512 in blocks of up to 64 channels, 80 KB in
///           larger ones
/// Precision the same codes for every Arch, and for a row whatever the others are
/// Source    error diffusion (Floyd and Steinberg 1976) with the successive cancellation of integer least
///           squares, which GPTQ (arXiv 2210.17323) does for weights
template<class Arch = default_arch>
inline void encode_with_feedback(const uniform& codec_in, std::span<const affine> params,
                                 const error_feedback& feedback, const float* x, index rows, index cols,
                                 index row_stride, std::uint8_t* codes, index code_stride) noexcept {
  using V = lane_of<Arch>;
  const uniform codec = codec_in;  // a copy: codes may alias anything that has an address
  detail::code_store<V> store(codes, code_stride);
  detail::feed_all<V>(codec, params, feedback, x, rows, cols, row_stride, store);
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
  detail::value_store<V> store{out, cols};
  detail::feed_all<V>(codec, params, feedback, x, rows, cols, cols, store);
}

}  // namespace repquant
