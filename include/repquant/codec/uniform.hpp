// SPDX-License-Identifier: MIT
/// The uniform (affine) codec: equally spaced levels, a scale and an integer zero point.
#pragma once

#include <repquant/codec/concept.hpp>

#include <array>
#include <cmath>

namespace repquant {

/// Scale and zero point with lanes for numbers.
template<Lane V>
struct affine_of {
  V scale;
  ints_of<V> zero_point;
};
/// x^ = (q - zero_point) * scale. The zero point is not clamped to the code range.
using affine = affine_of<float>;

/// Equally spaced levels.
///
///   encode  q  = clamp(rne(x / s) + z, 0, 2^bits - 1)     rne: round half to even, before z is added
///   decode  x^ = (q - z) s
///   fit     asymmetric: s = (hi - lo) / (2^bits - 1), z = rne(-lo / s)
///           symmetric:  z = 2^(bits-1), s the smallest that covers lo and hi
///
/// The quotient is the correctly rounded float quotient, as in ONNX and RepQ-ViT. A NaN encodes as
/// zero does; infinities saturate.
///
/// Units     x, s in the unit of the data; q, z are counts
/// Requires  bits in 2 .. 8; |z| <= 2^22; s in [2^-100, 2^100]. fit keeps all of them: where |z| would
///           be larger, or the range is a single value, s is enlarged (see fit_enlarges)
/// Source    RepQ-ViT (arXiv 2212.08254) eq. 2; ONNX QuantizeLinear
struct uniform {
  int bits = 8;
  bool symmetric = false;

  using params = affine;
  using code_type = std::uint8_t;
  template<Lane V>
  using lane_params = affine_of<V>;

  /// Smallest and largest scale, and largest magnitude of a zero point, that fit gives.
  static constexpr float smallest_scale = 0x1p-100F;
  static constexpr float largest_scale = 0x1p100F;
  static constexpr float largest_zero_point = 0x1p22F;

  [[nodiscard]] constexpr int levels() const noexcept { return 1 << bits; }

  /// Parameters that cover `r`. `floor` is a scale that the result does not go below, for channels
  /// whose range is empty or tiny beside their neighbours'.
  [[nodiscard]] params fit(range r, float floor = smallest_scale) const noexcept {
    const double n = levels() - 1;
    const double s = asked(r);
    if (symmetric) return {keep_scale(s, floor), levels() / 2};
    const double far = std::fmax(std::fabs(static_cast<double>(r.lo)), std::fabs(static_cast<double>(r.hi)));
    const auto scale = keep_scale(std::fmax(s, far / (largest_zero_point - n - 1)), floor);
    // a range beyond what the largest scale reaches is cut: its zero point would not fit
    const double z = std::nearbyint(-r.lo / static_cast<double>(scale));
    return {scale,
            static_cast<std::int32_t>(std::fmin(std::fmax(z, -largest_zero_point), largest_zero_point))};
  }

  /// True where fit(r, floor) had to take a larger scale than the range alone asks for.
  [[nodiscard]] bool fit_enlarges(range r, float floor = smallest_scale) const noexcept {
    const double taken = fit(r, floor).scale;
    return taken > asked(r) * (1 + 0x1p-20);  // more than the rounding to float adds
  }

  template<Lane V>
  static lane_params<V> spread(const params& p) noexcept {
    return {V(p.scale), ints_of<V>(p.zero_point)};
  }
  template<Lane V>
  static lane_params<V> gather(const params* p) noexcept {
    std::array<float, lane_width<V>> s{};
    std::array<std::int32_t, lane_width<V>> z{};
    for (int i = 0; i < lane_width<V>; ++i) {
      s[static_cast<std::size_t>(i)] = p[i].scale;
      z[static_cast<std::size_t>(i)] = p[i].zero_point;
    }
    return {lane::load<V>(s.data()), lane::load<ints_of<V>>(z.data())};
  }

  /// The code of x. Clamped in float before the conversion, so that no value overflows it.
  template<Lane V>
  ints_of<V> encode(V x, const affine_of<V>& p) const noexcept {
    const V lo = lane::real(ints_of<V>(0) - p.zero_point);
    const V hi = lane::add(lo, V(static_cast<float>(levels() - 1)));
    const V quotient = lane::zero_if_nan(lane::div(x, p.scale));
    return lane::round_to_int(lane::clamp(quotient, lo, hi)) + p.zero_point;
  }
  /// The value of code q.
  template<CodeLane I>
  reals_of<I> decode(I q, const affine_of<reals_of<I>>& p) const noexcept {
    return lane::mul(lane::real(q - p.zero_point), p.scale);
  }

 private:
  /// The scale that the range asks for.
  [[nodiscard]] double asked(range r) const noexcept {
    const double lo = r.lo;
    const double hi = r.hi;
    const int half = levels() / 2;
    return symmetric ? std::fmax(-lo / half, hi / (half - 1)) : (hi - lo) / (levels() - 1);
  }
  static float keep_scale(double s, float floor) noexcept {
    const double lowest = std::fmax(smallest_scale, floor);
    return static_cast<float>(std::fmin(std::fmax(s, lowest), largest_scale));
  }
};

}  // namespace repquant
