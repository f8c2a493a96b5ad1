// SPDX-License-Identifier: MIT
/// The norm step of quantize_block: channel-wise parameters for its output, which then move into the norm and
/// all layers that read it, or, where something else reads the norm too or it has no shift, into those layers
/// alone.
#pragma once

#include <repquant/block/encode_inputs.hpp>
#include <repquant/reparam/equivalence.hpp>
#include <repquant/reparam/fold_layer_norm.hpp>
#include <repquant/reparam/fused_norm.hpp>

#include <algorithm>

namespace repquant::detail {

/// The instruction of a norm step, with gamma and beta as they are by now.
template<class Recipe, Executor E>
instruction norm_instruction(quantization<Recipe, E>& q, const step& s) {
  instruction x;
  x.kind = opcode::norm;
  x.out = q.stream.real(s.out);
  x.a = q.stream.real(s.a);
  x.cols = static_cast<std::int32_t>(q.cols(s.out));
  const any_norm& norm = q.folded.norms[static_cast<std::size_t>(s.layer)];
  if (const auto* l = std::get_if<layer_norm>(&norm)) {
    x.data[0] = q.constants(l->gamma.data(), l->gamma.size());
    x.data[1] = q.constants(l->beta.data(), l->beta.size());
    x.eps = l->eps;
  } else if (const auto* r = std::get_if<rms_norm>(&norm)) {
    x.flag = 1;
    x.data[0] = q.constants(r->gamma.data(), r->gamma.size());
    x.eps = r->eps;
  }
  return x;
}

/// Measures what the fold of a norm kept, on the norm inputs of the first samples.
template<class Recipe, Executor E>
failure report_fold(quantization<Recipe, E>& q, const step& s, const uniform& codec,
                    std::span<const affine> channels) {
  constexpr index most_samples = 8;
  std::vector<const linear*> before;
  std::vector<const linear*> after;
  for (const step* r : q.linear_readers(s.out)) {
    before.push_back(&q.original.linears[static_cast<std::size_t>(r->layer)]);
    after.push_back(&q.folded.linears[static_cast<std::size_t>(r->layer)]);
  }
  const auto layer = static_cast<std::size_t>(s.layer);
  const auto& norm = *std::get_if<layer_norm>(&q.original.norms[layer]);
  const auto& folded = *std::get_if<layer_norm>(&q.folded.norms[layer]);
  fold_report sum{s.path + ".out", {}};
  for (index i = 0; i < std::min(q.stream.samples(), most_samples); ++i) {
    const auto e = fold_equivalence(q.stream.reals(i, s.a), codec, channels, q.input(s.out).params, norm,
                                    folded, before, after);
    if (!e) return e.error().within(s.path);
    sum.add(*e);
  }
  q.report.folds.push_back(std::move(sum));
  return {};
}

/// Quantizes a norm step.
template<class Recipe, Executor E>
failure quantize_norm(quantization<Recipe, E>& q, const step& s) {
  const std::vector<const step*> readers = q.linear_readers(s.out);
  auto* norm = std::get_if<layer_norm>(&q.folded.norms[static_cast<std::size_t>(s.layer)]);
  const bool only_linear_readers =
      !readers.empty() && readers.size() == q.original.readers(s.out).size() && s.out != q.original.output;
  const bool folds = q.recipe.channel_wise_norm && norm != nullptr && only_linear_readers &&
                     q.shared.group_of(*readers.front()) < 0;
  if (!folds) {
    if (failure f = q.stream.run(norm_instruction(q, s))) return f;
    return encode_for_readers(q, s.out);
  }
  const std::string path = s.path + ".out";
  coded_value& site = q.input(s.out);
  site.bits = q.bits_of(path, q.recipe.activation.bits);
  const uniform codec = q.activation_codec(site.bits);
  if (failure f = q.stream.preview(norm_instruction(q, s))) return f;
  const auto channels = calibrate_channels(q, s.out, path, codec, q.recipe.norm_range);
  if (!channels) return channels.error();
  const auto layer_wise = fold_layer_norm(codec, *channels, *norm, q.consumers(s.out));
  if (!layer_wise) return layer_wise.error().within(path);
  site.params = *layer_wise;
  if (failure f = q.stream.run(norm_instruction(q, s))) return f;
  if (failure f = report_fold(q, s, codec, *channels)) return f;
  const std::span<const affine> params(&site.params, 1);
  const found_feedback feedback = feedback_for_readers(q, s.out, site_role::norm_output, params);
  if (failure f = q.encode(s.out, path, site_role::norm_output, site, params, feedback)) return f;
  q.report.sites.back().codec = "uniform per channel, folded";
  return {};
}

}  // namespace repquant::detail
