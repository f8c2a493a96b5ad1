// SPDX-License-Identifier: MIT
/// Logarithmic quantization on a tape, straight through: for probabilities.
#pragma once

#include <repquant/codec/logarithmic.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/train/tape.hpp>

#include <cstdint>
#include <vector>

namespace repquant::differentiable {

/// The value of the code of x under a logarithmic codec with scale s:
///
///   out = decode(encode(x))
///   dx  = g inside, 0 where out is zero or x > s;  inside: 0 < out, x <= s
///   ds  = g (out - x) / s inside, g out / s where x > s, 0 where out is zero
///
/// Shapes    x, result [rows x cols], s [1 x 1]
/// Requires  s in [2^-100, 2^100]
/// Cost      one division and one decoded code per entry
template<int Steps>
node fake_quantize(tape& t, node x, node s, const logarithmic<Steps>& codec) {
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x, s});
  const auto n = static_cast<std::size_t>(t.value(x).size());
  const log_scale scale{t.value(s)(0, 0)};
  std::vector<std::uint8_t> codes(n);
  encode<default_arch>(codec, scale, std::span<const float>(t.value(x).data(), n), codes);
  decode<default_arch>(codec, scale, std::span<const std::uint8_t>(codes),
                       std::span<float>(t.value_of(out).data(), n));
  t.on_backward(out, [x, s, out](tape& u) {
    const auto g = u.gradient(out).array();
    const auto y = u.value(out).array();
    const auto v = u.value(x).array();
    const float top = u.value(s)(0, 0);
    const auto inside = y != 0.0F && v <= top;
    if (u.wanted(x)) u.add_gradient(x, inside.select(g, 0.0F).matrix());
    if (u.wanted(s)) {
      u.gradient_of(s)(0, 0) += (g * inside.select(y - v, (v > top).select(y, 0.0F))).sum() / top;
    }
  });
  return out;
}

}  // namespace repquant::differentiable
