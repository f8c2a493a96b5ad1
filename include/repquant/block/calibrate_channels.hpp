// SPDX-License-Identifier: MIT
/// calibrate_channels: one parameter set for each channel of a value: by an observer, then by what it costs
/// the layers that read the value, then a margin for what was not seen.
#pragma once

#include <repquant/block/quantization.hpp>
#include <repquant/calibrate/search_clips.hpp>
#include <repquant/reparam/widened.hpp>
#include <repquant/train/learn_clips.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace repquant::detail {

/// All tokens of value v in the quantized stream, one sample after the other.
template<class Recipe, Executor E>
index tokens_of(const quantization<Recipe, E>& q, int v) {
  index tokens = 0;
  for (index i = 0; i < q.stream.samples(); ++i) tokens += q.stream.reals(i, v).rows();
  return tokens;
}

/// What ranges of value v cost the linear layers that read it, on at most 2,048 of its tokens, evenly spread.
template<class Recipe, Executor E>
result<clipping_problem> clipping_of(const quantization<Recipe, E>& q, int v, const uniform& codec) {
  constexpr index most = 2048;
  const index tokens = tokens_of(q, v);
  const index kept = std::min(most, tokens);
  matrix<> x(kept, q.cols(v));
  std::vector<double> weight;
  index number = 0;  // of the sample's first token
  index sample = 0;
  for (index k = 0; k < kept; ++k) {
    const index t = k * tokens / kept;
    while (t - number >= q.stream.reals(sample, v).rows()) number += q.stream.reals(sample++, v).rows();
    const matrix<>& own = q.stream.reals(sample, v);
    x.row(k) = own.row(t - number);
    weight.push_back(q.weight_of(v, t - number, own.rows()));
  }
  return clipping_problem::make(codec, x, weight, q.readers_gram(v), q.recipe.correct_bias);
}

/// Moves the ranges of value v to where its readers' outputs lose less, as recipe.clip_steps and clip_sweeps
/// say. Where no linear layer reads the value, nothing moves.
template<class Recipe, Executor E>
failure clip_ranges(const quantization<Recipe, E>& q, int v, const uniform& codec,
                    std::vector<range>& ranges) {
  if (q.recipe.clip_steps == 0 && q.recipe.clip_sweeps == 0) return {};
  if (q.linear_readers(v).empty()) return {};
  const auto problem = clipping_of(q, v, codec);
  if (!problem) return problem.error();
  clip_training training;
  training.steps = q.recipe.clip_steps;
  clip_search search;
  search.sweeps = q.recipe.clip_sweeps;
  auto learned = learn_clips(*problem, std::move(ranges), training, q.stream.executor());
  if (!learned) return learned.error();
  auto found = search_clips(*problem, std::move(learned->ranges), search, q.stream.executor());
  if (!found) return found.error();
  ranges = std::move(found->ranges);
  return {};
}

/// Ranges wider by 1 / sqrt(n) + 8 / n for n tokens seen: what few tokens spanned, others will leave.
inline void widen(const uniform& codec, index tokens, std::vector<affine>& params) {
  const auto n = static_cast<double>(tokens);
  const double margin = 1 / std::sqrt(n) + 8 / n;
  for (affine& p : params) p = widened(codec, p, static_cast<double>(p.scale) * (1 + margin));
}

/// Parameters for each channel of value v from its quantized stream over all samples.
template<class Recipe, Executor E, class Observer>
result<std::vector<affine>> calibrate_channels(const quantization<Recipe, E>& q, int v,
                                               const std::string& path, const uniform& codec,
                                               const Observer& observer) {
  const auto watch = q.observe(v, path, per_col{}, observer);
  if (!watch) return watch.error();
  auto ranges = watch->choose(codec, q.stream.executor());
  if (!ranges) return ranges.error();
  if (failure f = clip_ranges(q, v, codec, *ranges)) return f.within(path);
  const auto made = quantizer_for(codec, per_col{}, {0, q.cols(v)}, *ranges);
  if (!made) return made.error().within(path);
  std::vector<affine> params(made->params().begin(), made->params().end());
  if (q.recipe.widen_ranges) widen(codec, tokens_of(q, v), params);
  return params;
}

}  // namespace repquant::detail
