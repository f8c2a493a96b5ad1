// SPDX-License-Identifier: MIT
/// feed_errors: the loop of encode_with_feedback, for many rows and for few.
///
/// Rows of a block do not know of each other, so many of them stand in the places of registers, one step
/// after the other. Of few rows each goes alone, and the places of a register are later steps. Either way a
/// value has the same operations in the same order: those of the scalar instantiation.
///
/// Length: one loop in its two forms, how its values are read, and which rows go to which form.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/core/each.hpp>
#include <repquant/core/lane.hpp>
#include <repquant/kernel/error_feedback.hpp>
#include <repquant/kernel/transpose_lanes.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace repquant::detail {

/// Errors that move what is behind them together.
inline constexpr std::size_t fed_panel = 4;
/// Rows that go alone where a register has as many lanes for each of them.
inline constexpr index lanes_of_lone_row = 4;
/// Blocks that have too few later steps to fill registers with.
inline constexpr index short_block = 16;

/// A value as feedback sees it: a NaN counts as 0, magnitudes are cut so that no error of a code is infinite.
template<Lane V>
inline V fed_value(const V& x) noexcept {
  return lane::clamp(lane::zero_if_nan(x), V(-0x1p120F), V(0x1p120F));
}
/// The error of a code in the units of its step.
template<Lane V>
inline V fed_error(const V& decoded, const V& value, const V& unit) noexcept {
  return lane::mul(unit, lane::sub(decoded, value));
}
/// A value that the error of an earlier step has moved.
template<Lane V>
inline V fed_move(const V& moved, const V& reach, const V& error) noexcept {
  return lane::sub(moved, lane::mul(reach, error));
}

/// One block, as encode_with_feedback has it of a whole row.
struct feedback_block {
  index n;
  const affine* params;  ///< of the channels
  index step;            ///< from one to the next: 0 where all have the same
  const std::uint8_t* order;
  const float* unit;
  const std::int8_t* reach;
};

/// The panel of steps from `first` on, in `Groups` registers of rows that do not wait for each other. Leaves
/// the errors in their units.
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
    each<Groups>([&](auto g) REPQUANT_ALWAYS_INLINE {
      code[g] = codec.encode(moved[i][g], p);
      e[g] = fed_error(V(codec.decode(code[g], p)), value[i][g], unit);
    });
    store(channel, moved[i], code);
    const std::int8_t* const row = reach[static_cast<std::size_t>(i - first)];
    for (index j = i + 1; j < last; ++j) {
      const V factor(static_cast<float>(row[j - i - 1]));
      each<Groups>([&](auto g) REPQUANT_ALWAYS_INLINE { moved[j][g] = fed_move(moved[j][g], factor, e[g]); });
    }
  }
}

/// Reads a block of at most `Groups * lane_width<V>` rows: what comes in step i to value[i] and moved[i],
/// rows in the places of registers.
template<std::size_t Groups, Lane V>
inline void read_by_step(const feedback_block& b, const float* x, index rows, index stride,
                         std::array<V, Groups>* value, std::array<V, Groups>* moved) noexcept {
  constexpr index lanes = lane_width<V>;
  constexpr index places = static_cast<index>(Groups) * lanes;
  if (lanes == 1 || b.n < lanes) {
    std::array<float, static_cast<std::size_t>(places)> together{};
    for (index i = 0; i < b.n; ++i) {
      for (index r = 0; r < rows; ++r) together[static_cast<std::size_t>(r)] = x[r * stride + b.order[i]];
      each<Groups>([&](auto g) REPQUANT_ALWAYS_INLINE {
        value[i][g] = moved[i][g] = fed_value(lane::load<V>(together.data() + g * lane_width<V>));
      });
    }
    return;
  }
  std::array<std::uint8_t, error_feedback::most> step_of;
  for (index i = 0; i < b.n; ++i) step_of[b.order[i]] = static_cast<std::uint8_t>(i);
  for (index c = 0; c < b.n; c += lanes) {
    const index left = std::min(c, b.n - lanes);  // the last square overlaps the one before it
    for (std::size_t g = 0; g < Groups; ++g) {
      std::array<V, static_cast<std::size_t>(lanes)> square;
      each<static_cast<std::size_t>(lanes)>([&](auto r) REPQUANT_ALWAYS_INLINE {
        const index row = static_cast<index>(g) * lanes + static_cast<index>(r);
        square[r] = row < rows ? fed_value(lane::load<V>(x + row * stride + left)) : V(0.0F);
      });
      transpose_lanes(square);
      each<static_cast<std::size_t>(lanes)>([&](auto k) REPQUANT_ALWAYS_INLINE {
        const index i = step_of[static_cast<std::size_t>(left) + k];
        value[i][g] = moved[i][g] = square[k];
      });
    }
  }
}

/// One block of at most `Groups * lane_width<V>` rows and at most `Most` channels.
///
/// store(channel, moved values, their codes), in the order of the steps
template<std::size_t Groups, std::size_t Most, Lane V, class Store>
inline void feed_rows(const uniform& codec, const feedback_block& b, const float* x, index rows, index stride,
                      Store& store) noexcept {
  using group = std::array<V, Groups>;
  std::array<group, Most> value;
  std::array<group, Most> moved;
  read_by_step<Groups, V>(b, x, rows, stride, value.data(), moved.data());
  std::array<std::array<float, Most>, fed_panel> factors;
  std::array<group, fed_panel> error;
  const std::int8_t* from = b.reach;
  for (index first = 0; first < b.n; first += fed_panel) {
    const index last = std::min(first + static_cast<index>(fed_panel), b.n);
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
      each<fed_panel>([&](auto k) REPQUANT_ALWAYS_INLINE {
        const V factor(factors[k][j]);
        each<Groups>([&](auto g) REPQUANT_ALWAYS_INLINE { to[g] = fed_move(to[g], factor, error[k][g]); });
      });
      moved[j] = to;
    }
  }
}

/// One block of at most `Most` channels of one row, later steps in the places of registers.
///
/// store(channel, moved value, its code), each in an array of one
template<std::size_t Most, Lane V, class Store>
inline void feed_row(const uniform& codec, const feedback_block& b, const float* x, Store& store) noexcept {
  constexpr index lanes = lane_width<V>;
  std::array<float, Most> value;
  std::array<float, Most + lanes> moved{};  // the last register may reach beyond the block
  std::array<float, Most + lanes> factors{};
  for (index i = 0; i < b.n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    value[at] = moved[at] = fed_value(x[b.order[i]]);
  }
  const std::int8_t* reach = b.reach;
  for (index i = 0; i < b.n; ++i) {
    const index channel = b.order[i];
    const auto p = uniform::spread<float>(b.params[b.step * channel]);
    const auto at = static_cast<std::size_t>(i);
    const std::array<std::int32_t, 1> code{codec.encode(moved[at], p)};
    store(channel, std::array<float, 1>{moved[at]}, code);
    const V error(fed_error(codec.decode(code[0], p), value[at], b.unit[i]));
    const index later = b.n - 1 - i;
    for (index j = 0; j < later; ++j) factors[static_cast<std::size_t>(j)] = reach[j];
    for (index j = 0; j < later; j += lanes) {
      float* const to = moved.data() + i + 1 + j;
      lane::store(to, fed_move(lane::load<V>(to), lane::load<V>(factors.data() + j), error));
    }
    reach += later;
  }
}

/// All rows, as many registers of them at a time as there are and as the stack has room for, the last ones
/// alone where they are few.
///
/// Requires  what encode_with_feedback does; store.rows: how many rows come next; store(channel of its block,
///           moved values, their codes); store.finish<places>(first channel of the block, its channels)
///           behind each block of `places` rows that were stored, store.next() behind all blocks of them
template<Lane V, class Store>
inline void feed_errors(const uniform& codec, std::span<const affine> params, const error_feedback& f,
                        const float* x, index rows, index cols, index stride, Store& store) noexcept {
  REPQUANT_ASSERT(static_cast<index>(f.order.size()) == cols);
  constexpr index lanes = lane_width<V>;
  constexpr std::size_t small = 64;
  const bool wide = f.block > static_cast<index>(small) && cols > static_cast<index>(small);
  const index step = params.size() > 1 ? 1 : 0;
  for (index top = 0; top < rows; top += store.rows, store.next()) {
    const auto run = [&]<std::size_t Groups, std::size_t Most>() {
      const std::int8_t* reach = f.reach.data();
      for (index left = 0; left < cols; left += f.block) {
        const index n = std::min(f.block, cols - left);
        const feedback_block b{
            n, params.data() + step * left, step, f.order.data() + left, f.unit.data() + left, reach};
        const float* const from = x + top * stride + left;
        if constexpr (Groups == 0) {
          if (n > short_block) {
            feed_row<Most, V>(codec, b, from, store);
          } else {
            feed_rows<1, static_cast<std::size_t>(short_block), float>(codec, b, from, 1, stride, store);
          }
          store.template finish<1>(left, n);
        } else {
          feed_rows<Groups, Most, V>(codec, b, from, store.rows, stride, store);
          store.template finish<Groups * lane_width<V>>(left, n);
        }
        reach += error_feedback::reach_of(n);
      }
    };
    store.rows = std::min(rows - top, (wide ? 2 : 4) * lanes);
    if (store.rows * lanes_of_lone_row <= lanes) {
      store.rows = 1;
      wide ? run.template operator()<0, error_feedback::most>() : run.template operator()<0, small>();
    } else if (wide && store.rows > lanes) {
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

}  // namespace repquant::detail
