// SPDX-License-Identifier: MIT
/// score_ranges: ranges of q and k by what they cost the scores of an attention.
#pragma once

#include <repquant/block/attention_parameters.hpp>
#include <repquant/block/quantization.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

namespace repquant::detail {

/// One column of x as codes mean it.
inline column<> coded_column(const uniform& codec, const affine& p, const matrix<>& x, index c) {
  column<> y(x.rows());
  for (index t = 0; t < x.rows(); ++t) y(t) = codec.decode(codec.encode(x(t, c), p), p);
  return y;
}

/// The scores of one query head in one sample.
struct score_sample {
  index head;       ///< of the queries
  matrix<> query;   ///< [tokens x d]; of many tokens, about 64
  matrix<> key;     ///< [keys x d]
  matrix<> weight;  ///< [tokens x keys]: the probabilities, zero where a token does not see a key
};

/// Some tokens of query head h, which reads key/value head g.
inline score_sample scores_of(const attention_options& o, const matrix<>& q, const matrix<>& k, index h,
                              index g) {
  const index d = q.cols() / o.heads;
  const index stride = std::max<index>(1, q.rows() / 64);
  const index rows = q.rows() / stride;
  score_sample s{h, matrix<>(rows, d), k.middleCols(g * d, d), {}};
  for (index i = 0; i < rows; ++i) s.query.row(i) = q.row((i + 1) * stride - 1).segment(h * d, d);
  s.weight = o.scale * (s.query * s.key.transpose());
  for (index i = 0; i < rows; ++i) {
    const index last = (i + 1) * stride - 1 + k.rows() - q.rows();
    const index seen = o.causal ? std::clamp(last + 1, index{0}, k.rows()) : k.rows();
    auto row = s.weight.row(i);
    row.tail(k.rows() - seen).setZero();
    if (seen == 0) continue;
    auto visible = row.head(seen);
    visible = (visible.array() - visible.maxCoeff()).exp().matrix();
    visible /= visible.sum();
  }
  return s;
}

/// What errors of the scores cost, with the probabilities p:
///
///   sum over tokens i and keys j of  p_ij (e_ij - sum over j of p_ij e_ij)^2
///
/// twice the divergence of the probabilities from those without error, to second order.
inline double score_cost(const matrix<>& weight, const matrix<>& error) {
  double sum = 0;
  for (index i = 0; i < weight.rows(); ++i) {
    const auto mean = static_cast<double>(weight.row(i).dot(error.row(i)));
    const float square = (weight.row(i).array() * error.row(i).array().square()).sum();
    sum += static_cast<double>(square) - mean * mean;
  }
  return sum;
}

/// score_cost of what codes with these parameters add to the scores of samples of key/value head g.
inline double coded_score_cost(const attention_options& o, const uniform& q_codec, const uniform& k_codec,
                               const attention_parameters& p, index g,
                               std::span<const score_sample> samples) {
  double sum = 0;
  for (const score_sample& s : samples) {
    const index d = s.key.cols();
    const auto at = [d](index head, index c) { return static_cast<std::size_t>(head * d + c); };
    matrix<> error = -o.scale * (s.query * s.key.transpose());
    for (index c = 0; c < d; ++c) {
      const column<> query = coded_column(q_codec, p.query[at(s.head, c)], s.query, c);
      const column<> key = coded_column(k_codec, p.key[at(g, c)], s.key, c);
      error.noalias() += (o.scale * query) * key.transpose();
    }
    sum += score_cost(s.weight, error);
  }
  return sum;
}

/// equalize_scores by what ranges cost the scores of at most 16 samples: for each key/value head the product
/// of scales, from the largest that a channel asks for down to 0.4 of it.
///
/// Cost  7 products of codes
template<class Recipe, Executor E>
void choose_score_ranges(const quantization<Recipe, E>& state, const step& s, const uniform& q_codec,
                         const uniform& k_codec, attention_parameters& p) {
  constexpr std::array shrinks = {1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4};
  const attention_options& o = s.attention;
  const index samples = std::min<index>(state.stream.samples(), 16);
  const index share = o.heads / o.kv_heads;
  const index d = static_cast<index>(p.query.size()) / o.heads;
  std::vector<attention_parameters> found(static_cast<std::size_t>(o.kv_heads));
  state.stream.executor()(o.kv_heads, [&](index g) {
    std::vector<score_sample> scores;
    for (index n = 0; n < samples; ++n) {
      const index i = n * state.stream.samples() / samples;
      for (index h = g * share; h < (g + 1) * share; ++h)
        scores.push_back(scores_of(o, state.stream.reals(i, s.a), state.stream.reals(i, s.b), h, g));
    }
    attention_parameters& best = found[static_cast<std::size_t>(g)];
    double least = 0;
    for (const double shrink : shrinks) {
      attention_parameters tried = p;
      equalize_scores(o, q_codec, k_codec, tried, shrink);
      const double cost = coded_score_cost(o, q_codec, k_codec, tried, g, scores);
      if (shrink < 1 && !(cost < least)) continue;
      least = cost;
      best = std::move(tried);
    }
  });
  p.score.assign(static_cast<std::size_t>(o.heads), 0);
  for (index g = 0; g < o.kv_heads; ++g) {
    const attention_parameters& own = found[static_cast<std::size_t>(g)];
    const auto copy = [](const auto& from, auto& to, index first, index count) {
      std::copy_n(from.begin() + first, count, to.begin() + first);
    };
    copy(own.query, p.query, g * share * d, share * d);
    copy(own.key, p.key, g * d, d);
    copy(own.score, p.score, g * share, share);
  }
}

}  // namespace repquant::detail
