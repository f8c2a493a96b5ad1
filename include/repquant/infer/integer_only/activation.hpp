// SPDX-License-Identifier: MIT
/// GELU and SiLU on integers.
///
/// All of them are x times the logistic function of x P(x^2): P is 1 for SiLU, a line for the tanh form of
/// GELU (by its definition), a polynomial of degree 3 fitted to logit(Phi(x)) / x for the erf form. With u =
/// |x| and w = 1 / (1 + e^(u P(u^2))), the part that the logistic function lacks,
///
///   y = max(x, 0) - u w
///
/// which needs one exponential, no division, and cancels nowhere.
#pragma once

#include <repquant/infer/activation.hpp>
#include <repquant/kernel/fixed_point.hpp>

namespace repquant::integer_only {

namespace detail {

/// P over (x / 8)^2, times log2(e), in Q13, and the |x| in Q12 beyond which w is 0 to this precision.
template<std::size_t N>
struct gate {
  std::array<std::int32_t, N> p;
  std::int32_t reach;
};
constexpr double log2_e = 1.4426950408889634;
constexpr std::int32_t gate_coefficient(double c) noexcept { return fixed_point::quantized(c * log2_e, 13); }

inline constexpr gate<1> silu_gate{{gate_coefficient(1.0)}, 15 << 12};
inline constexpr gate<2> gelu_tanh_gate{
    {gate_coefficient(1.5957691216057308), gate_coefficient(64 * 0.07135481282)}, 6 << 12};
inline constexpr gate<4> gelu_erf_gate{{gate_coefficient(1.59538221), gate_coefficient(4.70134195),
                                        gate_coefficient(-2.08487953), gate_coefficient(-4.54352343)},
                                       6 << 12};

template<CodeLane I, std::size_t N>
inline I gated(const I& x, int fraction_bits, const gate<N>& g) noexcept {
  using fixed_point::times;
  const int up = 12 - fraction_bits;
  const I nearest = lane::clamp(x, I(-(g.reach >> up)), I(g.reach >> up));
  const I u = lane::max(nearest, I(0) - nearest) << up;  // Q12
  I octaves;                                             // u P(u^2) log2(e), in Q12
  if constexpr (N == 1) {
    octaves = times(u, I(g.p[0]), 13);
  } else {
    octaves = times(u, fixed_point::polynomial(times(u, u, 15), 15, g.p), 13);
  }
  return lane::max(x, I(0)) - times(u, fixed_point::logistic_tail(octaves), 15 + up);
}

}  // namespace detail

/// f(x), x and the result in Q(fraction_bits); any x.
///
/// Requires   0 <= fraction_bits <= 12
/// Precision  against the real function, |error| <= 2^-fraction_bits / 2 plus 1.2e-4 for GELU and 1.8e-4 for
///            SiLU (largest found over all 16-bit values: 0.8e-4 and 1.65e-4); relu exact. The same integers
///            on every architecture
/// Source     logistic form of GELU: arXiv 1606.08415; integer forms: I-BERT (arXiv 2101.01321), which needs
///            64 bits, and I-ViT (arXiv 2207.01405), whose sigmoid(1.702 x) is off by 0.02
template<CodeLane I>
inline I activate(activation f, const I& x, int fraction_bits) noexcept {
  switch (f) {
    case activation::relu:
      return lane::max(x, I(0));
    case activation::silu:
      return detail::gated(x, fraction_bits, detail::silu_gate);
    case activation::gelu_tanh:
      return detail::gated(x, fraction_bits, detail::gelu_tanh_gate);
    case activation::gelu_erf:
      return detail::gated(x, fraction_bits, detail::gelu_erf_gate);
  }
  return x;
}

/// The same over a row.
///
/// Shapes  x, out [n]; `out` may be `x`
template<class Arch = default_arch>
inline void activate_row(activation f, int fraction_bits, std::span<const std::int32_t> x,
                         std::span<std::int32_t> out) noexcept {
  using I = ints_of<lane_of<Arch>>;
  const auto run = [&](auto formula) { map_row<Arch>(out, formula, x.data()); };
  // one loop per function: a switch inside the loop would be taken for every register
  switch (f) {
    case activation::relu:
      return run([](const I& v) { return lane::max(v, I(0)); });
    case activation::silu:
      return run([fraction_bits](const I& v) { return activate(activation::silu, v, fraction_bits); });
    case activation::gelu_tanh:
      return run([fraction_bits](const I& v) { return activate(activation::gelu_tanh, v, fraction_bits); });
    case activation::gelu_erf:
      return run([fraction_bits](const I& v) { return activate(activation::gelu_erf, v, fraction_bits); });
  }
}

}  // namespace repquant::integer_only
