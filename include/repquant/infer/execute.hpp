// SPDX-License-Identifier: MIT
/// execute: one instruction of a model on its registers. The float steps of all engines are here, so that
/// they are the same; what differs between engines, the matrix products, is a policy:
///
///   products.linear<Arch>(instruction, constants, codes a, rows, float out)
///   products.attend<Arch>(instruction, constants, codes q, k, v, rows, keys, float out, sink)
///
/// Models of it: integer_products (the engine) and simulated_products (exact integers held in double).
///
/// Length: one case per kind of instruction.
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/infer/activation.hpp>
#include <repquant/infer/model.hpp>
#include <repquant/infer/norm.hpp>
#include <repquant/infer/rotate.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/encode_with_feedback.hpp>
#include <repquant/kernel/hadamard.hpp>
#include <repquant/kernel/mix_heads.hpp>
#include <repquant/kernel/one_nan.hpp>

namespace repquant {

/// Where a register lies, and how many rows it holds now. Rows are contiguous.
struct activation_register {
  std::byte* data = nullptr;
  index rows = 0;

  [[nodiscard]] float* reals() const noexcept { return reinterpret_cast<float*>(data); }
  [[nodiscard]] std::uint8_t* codes() const noexcept { return reinterpret_cast<std::uint8_t*>(data); }
};

/// Watches nothing. A sink is called with every row block of codes that an engine makes:
/// sink(site, codes, rows, cols); the probabilities of an attention come as one row per head and token.
struct no_sink {
  void operator()(std::int32_t, const std::uint8_t*, index, index) const noexcept {}
};

/// Rows of one or several samples that run together, and where they stand. The rows of an operand or a
/// result lie one behind the other, those of several samples too.
struct row_block {
  index samples = 1;   ///< more than one only where all their rows are in the block
  index rows = 0;      ///< of the result, of each sample
  index first = 0;     ///< place of the first of them among the rows of the result of its sample
  index all = 0;       ///< rows of the result of a sample, in the block or not
  index whole = 0;     ///< rows of an operand that is read whole (reads_whole), of each sample
  index position = 0;  ///< place in its sequence of row 0 of a sample: behind the tokens of earlier runs

  /// Rows of the block, of all its samples.
  [[nodiscard]] constexpr index count() const noexcept { return samples * rows; }
};

/// Where the operands of an instruction lie, and its result: those that are read row by row at the first row
/// of the block, those that are read whole at the first row of the first sample.
struct row_operands {
  const std::byte* a = nullptr;
  const std::byte* b = nullptr;
  const std::byte* c = nullptr;
  std::byte* out = nullptr;
};

/// True where a row of the result needs more of operand k (0, 1, 2 for a, b, c) than the same row.
constexpr bool reads_whole(opcode kind, int k) noexcept {
  if (kind == opcode::attention) return k > 0;
  return kind == opcode::prepend_row || kind == opcode::select_row || kind == opcode::mean_rows;
}

namespace detail {
template<class T>
std::span<const T> numbers(std::span<const std::byte> constants, std::uint64_t offset, index count) noexcept {
  return {reinterpret_cast<const T*>(constants.data() + offset), static_cast<std::size_t>(count)};
}

/// out = a op b over `n` values, through lanes; every NaN as one_nan.hpp says.
template<class Arch, class Formula>
void combine(const float* a, const float* b, index n, float* out, Formula formula) noexcept {
  using V = lane_of<Arch>;
  map_row<Arch>(
      std::span<float>(out, static_cast<std::size_t>(n)),
      [formula](const V& x, const V& y) { return one_nan(formula(x, y)); }, a, b);
}

template<class Arch>
void mean_rows(const float* a, index rows, index cols, float* out) noexcept {
  for (index j = 0; j < cols; ++j) out[j] = 0;
  const std::span<float> sum(out, static_cast<std::size_t>(cols));
  using V = lane_of<Arch>;
  for (index i = 0; i < rows; ++i) {
    map_row<Arch>(
        sum, [](const V& s, const V& x) { return lane::add(s, x); }, out, a + i * cols);
  }
  const V divisor(static_cast<float>(rows));
  map_row<Arch>(
      sum, [divisor](const V& s) { return one_nan(lane::div(s, divisor)); }, out);
}

template<class Arch>
void norm_rows(const instruction& s, std::span<const std::byte> constants, const float* a, index rows,
               float* out) noexcept {
  const auto gamma = numbers<float>(constants, s.data[0], s.cols);
  if (s.flag == 0) {
    layer_norm_rows<Arch>(a, rows, gamma, numbers<float>(constants, s.data[1], s.cols), s.eps, out);
  } else {
    rms_norm_rows<Arch>(a, rows, gamma, s.eps, out);
  }
}

template<class Arch>
void rotate_rows(const instruction& s, std::span<const std::byte> constants, const float* a, index rows,
                 index position, float* out) noexcept {
  const index half = s.cols / 2 / s.heads;
  const auto cosines = numbers<float>(constants, s.data[0], (position + rows) * half);
  const auto sines = numbers<float>(constants, s.data[1], (position + rows) * half);
  for (index i = 0; i < rows; ++i) {
    const auto from = static_cast<std::size_t>((position + i) * half);
    const auto n = static_cast<std::size_t>(half);
    rotate_row<Arch>({a + i * s.cols, static_cast<std::size_t>(s.cols)}, cosines.subspan(from, n),
                     sines.subspan(from, n), {out + i * s.cols, static_cast<std::size_t>(s.cols)});
  }
}

/// f(row of a, row of the result) for each row.
template<class F>
void each_row(const float* a, index rows, index cols, float* out, const F& f) noexcept {
  const auto n = static_cast<std::size_t>(cols);
  for (index i = 0; i < rows; ++i)
    f(std::span<const float>(a + i * cols, n), std::span<float>(out + i * cols, n));
}

/// The error feedback of an encode that has one. Where it has no integers, no one has checked their offset.
inline error_feedback feedback_of(const instruction& s, std::span<const std::byte> constants) noexcept {
  const auto reach = static_cast<index>(error_feedback::reach_of(s.cols, s.inner));
  return {s.inner, numbers<std::uint8_t>(constants, s.data[2], s.cols),
          numbers<float>(constants, s.data[1], s.cols),
          reach > 0 ? numbers<std::int8_t>(constants, s.data[3], reach) : std::span<const std::int8_t>()};
}

template<class Arch>
void encode_rows(const instruction& s, std::span<const std::byte> constants, const float* a, index rows,
                 std::uint8_t* out) noexcept {
  const uniform codec{.bits = s.bits};
  if (s.inner > 0) {
    encode_with_feedback<Arch>(codec, numbers<affine>(constants, s.data[0], s.per_column != 0 ? s.cols : 1),
                               feedback_of(s, constants), a, rows, s.cols, s.cols, out, s.cols);
    return;
  }
  if (s.per_column != 0) {
    const auto params = numbers<affine>(constants, s.data[0], s.cols);
    encode_columns<Arch>(codec, params, a, rows, s.cols, s.cols, out, s.cols);
  } else {
    const auto n = static_cast<std::size_t>(rows * s.cols);
    encode<Arch>(codec, numbers<affine>(constants, s.data[0], 1)[0], std::span<const float>(a, n),
                 std::span<std::uint8_t>(out, n));
  }
}
}  // namespace detail

/// Rows of the result of an instruction whose first operand has `rows`.
constexpr index result_rows(const instruction& s, index rows) noexcept {
  return count_rows(rows_after(s.kind, 0), rows);
}

/// Runs one instruction for a block of rows. What stands in a row of the result does not depend on the block.
///
/// Requires  the instruction was checked (model_view::open), the operands hold what it reads, the result has
///           room; it overlaps no operand
template<class Arch = default_arch, class Products, class Sink = no_sink>
void execute_rows(const instruction& s, std::span<const std::byte> constants, const row_operands& at,
                  const row_block& block, Products& products, Sink&& sink = Sink{}) noexcept {
  using V = lane_of<Arch>;
  const auto* a = reinterpret_cast<const float*>(at.a);
  const auto* b = reinterpret_cast<const float*>(at.b);
  const auto* codes = reinterpret_cast<const std::uint8_t*>(at.a);
  auto* out = reinterpret_cast<float*>(at.out);
  const index cols = s.cols;
  const index rows = block.count();
  const index n = rows * cols;
  const auto sum = [](const V& x, const V& y) { return lane::add(x, y); };
  const auto copy = [cols](float* to, const float* from, index count) {
    std::memcpy(to, from, static_cast<std::size_t>(count * cols) * sizeof(float));
  };
  // f(first row of the sample in the block, its rows in operands that are read whole)
  const auto each_sample = [&block](const auto& f) {
    for (index i = 0; i < block.samples; ++i) f(i * block.rows, i * block.whole);
  };
  switch (s.kind) {
    case opcode::encode: {
      auto* made = reinterpret_cast<std::uint8_t*>(at.out);
      detail::encode_rows<Arch>(s, constants, a, rows, made);
      sink(s.site, static_cast<const std::uint8_t*>(made), rows, cols);
      break;
    }
    case opcode::linear:
      products.template linear<Arch>(s, constants, codes, rows, out);
      break;
    case opcode::norm:
      detail::norm_rows<Arch>(s, constants, a, rows, out);
      break;
    case opcode::attention: {
      const auto* k = reinterpret_cast<const std::uint8_t*>(at.b);
      const auto* v = reinterpret_cast<const std::uint8_t*>(at.c);
      const index kv_cols = static_cast<index>(s.kv_heads) * s.inner;
      // the last query of a sample sees all keys: those behind what the last of the block sees are left out
      const index unseen = s.flag != 0 ? block.all - block.first - block.rows : 0;
      each_sample([&](index row, index whole) {
        products.template attend<Arch>(s, constants, codes + row * cols, k + whole * kv_cols,
                                       v + whole * kv_cols, block.rows, block.whole - unseen,
                                       out + row * cols, sink);
      });
      break;
    }
    case opcode::add:
      detail::combine<Arch>(a, b, n, out, sum);
      break;
    case opcode::multiply:
      detail::combine<Arch>(a, b, n, out, [](const V& x, const V& y) { return lane::mul(x, y); });
      break;
    case opcode::activate: {
      const auto count = static_cast<std::size_t>(n);
      activate<Arch>(static_cast<activation>(s.function), std::span<const float>(a, count),
                     std::span<float>(out, count));
      break;
    }
    case opcode::prepend_row:
      each_sample([&](index row, index whole) {
        const index ahead = block.first == 0 ? 1 : 0;  // the new row is in this block
        if (ahead != 0) copy(out + row * cols, detail::numbers<float>(constants, s.data[0], cols).data(), 1);
        copy(out + (row + ahead) * cols, a + (whole + block.first - 1 + ahead) * cols, block.rows - ahead);
      });
      break;
    case opcode::add_rows: {
      const index from = block.position + block.first;
      const float* table =
          detail::numbers<float>(constants, s.data[0], (from + block.rows) * cols).data() + from * cols;
      each_sample([&](index row, index) {
        detail::combine<Arch>(a + row * cols, table, block.rows * cols, out + row * cols, sum);
      });
      break;
    }
    case opcode::select_row:
      each_sample([&](index row, index whole) {
        copy(out + row * cols, a + (whole + (s.row < 0 ? block.whole + s.row : s.row)) * cols, 1);
      });
      break;
    case opcode::mean_rows:
      each_sample([&](index row, index whole) {
        detail::mean_rows<Arch>(a + whole * cols, block.whole, cols, out + row * cols);
      });
      break;
    case opcode::rotate:
      each_sample([&](index row, index) {
        detail::rotate_rows<Arch>(s, constants, a + row * cols, block.rows, block.position + block.first,
                                  out + row * cols);
      });
      break;
    case opcode::hadamard:
      detail::each_row(a, rows, cols, out, [&](std::span<const float> from, std::span<float> to) {
        hadamard_row<Arch>(from, detail::numbers<float>(constants, s.data[0], cols), to);
      });
      break;
    case opcode::mix_heads:
      detail::each_row(a, rows, cols, out, [&](std::span<const float> from, std::span<float> to) {
        mix_heads_row<Arch>(from, detail::numbers<float>(constants, s.data[0], index{s.inner} * cols),
                            static_cast<std::size_t>(s.inner), to);
      });
      break;
  }
}

/// Runs one instruction on registers that hold one whole sample, and sets the rows of the result: the
/// definition of what an engine computes.
///
/// Requires  as execute_rows, and registers that are large enough
template<class Arch = default_arch, class Products, class Sink = no_sink>
void execute(const instruction& s, std::span<const std::byte> constants, std::span<activation_register> file,
             Products& products, Sink&& sink = Sink{}) noexcept {
  const auto at = [file](std::int32_t r) {
    return r < 0 ? activation_register{} : file[static_cast<std::size_t>(r)];
  };
  const activation_register a = at(s.a);
  activation_register& out = file[static_cast<std::size_t>(s.out)];
  row_block block;
  block.rows = block.all = out.rows = result_rows(s, a.rows);
  block.whole = s.kind == opcode::attention ? at(s.b).rows : a.rows;
  execute_rows<Arch>(s, constants, {a.data, at(s.b).data, at(s.c).data, out.data}, block, products, sink);
}

}  // namespace repquant
