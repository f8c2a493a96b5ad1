// SPDX-License-Identifier: MIT
/// The norms of the running model, a token or several at a time: float, part of the definition of a quantized
/// model, the same bits on every architecture (docs/decisions/0004).
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/kernel/map.hpp>
#include <repquant/kernel/reduce.hpp>

#include <array>

namespace repquant {

namespace detail {

/// 1 / sqrt(sum / n + eps) of each token.
template<Lane V>
inline V norm_scale(const V& sum, float n, float eps) noexcept {
  return lane::div(V(1.0F), lane::sqrt(lane::add(lane::div(sum, V(n)), V(eps))));
}

/// A lane of number(r) for r = 0, 1, ...
template<Lane V, class Number>
inline V lane_from(Number&& number) noexcept {
  std::array<float, lane_width<V>> numbers;
  for (std::size_t r = 0; r < numbers.size(); ++r) numbers[r] = number(r);
  return lane::load<V>(numbers.data());
}
/// Its places.
template<Lane V>
inline std::array<float, lane_width<V>> places_of(const V& v) noexcept {
  std::array<float, lane_width<V>> places;
  lane::store(places.data(), v);
  return places;
}

/// Layer norm of as many tokens as lane T has places: their sums wait for each other, not for the roots that
/// follow, and a register of roots takes as long as one.
template<class Arch, Lane T>
inline void layer_norm_tokens(const float* x, std::span<const float> gamma, std::span<const float> beta,
                              float eps, float* out) noexcept {
  using V = lane_of<Arch>;
  const std::size_t n = gamma.size();
  const auto count = static_cast<float>(n);
  const auto row = [x, n](std::size_t r) { return std::span<const float>(x + r * n, n); };
  const auto means =
      places_of(lane::div(lane_from<T>([&](std::size_t r) { return reduce::sum<Arch>(row(r)); }), T(count)));
  const T power = lane_from<T>([&](std::size_t r) { return reduce::squares<Arch>(row(r), means[r]); });
  const auto scales = places_of(norm_scale(power, count, eps));
  for (std::size_t r = 0; r < means.size(); ++r) {
    map_row<Arch>(
        std::span<float>(out + r * n, n),
        [mean = V(means[r]), scale = V(scales[r])](const V& v, const V& g, const V& b) {
          const V unit = lane::mul(lane::sub(v, mean), scale);
          return one_nan(lane::add(lane::mul(unit, g), b));
        },
        row(r).data(), gamma.data(), beta.data());
  }
}

/// RMS norm, likewise.
template<class Arch, Lane T>
inline void rms_norm_tokens(const float* x, std::span<const float> gamma, float eps, float* out) noexcept {
  using V = lane_of<Arch>;
  const std::size_t n = gamma.size();
  const T power = lane_from<T>([&](std::size_t r) { return reduce::squares<Arch>({x + r * n, n}, 0.0F); });
  const auto scales = places_of(norm_scale(power, static_cast<float>(n), eps));
  for (std::size_t r = 0; r < scales.size(); ++r) {
    map_row<Arch>(
        std::span<float>(out + r * n, n),
        [scale = V(scales[r])](const V& v, const V& g) { return one_nan(lane::mul(lane::mul(v, scale), g)); },
        x + r * n, gamma.data());
  }
}

/// Values that stay in the first-level cache from pass to pass.
inline constexpr index norm_values_together = 8192;

/// Calls norm.operator()<T>(first token), T a register of Arch as long as there are tokens for it and all of
/// them stay in the first-level cache, then float.
template<class Arch, class Norm>
inline void norm_together(index rows, index channels, Norm&& norm) noexcept {
  constexpr index together = lane_width<lane_of<Arch>>;
  const index in_registers = together * channels <= norm_values_together ? rows / together * together : 0;
  index i = 0;
  for (; i < in_registers; i += together) norm.template operator()<lane_of<Arch>>(i);
  for (; i < rows; ++i) norm.template operator()<float>(i);
}

}  // namespace detail

/// Layer norm of tokens, one behind the other.
///
///   mean = sum(x) / n,  var = sum((x - mean)^2) / n,  r = 1 / sqrt(var + eps)
///   out  = ((x - mean) r) gamma + beta
///
/// Two passes for the statistics, each sum in the order of kernel/reduce.hpp, every operation rounded once.
///
/// Shapes     x, out [rows x channels] contiguous, gamma, beta [channels]; `out` may be `x`
/// Requires   gamma.size() == beta.size(), eps > 0 (or var > 0)
/// Cost       three passes over the rows, in the first-level cache
/// Precision  a NaN or an infinity in a token makes all its outputs NaN (0x7FC00000)
/// Source     arXiv 1607.06450
template<class Arch = default_arch>
inline void layer_norm_rows(const float* x, index rows, std::span<const float> gamma,
                            std::span<const float> beta, float eps, float* out) noexcept {
  const auto n = static_cast<index>(gamma.size());
  detail::norm_together<Arch>(rows, n, [&]<Lane T>(index first) {
    detail::layer_norm_tokens<Arch, T>(x + first * n, gamma, beta, eps, out + first * n);
  });
}

/// Layer norm of one token: as layer_norm_rows.
///
/// Shapes     x, gamma, beta, out [channels]; `out` may be `x`
template<class Arch = default_arch>
inline void layer_norm_row(std::span<const float> x, std::span<const float> gamma,
                           std::span<const float> beta, float eps, std::span<float> out) noexcept {
  layer_norm_rows<Arch>(x.data(), 1, gamma, beta, eps, out.data());
}

/// RMS norm of tokens, one behind the other: out = (x / sqrt(sum(x^2) / n + eps)) gamma, the reciprocal root
/// taken once.
///
/// Shapes     x, out [rows x channels] contiguous, gamma [channels]; `out` may be `x`
/// Requires   eps > 0 (or some x != 0 in each token)
/// Cost       two passes over the rows, in the first-level cache
/// Precision  a NaN in a token makes all its outputs NaN (0x7FC00000); so does an infinity, where it stands
/// Source     arXiv 1910.07467
template<class Arch = default_arch>
inline void rms_norm_rows(const float* x, index rows, std::span<const float> gamma, float eps,
                          float* out) noexcept {
  const auto n = static_cast<index>(gamma.size());
  detail::norm_together<Arch>(rows, n, [&]<Lane T>(index first) {
    detail::rms_norm_tokens<Arch, T>(x + first * n, gamma, eps, out + first * n);
  });
}

/// RMS norm of one token: as rms_norm_rows.
///
/// Shapes     x, gamma, out [channels]; `out` may be `x`
template<class Arch = default_arch>
inline void rms_norm_row(std::span<const float> x, std::span<const float> gamma, float eps,
                         std::span<float> out) noexcept {
  rms_norm_rows<Arch>(x.data(), 1, gamma, eps, out.data());
}

}  // namespace repquant
