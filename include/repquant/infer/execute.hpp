// SPDX-License-Identifier: MIT
/// execute: one instruction of a model on its registers. The float steps of all engines are here, so that
/// they are the same; what differs between engines, the matrix products, is a policy:
///
///   products.linear<Arch>(instruction, constants, codes a, rows, float out)
///   products.attend<Arch>(instruction, constants, codes q, k, v, rows, keys, float out, sink)
///
/// Models of it: integer_products (the engine) and simulated_products (exact integers held in double).
#pragma once

#include <repquant/codec/uniform.hpp>
#include <repquant/infer/activation.hpp>
#include <repquant/infer/model.hpp>
#include <repquant/infer/norm.hpp>
#include <repquant/infer/rotate.hpp>
#include <repquant/kernel/encode.hpp>

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

/// Rows of the result of an instruction whose first operand has `rows`.
constexpr index result_rows(const instruction& s, index rows) noexcept {
  switch (s.kind) {
    case opcode::prepend_row:
      return rows + 1;
    case opcode::select_row:
    case opcode::mean_rows:
      return 1;
    default:
      return rows;
  }
}

namespace detail {
template<class T>
std::span<const T> numbers(std::span<const std::byte> constants, std::uint64_t offset, index count) noexcept {
  return {reinterpret_cast<const T*>(constants.data() + offset), static_cast<std::size_t>(count)};
}

/// out = a op b over whole matrices, through lanes.
template<class Arch, class Formula>
void combine(const activation_register& a, const float* b, index n, float* out, Formula formula) noexcept {
  map_row<Arch>(std::span<float>(out, static_cast<std::size_t>(n)), formula, a.reals(), b);
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
      sum, [divisor](const V& s) { return lane::div(s, divisor); }, out);
}

template<class Arch>
void norm_rows(const instruction& s, std::span<const std::byte> constants, const float* a, index rows,
               float* out) noexcept {
  const auto gamma = numbers<float>(constants, s.data[0], s.cols);
  for (index i = 0; i < rows; ++i) {
    const std::span<const float> x(a + i * s.cols, static_cast<std::size_t>(s.cols));
    const std::span<float> y(out + i * s.cols, static_cast<std::size_t>(s.cols));
    if (s.flag == 0) {
      layer_norm_row<Arch>(x, gamma, numbers<float>(constants, s.data[1], s.cols), s.eps, y);
    } else {
      rms_norm_row<Arch>(x, gamma, s.eps, y);
    }
  }
}

template<class Arch>
void rotate_rows(const instruction& s, std::span<const std::byte> constants, const float* a, index rows,
                 float* out) noexcept {
  const index half = s.cols / 2 / s.heads;
  const auto cosines = numbers<float>(constants, s.data[0], rows * half);
  const auto sines = numbers<float>(constants, s.data[1], rows * half);
  for (index i = 0; i < rows; ++i) {
    const auto from = static_cast<std::size_t>(i * half);
    const auto n = static_cast<std::size_t>(half);
    rotate_row<Arch>({a + i * s.cols, static_cast<std::size_t>(s.cols)}, cosines.subspan(from, n),
                     sines.subspan(from, n), {out + i * s.cols, static_cast<std::size_t>(s.cols)});
  }
}

template<class Arch>
void encode_rows(const instruction& s, std::span<const std::byte> constants, const float* a, index rows,
                 std::uint8_t* out) noexcept {
  const uniform codec{.bits = s.bits};
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

/// Runs one instruction. Sets the rows of the result register.
///
/// Requires  the instruction was checked (model_view::open) and the registers are large enough
template<class Arch = default_arch, class Products, class Sink = no_sink>
void execute(const instruction& s, std::span<const std::byte> constants, std::span<activation_register> file,
             Products& products, Sink&& sink = Sink{}) noexcept {
  using V = lane_of<Arch>;
  const activation_register a = file[static_cast<std::size_t>(s.a)];
  activation_register& out = file[static_cast<std::size_t>(s.out)];
  out.rows = result_rows(s, a.rows);
  const index n = out.rows * s.cols;
  const auto bytes = static_cast<std::size_t>(s.cols) * sizeof(float);
  switch (s.kind) {
    case opcode::encode:
      detail::encode_rows<Arch>(s, constants, a.reals(), a.rows, out.codes());
      sink(s.site, out.codes(), a.rows, static_cast<index>(s.cols));
      break;
    case opcode::linear:
      products.template linear<Arch>(s, constants, a.codes(), a.rows, out.reals());
      break;
    case opcode::norm:
      detail::norm_rows<Arch>(s, constants, a.reals(), a.rows, out.reals());
      break;
    case opcode::attention: {
      const activation_register& k = file[static_cast<std::size_t>(s.b)];
      const activation_register& v = file[static_cast<std::size_t>(s.c)];
      products.template attend<Arch>(s, constants, a.codes(), k.codes(), v.codes(), a.rows, k.rows,
                                     out.reals(), sink);
      break;
    }
    case opcode::add:
      detail::combine<Arch>(a, file[static_cast<std::size_t>(s.b)].reals(), n, out.reals(),
                            [](const V& x, const V& y) { return lane::add(x, y); });
      break;
    case opcode::multiply:
      detail::combine<Arch>(a, file[static_cast<std::size_t>(s.b)].reals(), n, out.reals(),
                            [](const V& x, const V& y) { return lane::mul(x, y); });
      break;
    case opcode::activate: {
      const auto count = static_cast<std::size_t>(n);
      activate<Arch>(static_cast<activation>(s.function), std::span<const float>(a.reals(), count),
                     std::span<float>(out.reals(), count));
      break;
    }
    case opcode::prepend_row:
      std::memcpy(out.reals(), detail::numbers<float>(constants, s.data[0], s.cols).data(), bytes);
      std::memcpy(out.reals() + s.cols, a.reals(), bytes * static_cast<std::size_t>(a.rows));
      break;
    case opcode::add_rows:
      detail::combine<Arch>(a, detail::numbers<float>(constants, s.data[0], n).data(), n, out.reals(),
                            [](const V& x, const V& y) { return lane::add(x, y); });
      break;
    case opcode::select_row: {
      const index row = s.row < 0 ? a.rows + s.row : s.row;
      std::memcpy(out.reals(), a.reals() + row * s.cols, bytes);
      break;
    }
    case opcode::mean_rows:
      detail::mean_rows<Arch>(a.reals(), a.rows, s.cols, out.reals());
      break;
    case opcode::rotate:
      detail::rotate_rows<Arch>(s, constants, a.reals(), a.rows, out.reals());
      break;
  }
}

}  // namespace repquant
