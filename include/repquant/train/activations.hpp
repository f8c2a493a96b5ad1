// SPDX-License-Identifier: MIT
/// The activations of infer/activation.hpp on a tape, with their analytic derivatives.
#pragma once

#include <repquant/infer/activation.hpp>
#include <repquant/train/tape.hpp>

namespace repquant::differentiable {

namespace detail {

/// 1 / (1 + e^-x).
template<Lane V>
inline V sigmoid(const V& x) noexcept {
  return lane::div(V(1.0F), lane::add(V(1.0F), elementary::exp(lane::sub(V(0.0F), x))));
}

/// f'(x).
///
///   relu       x > 0 ? 1 : 0
///   gelu_erf   Phi(x) + x phi(x),   Phi = (1 + erf(x / sqrt 2)) / 2,   phi = e^(-x^2 / 2) / sqrt(2 pi)
///   gelu_tanh  s + x s (1 - s) 2u',   s = sigmoid(2u),   2u = 1.5958 x + 0.071355 x^3
///   silu       s + x s (1 - s),   s = sigmoid(x)
template<Lane V>
inline V derivative(activation f, const V& x) noexcept {
  switch (f) {
    case activation::relu:
      return lane::select(lane::greater(x, V(0.0F)), V(1.0F), V(0.0F));
    case activation::gelu_erf: {
      const V phi =
          lane::mul(elementary::exp(lane::mul(lane::mul(x, x), V(-0.5F))), V(0x1.988454p-2F));  // 1/sqrt(2pi)
      const V cdf = lane::mul(lane::add(V(1.0F), elementary::erf(lane::mul(x, V(0x1.6a09e6p-1F)))), V(0.5F));
      return lane::add(cdf, lane::mul(x, phi));
    }
    case activation::gelu_tanh: {
      // beyond 16 the result is 0 or 1; the clamp keeps the cube finite
      const V c = lane::clamp(x, V(-16.0F), V(16.0F));
      const V square = lane::mul(c, c);
      const V s = sigmoid(lane::mul(c, lane::add(V(0x1.988454p+0F), lane::mul(square, V(0x1.2444f2p-4F)))));
      const V slope = lane::add(V(0x1.988454p+0F), lane::mul(square, V(3 * 0x1.2444f2p-4F)));
      return lane::add(s, lane::mul(lane::mul(lane::mul(c, slope), s), lane::sub(V(1.0F), s)));
    }
    case activation::silu: {
      const V s = sigmoid(x);
      return lane::add(s, lane::mul(lane::mul(x, s), lane::sub(V(1.0F), s)));
    }
  }
  return V(0.0F);
}

}  // namespace detail

/// out = f(x), the value as the running model has it;  dx = g f'(x).
///
/// Shapes  x, result [rows x cols]
inline node activate(tape& t, activation f, node x) {
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x});
  const auto n = static_cast<std::size_t>(t.value(x).size());
  repquant::activate(f, std::span<const float>(t.value(x).data(), n),
                     std::span<float>(t.value_of(out).data(), n));
  t.on_backward(out, [x, out, f, n](tape& u) {
    const std::span<float> dx(u.gradient_of(x).data(), n);
    using V = lane_of<default_arch>;
    map_row<default_arch>(
        dx,
        [f](const V& sum, const V& g, const V& v) {
          return lane::add(sum, lane::mul(g, detail::derivative(f, v)));
        },
        dx.data(), u.gradient(out).data(), u.value(x).data());
  });
  return out;
}

}  // namespace repquant::differentiable
