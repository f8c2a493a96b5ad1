// SPDX-License-Identifier: MIT
/// The norms of the running model, one token at a time: float, part of the definition of a quantized model,
/// the same bits on every architecture (docs/decisions/0004).
#pragma once

#include <repquant/kernel/map.hpp>
#include <repquant/kernel/reduce.hpp>

namespace repquant {

/// Layer norm of one token.
///
///   mean = sum(x) / n,  var = sum((x - mean)^2) / n,  r = 1 / sqrt(var + eps)
///   out  = ((x - mean) r) gamma + beta
///
/// Two passes for the statistics, each sum in the order of kernel/reduce.hpp, every operation rounded once.
///
/// Shapes     x, gamma, beta, out [channels]; `out` may be `x`
/// Requires   the four sizes agree, eps > 0 (or var > 0)
/// Cost       three passes over the row
/// Precision  a NaN or an infinity in x makes every output NaN (0x7FC00000)
/// Source     arXiv 1607.06450
template<class Arch = default_arch>
inline void layer_norm_row(std::span<const float> x, std::span<const float> gamma,
                           std::span<const float> beta, float eps, std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  const auto n = static_cast<float>(x.size());
  const float mean = lane::div(reduce::sum<Arch>(x), n);
  const float variance = lane::div(reduce::squares<Arch>(x, mean), n);
  const float scale = lane::div(1.0F, lane::sqrt(lane::add(variance, eps)));
  map_row<Arch>(
      out,
      [mean, scale](const V& v, const V& g, const V& b) {
        const V unit = lane::mul(lane::sub(v, V(mean)), V(scale));
        return one_nan(lane::add(lane::mul(unit, g), b));
      },
      x.data(), gamma.data(), beta.data());
}

/// RMS norm of one token: out = (x / sqrt(sum(x^2) / n + eps)) gamma, the reciprocal root taken once.
///
/// Shapes     x, gamma, out [channels]; `out` may be `x`
/// Requires   the three sizes agree, eps > 0 (or some x != 0)
/// Cost       two passes over the row
/// Precision  a NaN in x makes every output NaN (0x7FC00000); so does an infinity, where it stands
/// Source     arXiv 1910.07467
template<class Arch = default_arch>
inline void rms_norm_row(std::span<const float> x, std::span<const float> gamma, float eps,
                         std::span<float> out) noexcept {
  using V = lane_of<Arch>;
  const auto n = static_cast<float>(x.size());
  const float power = lane::div(reduce::squares<Arch>(x, 0.0F), n);
  const float scale = lane::div(1.0F, lane::sqrt(lane::add(power, eps)));
  map_row<Arch>(
      out, [scale](const V& v, const V& g) { return one_nan(lane::mul(lane::mul(v, V(scale)), g)); },
      x.data(), gamma.data());
}

}  // namespace repquant
