// SPDX-License-Identifier: MIT
/// The activations of the running model, over a row.
#pragma once

#include <repquant/kernel/elementary.hpp>
#include <repquant/kernel/map.hpp>

#include <cstdint>

namespace repquant {

/// Which function of one value. The numbers are part of the saved format.
enum class activation : std::uint8_t {
  relu = 0,       ///< max(x, 0)
  gelu_erf = 1,   ///< x Phi(x), with erf (PyTorch's and ViT's default)
  gelu_tanh = 2,  ///< the tanh form (GPT-2, Gemma)
  silu = 3,       ///< x sigmoid(x), also called swish (LLaMA)
};

/// out[i] = f(x[i]), with the formulas of kernel/elementary.hpp: the same bits on every architecture.
///
/// Shapes     x, out [n]; `out` may be `x`
/// Requires   out.size() <= x.size()
/// Precision  elementary.hpp; a NaN gives 0x7FC00000
template<class Arch = default_arch>
inline void activate(activation f, std::span<const float> x, std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  switch (f) {
    case activation::relu:
      map_row<Arch>(
          out, [](const V& v) { return elementary::relu(v); }, x.data());
      break;
    case activation::gelu_erf:
      map_row<Arch>(
          out, [](const V& v) { return elementary::gelu_erf(v); }, x.data());
      break;
    case activation::gelu_tanh:
      map_row<Arch>(
          out, [](const V& v) { return elementary::gelu_tanh(v); }, x.data());
      break;
    case activation::silu:
      map_row<Arch>(
          out, [](const V& v) { return elementary::silu(v); }, x.data());
      break;
  }
}

}  // namespace repquant
