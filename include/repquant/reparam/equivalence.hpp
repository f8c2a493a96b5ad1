// SPDX-License-Identifier: MIT
/// What a fold achieved, measured: how far the float function moved, and which codes moved and why.
#pragma once

#include <repquant/layer/norm.hpp>
#include <repquant/reparam/channel_scales.hpp>

namespace repquant {

/// The report of fold_equivalence. A fold is good where `codes_broken` is 0 and the differences are of the
/// size of float rounding.
struct equivalence {
  double largest_absolute = 0;    ///< largest |y~ - y| over tokens, outputs and consumers
  double largest_relative = 0;    ///< the largest over consumers of max |y~ - y| / max |y|
  std::int64_t codes = 0;         ///< codes compared, tokens * channels
  std::int64_t codes_differ = 0;  ///< of them, those that are not equal
  std::int64_t near_ties = 0;     ///< of those, the ones explained by float rounding at a tie
  std::int64_t codes_broken = 0;  ///< of those, the others: codes_differ - near_ties
};

/// How near to a half a quotient counts as a near-tie: 8 * 2^-24 * (|x / s| + |r2| + 1), r2 = z - z~. The
/// folded norm rounds gamma~, beta~, a product and a sum, each to 2^-24 of about that magnitude.
inline double near_tie_band(double quotient, double r2) noexcept {
  return 8 * 0x1p-24 * (std::fabs(quotient) + std::fabs(r2) + 1);
}

/// Whether the double-precision quotient lies within the band of a half, where rounding may go either way.
inline bool is_near_tie(double quotient, double r2) noexcept {
  const double from_half = std::fabs(quotient - std::floor(quotient) - 0.5);
  return from_half <= near_tie_band(quotient, r2);
}

namespace detail {
/// W x + b of one output in double, so that the report shows the fold and not the order of a float sum.
inline double output(const linear& l, std::span<const float> x, index o) noexcept {
  double sum = l.bias.size() == 0 ? 0.0 : static_cast<double>(l.bias(o));
  for (index d = 0; d < l.in(); ++d) {
    sum += static_cast<double>(l.weight(o, d)) * static_cast<double>(x[static_cast<std::size_t>(d)]);
  }
  return sum;
}

/// Checks that two lists of consumers describe the same layers.
inline failure check_consumers(std::span<const linear* const> original, std::span<const linear* const> folded,
                               index channels) noexcept {
  const auto n = static_cast<std::int64_t>(original.size());
  if (original.size() != folded.size()) {
    return {errc::shape_mismatch, "equivalence: consumers", static_cast<std::int64_t>(folded.size()), n};
  }
  for (std::size_t i = 0; i < original.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    if (original[i] == nullptr || folded[i] == nullptr) return {errc::empty, "equivalence: consumer", at, n};
    if (original[i]->in() != channels || folded[i]->in() != channels) {
      return {errc::shape_mismatch, "equivalence: consumer", original[i]->in(), channels};
    }
    if (original[i]->out() != folded[i]->out()) {
      return {errc::shape_mismatch, "equivalence: consumer", folded[i]->out(), original[i]->out()};
    }
  }
  return {};
}

struct output_difference {
  double difference = 0;
  double magnitude = 0;
};

inline void conclude(equivalence& e, std::span<const output_difference> consumers) noexcept {
  for (const output_difference& c : consumers) {
    e.largest_absolute = std::fmax(e.largest_absolute, c.difference);
    if (c.magnitude > 0) e.largest_relative = std::fmax(e.largest_relative, c.difference / c.magnitude);
  }
}
}  // namespace detail

/// Compares a norm and its consumers with what a fold made of them.
///
///   codes    encode(norm(t); s_d, z_d) against encode(folded_norm(t); s~, z~), both norms in the float
///            arithmetic of the running model
///   outputs  W norm(t) + b against W~ folded_norm(t) + b~, the products summed in double
///
/// Shapes    norm_input [tokens x channels]; channels [channels]; consumers [out_i x channels], the i-th
///           folded one being the fold of the i-th original one
/// Errors    bad_bits, bad_option, empty, shape_mismatch, non_finite
/// Cost      2 tokens * channels * sum of out_i
template<class Norm>
result<equivalence> fold_equivalence(matrix_view norm_input, const uniform& codec,
                                     std::span<const affine> channels, affine layer, const Norm& norm,
                                     const Norm& folded_norm, std::span<const linear* const> original,
                                     std::span<const linear* const> folded) {
  const index n = norm_input.cols();
  if (failure f = check_finite(norm_input, "equivalence: norm input")) return f;
  if (failure f = check(codec, channels, "equivalence: channels")) return f;
  if (failure f = check(norm, "equivalence: norm")) return f;
  if (failure f = check(folded_norm, "equivalence: folded norm")) return f;
  for (const index size : {static_cast<index>(channels.size()), static_cast<index>(norm.gamma.size()),
                           static_cast<index>(folded_norm.gamma.size())}) {
    if (size != n) return failure{errc::shape_mismatch, "equivalence: channels", size, n};
  }
  if (failure f = detail::check_consumers(original, folded, n)) return f;

  equivalence e;
  std::vector<detail::output_difference> outputs(original.size());
  const matrix<> before = apply(norm, norm_input);
  const matrix<> after = apply(folded_norm, norm_input);
  const matrix_view x(before);
  const matrix_view y(after);
  for (index t = 0; t < norm_input.rows(); ++t) {
    for (index d = 0; d < n; ++d) {
      const affine& p = channels[static_cast<std::size_t>(d)];
      ++e.codes;
      if (codec.encode(x(t, d), p) == codec.encode(y(t, d), layer)) continue;
      ++e.codes_differ;
      const double quotient = static_cast<double>(x(t, d)) / static_cast<double>(p.scale);
      ++(is_near_tie(quotient, p.zero_point - layer.zero_point) ? e.near_ties : e.codes_broken);
    }
    for (std::size_t i = 0; i < original.size(); ++i) {
      for (index o = 0; o < original[i]->out(); ++o) {
        const double want = detail::output(*original[i], x.row(t), o);
        const double got = detail::output(*folded[i], y.row(t), o);
        outputs[i].difference = std::fmax(outputs[i].difference, std::fabs(got - want));
        outputs[i].magnitude = std::fmax(outputs[i].magnitude, std::fabs(want));
      }
    }
  }
  detail::conclude(e, outputs);
  return e;
}

/// Compares the consumers that fuse_norm changed with the channel-wise quantizer in front of the original
/// ones. The codes are the same by construction, so only products of codes are compared, in double:
///
///   sum of W_d s_d (q_d - z_d) + b   against   s~ sum of W~_d (q_d - z~) + b~
///
/// Shapes    norm_output [tokens x channels], what the norm gives; the rest as in fold_equivalence
/// Errors    as fold_equivalence
inline result<equivalence> fused_equivalence(matrix_view norm_output, const uniform& codec,
                                             std::span<const affine> channels, affine layer,
                                             std::span<const linear* const> original,
                                             std::span<const linear* const> fused) {
  const index n = norm_output.cols();
  if (failure f = check_finite(norm_output, "equivalence: norm output")) return f;
  if (failure f = check(codec, channels, "equivalence: channels")) return f;
  if (static_cast<index>(channels.size()) != n) {
    return failure{errc::shape_mismatch, "equivalence: channels", static_cast<index>(channels.size()), n};
  }
  if (failure f = detail::check_consumers(original, fused, n)) return f;
  equivalence e;
  e.codes = norm_output.rows() * n;
  std::vector<detail::output_difference> outputs(original.size());
  std::vector<std::int32_t> codes(static_cast<std::size_t>(n));
  const auto bias = [](const linear& l, index o) {
    return l.bias.size() == 0 ? 0.0 : static_cast<double>(l.bias(o));
  };
  for (index t = 0; t < norm_output.rows(); ++t) {
    for (std::size_t d = 0; d < codes.size(); ++d) {
      codes[d] = codec.encode(norm_output(t, static_cast<index>(d)), channels[d]);
    }
    for (std::size_t i = 0; i < original.size(); ++i) {
      for (index o = 0; o < original[i]->out(); ++o) {
        double want = bias(*original[i], o);
        double got = 0;
        for (std::size_t d = 0; d < codes.size(); ++d) {
          const auto col = static_cast<index>(d);
          const affine& p = channels[d];
          want += static_cast<double>(original[i]->weight(o, col)) * static_cast<double>(p.scale) *
                  (codes[d] - p.zero_point);
          got += static_cast<double>(fused[i]->weight(o, col)) * (codes[d] - layer.zero_point);
        }
        got = got * static_cast<double>(layer.scale) + bias(*fused[i], o);
        outputs[i].difference = std::fmax(outputs[i].difference, std::fabs(got - want));
        outputs[i].magnitude = std::fmax(outputs[i].magnitude, std::fabs(want));
      }
    }
  }
  detail::conclude(e, outputs);
  return e;
}

}  // namespace repquant
