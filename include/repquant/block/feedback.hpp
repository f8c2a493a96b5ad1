// SPDX-License-Identifier: MIT
/// How the errors of codes are fed back (encode_with_feedback), by what the readers of a value make of them.
#pragma once

#include <repquant/block/head_moments.hpp>
#include <repquant/block/quantization.hpp>
#include <repquant/parallel/in_order.hpp>

#include <algorithm>
#include <span>

namespace repquant::detail {

/// The feedback of codes with these parameters, as the recipe has it, in blocks of at most `block` channels.
template<class Recipe>
found_feedback feedback_for(const Recipe& recipe, const matrix<double>& importance,
                            std::span<const affine> params, index block) {
  column<double> steps(static_cast<index>(params.size()));
  for (index j = 0; j < steps.size(); ++j)
    steps(j) = static_cast<double>(params[static_cast<std::size_t>(j)].scale);
  return find_feedback(importance, steps, block, recipe.feedback_damping);
}

/// That of value v for the linear layers that read it, which are as they were before they took its scales.
template<class Recipe, Executor E>
found_feedback feedback_for_readers(const quantization<Recipe, E>& q, int v, site_role role,
                                    std::span<const affine> params) {
  if (q.recipe.feedback_block == 0 || role == site_role::model_input) return {};
  return feedback_for(q.recipe, q.readers_gram(v), params, q.recipe.feedback_block);
}

/// Second moments of a value of the quantized stream over all samples.
template<class Recipe, Executor E>
head_moments moments_of(const quantization<Recipe, E>& q, int v, index heads) {
  head_moments total;
  in_order<head_moments>(
      q.stream.samples(), q.stream.executor(),
      [&](index i, head_moments& own) {
        own = {};
        own.see(q.stream.reals(i, v), heads);
      },
      [&](index, const head_moments& own) { total.add(own); });
  return total;
}

/// What errors of the operands of an attention cost, head by head. Of a query: its products with the keys,
/// about their mean, which adds the same to all scores. Of a key: its products with the queries that read it.
/// Of a value: what the linear layer behind the attention makes of it; nothing where that is none.
struct operand_importance {
  matrix<double> query, key, value;
  index block = 0;  ///< what the recipe allows, in equal parts of a head: no error reaches another one
};

/// From the moments of queries and keys; `out`: W^T W of what reads the attention, empty where nothing does.
inline operand_importance importance_of_heads(const head_moments& queries, const head_moments& keys,
                                              const matrix<double>& out) {
  const auto heads = static_cast<index>(queries.products.size());
  const auto kv_heads = static_cast<index>(keys.products.size());
  const index d = queries.products.front().rows();
  operand_importance x;
  x.query = matrix<double>::Zero(heads * d, heads * d);
  x.key = matrix<double>::Zero(kv_heads * d, kv_heads * d);
  if (out.size() != 0) x.value = matrix<double>::Zero(kv_heads * d, kv_heads * d);
  for (index h = 0; h < heads; ++h) {
    const index g = h / (heads / kv_heads);
    x.query.block(h * d, h * d, d, d) = keys.about_mean(g);
    x.key.block(g * d, g * d, d, d) += queries.products[static_cast<std::size_t>(h)];
    if (out.size() != 0) x.value.block(g * d, g * d, d, d) += out.block(h * d, h * d, d, d);
  }
  return x;
}
template<class Recipe, Executor E>
operand_importance importance_of_operands(const quantization<Recipe, E>& q, const step& s) {
  const std::size_t linear = q.linear_readers(s.out).size();
  const bool read_linearly =
      linear > 0 && linear == q.original.readers(s.out).size() && s.out != q.original.output;
  operand_importance x =
      importance_of_heads(moments_of(q, s.a, s.attention.heads), moments_of(q, s.b, s.attention.kv_heads),
                          read_linearly ? q.readers_gram(s.out) : matrix<double>());
  const index d = q.cols(s.a) / s.attention.heads;
  x.block = std::min(d, q.recipe.feedback_block);
  while (d % x.block != 0) --x.block;
  return x;
}

}  // namespace repquant::detail
