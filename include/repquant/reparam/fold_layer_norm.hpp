// SPDX-License-Identifier: MIT
/// fold_layer_norm: per-channel activation parameters behind a norm become one layer-wise set, by a change
/// of gamma and beta and of every layer that reads the norm.
#pragma once

#include <repquant/layer/norm.hpp>
#include <repquant/reparam/channel_scales.hpp>

namespace repquant {

namespace detail {
inline failure check_norm(index channels, const column<>& gamma) noexcept {
  if (gamma.size() == channels) return {};
  return {errc::shape_mismatch, "fold: norm channels", gamma.size(), channels};
}
}  // namespace detail

/// Moves the channel-wise scales and zero points into the norm and into all of its consumers.
///
///   (s~, z~) = layer_wise(s, z)      r1 = s / s~      r2 = z - z~, an integer vector
///   gamma~ = gamma / r1              beta~ = (beta + s r2) / r1
///   W~[:,d] = r1_d W[:,d]            b~ = b - W (s r2), with the original W; a bias is made where none was
///
/// The norm's output becomes x~ = (x + s r2) / r1, so x~ / s~ = x / s + r2: the layer-wise codes of the
/// folded network are the channel-wise codes of the original, near-ties within float rounding apart
/// (reparam/equivalence.hpp counts them), and its float function is unchanged.
///
/// The consumers must be all readers of the norm: one that is left out reads a changed activation. A norm
/// whose output is also the residual (post-norm) must not be folded; use fuse_norm.
///
/// Shapes    channels, norm [in]; consumers [out_i x in]
/// Errors    bad_bits; bad_option (a scale or zero point outside what fit gives, a consumer twice);
///           empty, shape_mismatch, non_finite (before, or by overflow after); with the place. On a failure
///           nothing was changed
/// Cost      in * sum of out_i
/// Precision double, each result rounded once to float
/// Source    RepQ-ViT (arXiv 2212.08254) eq. 12-16, with an integer zero point: docs/decisions/0005
inline result<affine> fold_layer_norm(const uniform& codec, std::span<const affine> channels,
                                      layer_norm& norm, std::span<linear* const> consumers) {
  if (failure f = check(codec, channels, "fold: channels")) return f;
  if (failure f = check(norm, "fold: norm")) return f;
  if (failure f = detail::check_norm(static_cast<index>(channels.size()), norm.gamma)) return f;
  const affine layer = layer_wise(codec, channels);
  result<std::vector<linear>> folded = detail::absorb_all(codec, channels, layer, consumers);
  if (!folded) return folded.error();
  layer_norm changed = norm;
  for (index d = 0; d < norm.gamma.size(); ++d) {
    const affine& p = channels[static_cast<std::size_t>(d)];
    const double r1 = static_cast<double>(p.scale) / static_cast<double>(layer.scale);
    const double shift = static_cast<double>(p.scale) * static_cast<double>(p.zero_point - layer.zero_point);
    changed.gamma(d) = static_cast<float>(static_cast<double>(norm.gamma(d)) / r1);
    changed.beta(d) = static_cast<float>((static_cast<double>(norm.beta(d)) + shift) / r1);
  }
  if (failure f = check(changed, "fold: norm: overflow")) return f;
  std::swap(norm, changed);
  detail::commit(consumers, *folded);
  return layer;
}

/// The same for a norm without a shift: only scales can move, so all zero points must be equal and in the
/// code range, as symmetric parameters are. Otherwise the fused form (reparam/fused_norm.hpp) is the
/// equivalent one, and the failure says so: bad_option, got = channels whose zero point is not z~.
inline result<affine> fold_layer_norm(const uniform& codec, std::span<const affine> channels, rms_norm& norm,
                                      std::span<linear* const> consumers) {
  if (failure f = check(codec, channels, "fold: channels")) return f;
  if (failure f = check(norm, "fold: norm")) return f;
  if (failure f = detail::check_norm(static_cast<index>(channels.size()), norm.gamma)) return f;
  const affine layer = layer_wise(codec, channels);
  const auto shifted = std::count_if(channels.begin(), channels.end(),
                                     [&](const affine& p) { return p.zero_point != layer.zero_point; });
  if (shifted != 0) {
    return failure{errc::bad_option, "fold: rms_norm cannot shift zero points; use fuse_norm", shifted, 0};
  }
  result<std::vector<linear>> folded = detail::absorb_all(codec, channels, layer, consumers);
  if (!folded) return folded.error();
  rms_norm changed = norm;
  for (index d = 0; d < norm.gamma.size(); ++d) {
    const auto s = static_cast<double>(channels[static_cast<std::size_t>(d)].scale);
    changed.gamma(d) =
        static_cast<float>(static_cast<double>(norm.gamma(d)) / (s / static_cast<double>(layer.scale)));
  }
  if (failure f = check(changed, "fold: norm: overflow")) return f;
  // a layer without a bias stays one: nothing was shifted
  for (std::size_t i = 0; i < consumers.size(); ++i) {
    if (consumers[i]->bias.size() == 0) (*folded)[i].bias.resize(0);
  }
  std::swap(norm, changed);
  detail::commit(consumers, *folded);
  return layer;
}

}  // namespace repquant
