// SPDX-License-Identifier: MIT
/// fuse_norm: the fold for norms that cannot be changed. The norm stays as it is; its output is encoded
/// channel by channel, and only the consumers take the scales.
#pragma once

#include <repquant/reparam/channel_scales.hpp>

namespace repquant {

/// Moves the channel-wise scales and zero points into the consumers alone.
///
///   at run time      q_d = clamp(rne(x_d / s_d) + z_d)        the norm's output, channel-wise (per_col)
///                    y   = s~ sum over d of W~_d (q_d - z~) + b~
///   done here        W~ = W diag(s) / s~,  b~ = b - W (s (z - z~)),  (s~, z~) = layer_wise(s, z)
///
/// The codes and the consumers are those of fold_layer_norm; what fold_layer_norm does to gamma and beta,
/// the kernel that encodes does with s and z. For RMSNorm, which has no shift, and for a norm whose output
/// is also the residual. In float the changed consumers no longer fit the unchanged norm: they read codes.
///
/// s~ is `unit` where that is positive: consumers that several calls share get the same weights where the
/// channels of each call are its unit times the same ratios.
///
/// Shapes    channels [in]; consumers [out_i x in]
/// Errors    as fold_layer_norm. On a failure nothing was changed
/// Cost      in * sum of out_i
/// Precision double, each result rounded once to float
inline result<affine> fuse_norm(const uniform& codec, std::span<const affine> channels,
                                std::span<linear* const> consumers, double unit = 0) {
  if (failure f = check(codec, channels, "fold: channels")) return f;
  affine layer = layer_wise(codec, channels);
  if (unit > 0) layer.scale = static_cast<float>(unit);
  result<std::vector<linear>> folded = detail::absorb_all(codec, channels, layer, consumers);
  if (!folded) return folded.error();
  detail::commit(consumers, *folded);
  return layer;
}

}  // namespace repquant
