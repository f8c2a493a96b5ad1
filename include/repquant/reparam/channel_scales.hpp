// SPDX-License-Identifier: MIT
/// What the folds of this folder share: from one scale per channel to one for all, by moving the
/// difference into the layers that read the channels (the consumers).
///
///   channel-wise  q_d = clamp(rne(x_d / s_d) + z_d),  y = sum over d of W_d s_d (q_d - z_d) + b
///   layer-wise    y = s~ sum over d of W~_d (q_d - z~) + b~,  the same codes q_d
///
/// with W~_d = W_d s_d / s~ and b~ = b - sum of W_d s_d (z_d - z~): equal for any s~ > 0 and any z~.
#pragma once

#include <repquant/codec/check.hpp>
#include <repquant/layer/linear.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

namespace repquant {

/// Nothing, or what is wrong with channel-wise parameters: bits outside 2 .. 8, none at all, a scale
/// outside the range that fit keeps, a zero point beyond 2^22 (got = the channel).
inline failure check(const uniform& codec, std::span<const affine> channels,
                     std::string_view place) noexcept {
  if (failure f = check(codec, place)) return f;
  if (channels.empty()) return {errc::empty, place, 0, 1};
  for (std::size_t d = 0; d < channels.size(); ++d) {
    const affine& p = channels[d];
    const bool scale = p.scale >= uniform::smallest_scale && p.scale <= uniform::largest_scale;
    const bool zero = std::fabs(static_cast<float>(p.zero_point)) <= uniform::largest_zero_point;
    if (!scale || !zero) {
      const auto n = static_cast<std::int64_t>(channels.size());
      return {errc::bad_option, place, static_cast<std::int64_t>(d), n};
    }
  }
  return {};
}

/// The one scale and zero point that stand for all channels after a fold.
///
///   z~ = clamp(median(z), 0, 2^bits - 1)     the lower median where the count is even
///   s~ = 2^round(log2(mean(s)))
///
/// Any integer z~ gives the same codes. This one fits a byte and keeps z - z~ small; the published mean
/// is no integer, so that its codes differ and take one level too many. Any s~ > 0 gives the same codes
/// and the same products W~ s~: it only sets in which unit the folded activation is written. The published
/// choice is the mean; the power of two nearest to it makes every division by s~ exact, so that a network
/// whose channels differ by powers of two (gamma and beta times 16, the next columns over 16) gives the same
/// codes.
///
/// Requires  check(codec, channels, ...) passed
/// Source    RepQ-ViT (arXiv 2212.08254) eq. 12; integer zero point: docs/decisions/0005
inline affine layer_wise(const uniform& codec, std::span<const affine> channels) {
  std::vector<std::int32_t> zero_points;
  double sum = 0;
  for (const affine& p : channels) {
    zero_points.push_back(p.zero_point);
    sum += static_cast<double>(p.scale);
  }
  const auto middle = zero_points.begin() + (static_cast<std::ptrdiff_t>(zero_points.size()) - 1) / 2;
  std::nth_element(zero_points.begin(), middle, zero_points.end());
  int exponent = 0;
  const double fraction = std::frexp(sum / static_cast<double>(channels.size()), &exponent);  // in [1/2, 1)
  const double scale = std::ldexp(1.0, fraction > 0x1.6a09e667f3bcdp-1 ? exponent : exponent - 1);
  return {static_cast<float>(scale), std::clamp(*middle, 0, codec.levels() - 1)};
}

namespace detail {
/// The consumer after a fold, or a failure that says why it cannot be.
inline result<linear> absorb(const linear& l, std::span<const affine> channels, affine layer) {
  linear folded{matrix<>(l.out(), l.in()), column<>(l.out())};
  const auto target = static_cast<double>(layer.scale);
  for (index o = 0; o < l.out(); ++o) {
    double shift = 0;
    for (index d = 0; d < l.in(); ++d) {
      const affine& p = channels[static_cast<std::size_t>(d)];
      const double carried = static_cast<double>(l.weight(o, d)) * static_cast<double>(p.scale);
      folded.weight(o, d) = static_cast<float>(carried / target);
      shift += carried * static_cast<double>(p.zero_point - layer.zero_point);
    }
    const double bias = l.bias.size() == 0 ? 0.0 : static_cast<double>(l.bias(o));
    folded.bias(o) = static_cast<float>(bias - shift);
  }
  if (failure f = check(folded, "overflow")) return f;
  return folded;
}

/// All consumers after a fold. Nothing is written to the originals.
inline result<std::vector<linear>> absorb_all(const uniform& codec, std::span<const affine> channels,
                                              affine layer, std::span<linear* const> consumers) {
  if (failure f = check(codec, channels, "fold: channels")) return f;
  const auto count = static_cast<std::int64_t>(consumers.size());
  if (consumers.empty()) return failure{errc::empty, "fold: consumers", 0, 1};
  std::vector<linear> folded;
  for (std::size_t i = 0; i < consumers.size(); ++i) {
    char place[48];
    std::snprintf(place, sizeof place, "fold: consumer %zu", i);
    if (consumers[i] == nullptr) return failure{errc::empty, place, 0, 1};
    if (std::find(consumers.begin(), consumers.begin() + static_cast<std::ptrdiff_t>(i), consumers[i]) !=
        consumers.begin() + static_cast<std::ptrdiff_t>(i)) {
      return failure{errc::bad_option, "fold: a consumer is listed twice", static_cast<std::int64_t>(i),
                     count};
    }
    const linear& l = *consumers[i];
    if (failure f = check(l, place)) return f;
    if (l.in() != static_cast<index>(channels.size())) {
      return failure{errc::shape_mismatch, place, l.in(), static_cast<std::int64_t>(channels.size())};
    }
    result<linear> one = absorb(l, channels, layer);
    if (!one) return one.error().within(place);
    folded.push_back(*std::move(one));
  }
  return folded;
}

/// Writes the folded consumers. Cannot fail.
inline void commit(std::span<linear* const> consumers, std::vector<linear>& folded) noexcept {
  for (std::size_t i = 0; i < consumers.size(); ++i) std::swap(*consumers[i], folded[i]);
}
}  // namespace detail

}  // namespace repquant
