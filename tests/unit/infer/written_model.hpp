// SPDX-License-Identifier: MIT
/// Models written instruction by instruction, without a network behind them: random weights and scales that
/// keep values at about 1.
#pragma once

#include <repquant/block/model_writer.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/infer/activation.hpp>
#include <repquant/infer/model.hpp>
#include <repquant/kernel/hadamard.hpp>

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace written {

namespace rq = repquant;

/// Appends instructions; each returns the register of its result. Register 0 is the input.
class builder {
 public:
  explicit builder(unsigned seed) : random_(seed) {}

  std::int32_t add_instruction(rq::opcode kind, std::int32_t cols, std::int32_t a, std::int32_t b = -1) {
    rq::instruction s;
    s.kind = kind;
    s.cols = cols;
    s.a = a;
    s.b = b;
    return add(s);
  }
  /// With `block`, errors of codes are fed back in blocks of so many columns.
  std::int32_t encode(std::int32_t a, std::int32_t cols, int bits = 8, bool per_column = false,
                      std::int32_t block = 0) {
    rq::instruction s = make(rq::opcode::encode, cols, a);
    s.bits = bits;
    s.per_column = per_column ? 1 : 0;
    std::vector<rq::affine> params(per_column ? static_cast<std::size_t>(cols) : 1);
    for (rq::affine& p : params)
      p = {6.0F / static_cast<float>(1 << bits) * (1 + 0.1F * uniform()), 1 << (bits - 1)};
    s.data[0] = writer_.constants(std::span<const rq::affine>(params));
    if (block > 0) feed_back(s, block);
    s.site = site("site", bits, rq::site_role::linear_input);
    return add(s);
  }
  /// `a` holds codes of encode(..., bits).
  std::int32_t linear(std::int32_t a, std::int32_t in, std::int32_t out, int bits = 8) {
    rq::instruction s = make(rq::opcode::linear, out, a);
    s.inner = in;
    s.bits = s.bits_a = bits;
    s.zero_a = 1 << (bits - 1);
    std::vector<std::uint8_t> w(static_cast<std::size_t>(in) * static_cast<std::size_t>(out));
    for (std::uint8_t& q : w) q = static_cast<std::uint8_t>(random_() % (1U << bits));
    s.data[0] = writer_.constants(std::span<const std::uint8_t>(w));
    const std::vector<std::int32_t> zero(static_cast<std::size_t>(out), 1 << (bits - 1));
    s.data[1] = writer_.constants(std::span<const std::int32_t>(zero));
    const float step = 6.0F / static_cast<float>(1 << bits);
    const float size = step * step / std::sqrt(static_cast<float>(in));
    s.data[2] = reals(static_cast<std::size_t>(out), size, 0.1F * size);
    s.data[3] = reals(static_cast<std::size_t>(out), 0, 0.3F);
    return add(s);
  }
  std::int32_t norm(std::int32_t a, std::int32_t cols, bool rms = false) {
    rq::instruction s = make(rq::opcode::norm, cols, a);
    s.flag = rms ? 1 : 0;
    s.data[0] = reals(static_cast<std::size_t>(cols), 1, 0.2F);
    if (!rms) s.data[1] = reals(static_cast<std::size_t>(cols), 0, 0.2F);
    s.eps = 1e-5F;
    return add(s);
  }
  std::int32_t attention(std::int32_t q, std::int32_t k, std::int32_t v, std::int32_t heads,
                         std::int32_t kv_heads, std::int32_t head_dim, bool causal, int bits = 8) {
    rq::instruction s = make(rq::opcode::attention, heads * head_dim, q);
    s.b = k;
    s.c = v;
    s.inner = head_dim;
    s.heads = heads;
    s.kv_heads = kv_heads;
    s.flag = causal ? 1 : 0;
    s.bits_a = bits;
    s.zero_b = 1 << (bits - 1);
    const float step = 6.0F / static_cast<float>(1 << bits);
    s.data[0] =
        reals(static_cast<std::size_t>(heads), step * step / std::sqrt(static_cast<float>(head_dim)), 0);
    const std::vector<std::int32_t> q_zero(static_cast<std::size_t>(heads * head_dim), 1 << (bits - 1));
    const std::vector<std::int32_t> v_zero(static_cast<std::size_t>(kv_heads * head_dim), 1 << (bits - 1));
    s.data[1] = writer_.constants(std::span<const std::int32_t>(q_zero));
    s.data[2] = writer_.constants(std::span<const std::int32_t>(v_zero));
    s.data[3] = reals(v_zero.size(), step, 0);
    s.probability = rq::probability_kind::as_log_sqrt2;
    s.probability_bits = 4;
    s.probability_depth = 14;
    s.probability_scale = 1;
    s.site = site("probabilities", 4, rq::site_role::probabilities);
    return add(s);
  }
  std::int32_t prepend_row(std::int32_t a, std::int32_t cols) {
    rq::instruction s = make(rq::opcode::prepend_row, cols, a);
    s.data[0] = reals(static_cast<std::size_t>(cols), 0, 1);
    return add(s);
  }
  std::int32_t add_rows(std::int32_t a, std::int32_t cols, std::int32_t most) {
    rq::instruction s = make(rq::opcode::add_rows, cols, a);
    s.inner = most;
    s.data[0] = reals(static_cast<std::size_t>(cols * most), 0, 0.5F);
    return add(s);
  }
  std::int32_t rotate(std::int32_t a, std::int32_t cols, std::int32_t heads, std::int32_t most) {
    rq::instruction s = make(rq::opcode::rotate, cols, a);
    s.heads = heads;
    s.inner = most;
    std::vector<float> c, n;
    const std::int32_t half = cols / heads / 2;
    for (std::int32_t t = 0; t < most; ++t) {
      for (std::int32_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(t) / static_cast<float>(1 + 3 * i);
        c.push_back(std::cos(angle));
        n.push_back(std::sin(angle));
      }
    }
    s.data[0] = writer_.constants(std::span<const float>(c));
    s.data[1] = writer_.constants(std::span<const float>(n));
    return add(s);
  }
  /// Factors of both signs that keep values of the first block at about their size.
  std::int32_t hadamard(std::int32_t a, std::int32_t cols) {
    rq::instruction s = make(rq::opcode::hadamard, cols, a);
    const float block = static_cast<float>(rq::hadamard_block_size(static_cast<std::size_t>(cols)));
    s.data[0] = reals(static_cast<std::size_t>(cols), 0, std::sqrt(3 / block));
    return add(s);
  }
  std::int32_t mix_heads(std::int32_t a, std::int32_t cols, std::int32_t head_dim) {
    rq::instruction s = make(rq::opcode::mix_heads, cols, a);
    s.inner = head_dim;
    s.data[0] =
        reals(static_cast<std::size_t>(cols * head_dim), 0, std::sqrt(3.0F / static_cast<float>(head_dim)));
    return add(s);
  }
  std::int32_t activate(rq::activation f, std::int32_t a, std::int32_t cols) {
    rq::instruction s = make(rq::opcode::activate, cols, a);
    s.function = static_cast<std::uint8_t>(f);
    return add(s);
  }
  std::int32_t select_row(std::int32_t a, std::int32_t cols, std::int32_t row) {
    rq::instruction s = make(rq::opcode::select_row, cols, a);
    s.row = row;
    return add(s);
  }

  /// A pre-norm block with rotary positions, heads of 4 columns that share keys two by two, queries and keys
  /// in other bases behind the positions, a gated MLP whose last layer reads mixed columns; codes with
  /// feedback in blocks that divide the columns, that do not, and that are larger.
  std::int32_t decoder_block(std::int32_t x, std::int32_t heads, std::int32_t most, bool causal = true) {
    const std::int32_t cols = 4 * heads;
    const std::int32_t n1 = encode(norm(x, cols, true), cols, 8, false, 5);
    const std::int32_t turned = rotate(linear(n1, cols, cols), cols, heads, most);
    const std::int32_t q = encode(mix_heads(turned, cols, 4), cols, 8, false, 4);
    const std::int32_t turned_k = rotate(linear(n1, cols, cols / 2), cols / 2, heads / 2, most);
    const std::int32_t k = encode(mix_heads(turned_k, cols / 2, 4), cols / 2, 8, true, 3);
    const std::int32_t v = encode(linear(n1, cols, cols / 2), cols / 2);
    const std::int32_t mixed = encode(attention(q, k, v, heads, heads / 2, 4, causal), cols);
    const std::int32_t y = add_instruction(rq::opcode::add, cols, x, linear(mixed, cols, cols));
    const std::int32_t n2 = encode(norm(y, cols), cols, 4, true, 100);
    const std::int32_t gate = activate(rq::activation::silu, linear(n2, cols, 3 * cols, 4), 3 * cols);
    const std::int32_t up = linear(n2, cols, 3 * cols, 4);
    const std::int32_t gated = add_instruction(rq::opcode::multiply, 3 * cols, gate, up);
    const std::int32_t h = encode(hadamard(gated, 3 * cols), 3 * cols);
    return add_instruction(rq::opcode::add, cols, y, linear(h, 3 * cols, cols));
  }

  [[nodiscard]] std::vector<std::byte> finish(rq::index input_cols, std::int32_t output,
                                              rq::index output_cols) const {
    return writer_.finish(0, input_cols, output, output_cols).value();
  }

 private:
  static rq::instruction make(rq::opcode kind, std::int32_t cols, std::int32_t a) {
    rq::instruction s;
    s.kind = kind;
    s.cols = cols;
    s.a = a;
    return s;
  }
  std::int32_t add(rq::instruction s) {
    s.out = registers_++;
    writer_.add(s);
    return s.out;
  }
  std::int32_t site(const char* name, int bits, rq::site_role role) {
    return writer_.site(name + std::to_string(registers_), bits, role);
  }
  /// Channels in an order of their own, factors up to 0.7.
  void feed_back(rq::instruction& s, std::int32_t block) {
    s.inner = block;
    std::vector<std::uint8_t> order;
    std::vector<std::int8_t> reach(rq::error_feedback::reach_of(s.cols, block));
    for (std::int32_t j = 0; j < s.cols; ++j) {
      const std::int32_t n = std::min(block, s.cols - j / block * block);
      order.push_back(static_cast<std::uint8_t>(n - 1 - (j % block + 3) % n));
    }
    for (std::int8_t& r : reach) r = static_cast<std::int8_t>(static_cast<int>(random_() % 255) - 127);
    s.data[1] = reals(order.size(), 0, 0.7F / 127);
    s.data[2] = writer_.constants(std::span<const std::uint8_t>(order));
    s.data[3] = writer_.constants(std::span<const std::int8_t>(reach));
  }
  float uniform() { return static_cast<float>(random_() % 2000) / 1000.0F - 1; }
  std::uint64_t reals(std::size_t n, float middle, float spread) {
    std::vector<float> x(n);
    for (float& v : x) v = middle + spread * uniform();
    return writer_.constants(std::span<const float>(x));
  }

  std::minstd_rand random_;
  rq::model_writer writer_;
  std::int32_t registers_ = 1;
};

/// Layers of decoder_block and a head: a language model without its table of tokens.
inline std::vector<std::byte> decoder(std::int32_t heads, int layers, std::int32_t most, bool causal = true,
                                      bool last_only = false) {
  const std::int32_t cols = 4 * heads;
  builder b(static_cast<unsigned>(heads * 100 + layers));
  std::int32_t x = b.add_rows(0, cols, most);
  for (int i = 0; i < layers; ++i) x = b.decoder_block(x, heads, most, causal);
  if (last_only) x = b.select_row(x, cols, -1);
  x = b.linear(b.encode(b.norm(x, cols), cols), cols, 7);
  return b.finish(cols, x, 7);
}

/// A token in front, positions, blocks whose last one is computed for the first token only, its head.
inline std::vector<std::byte> encoder(std::int32_t heads, std::int32_t most) {
  const std::int32_t cols = 4 * heads;
  builder b(static_cast<unsigned>(heads));
  std::int32_t x = b.linear(b.encode(0, 5, 8, true), 5, cols);
  x = b.add_rows(b.prepend_row(x, cols), cols, most);
  x = b.decoder_block(x, heads, most, false);
  const std::int32_t n = b.encode(b.norm(x, cols), cols);
  const std::int32_t q = b.linear(n, cols, cols);
  const std::int32_t k = b.linear(n, cols, cols);
  const std::int32_t v = b.linear(n, cols, cols);
  const std::int32_t first = b.encode(b.select_row(q, cols, 0), cols);
  const std::int32_t mixed = b.attention(first, b.encode(k, cols), b.encode(v, cols), heads, heads, 4, false);
  const std::int32_t mean = b.add_instruction(rq::opcode::mean_rows, cols, x);
  x = b.add_instruction(rq::opcode::add, cols, mean, b.linear(b.encode(mixed, cols), cols, cols));
  x = b.linear(b.encode(b.activate(rq::activation::gelu_erf, x, cols), cols), cols, 3);
  return b.finish(5, x, 3);
}

}  // namespace written
