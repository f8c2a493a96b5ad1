// SPDX-License-Identifier: MIT
/// score_ranges: ranges of q and k by what they cost the scores of an attention.
#pragma once

#include <repquant/block/attention_parameters.hpp>
#include <repquant/block/quantization.hpp>

#include <algorithm>
#include <array>
#include <cmath>
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
  matrix<> error;   ///< [tokens x keys]: what coding q and k adds to the scores
};

/// Some tokens of query head h, which reads key/value head g; no error yet.
inline score_sample scores_of(const attention_options& o, const matrix<>& q, const matrix<>& k, index h,
                              index g) {
  const index d = q.cols() / o.heads;
  const index stride = std::max<index>(1, q.rows() / 64);
  const index rows = q.rows() / stride;
  score_sample s{h, matrix<>(rows, d), k.middleCols(g * d, d), {}, matrix<>::Zero(rows, k.rows())};
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

/// Ranges of the queries and keys of one key/value head, by what they cost its scores.
class score_search {
 public:
  score_search(const attention_options& o, const uniform& q_codec, const uniform& k_codec, index g,
               std::vector<score_sample> samples)
      : o_(o), q_codec_(q_codec), k_codec_(k_codec), g_(g), samples_(std::move(samples)) {}

  /// The cost of these parameters; the samples' errors become theirs.
  double measure(const attention_parameters& p) {
    double sum = 0;
    for (score_sample& s : samples_) {
      s.error = -o_.scale * (s.query * s.key.transpose());
      for (index c = 0; c < s.key.cols(); ++c) add(coded(s, p, c), o_.scale, s.error);
      sum += score_cost(s.weight, s.error);
    }
    return sum;
  }
  /// Moves range from a channel's queries to its keys or back, s_q t and s_k / t, as long as that lowers the
  /// cost: channels in turn, t from 2^-1/2 to 2^1/2, at most twice each.
  void descend(attention_parameters& p) {
    double least = measure(p);
    for (int round = 0; round < 2; ++round) {
      const double before = least;
      for (index c = 0; c < samples_.front().key.cols(); ++c) least = best_of_channel(p, c, least);
      if (!(least < (1 - 1e-3) * before)) break;
    }
  }

 private:
  struct codes {
    column<> query;
    column<> key;
  };
  [[nodiscard]] std::size_t at(index head, index c) const {
    return static_cast<std::size_t>(head * samples_.front().key.cols() + c);
  }
  [[nodiscard]] codes coded(const score_sample& s, const attention_parameters& p, index c) const {
    return {coded_column(q_codec_, p.query[at(s.head, c)], s.query, c),
            coded_column(k_codec_, p.key[at(g_, c)], s.key, c)};
  }
  static void add(const codes& x, float scale, matrix<>& error) {
    error.noalias() += (scale * x.query) * x.key.transpose();
  }
  double best_of_channel(attention_parameters& p, index c, double least) {
    const attention_parameters start = p;
    attention_parameters best = p;
    std::vector<matrix<>> errors;
    for (const double t : {std::sqrt(0.5), std::pow(0.5, 0.25), std::pow(2.0, 0.25), std::sqrt(2.0)}) {
      attention_parameters tried = start;
      affine& key = tried.key[at(g_, c)];
      key = widened(k_codec_, key, static_cast<double>(key.scale) / t);
      for (index h = g_ * (o_.heads / o_.kv_heads); h < (g_ + 1) * (o_.heads / o_.kv_heads); ++h) {
        affine& query = tried.query[at(h, c)];
        query = widened(q_codec_, query, static_cast<double>(query.scale) * t);
      }
      std::vector<matrix<>> moved;
      double cost = 0;
      for (const score_sample& s : samples_) {
        moved.push_back(s.error);
        add(coded(s, start, c), -o_.scale, moved.back());
        add(coded(s, tried, c), o_.scale, moved.back());
        cost += score_cost(s.weight, moved.back());
      }
      if (!(cost < (1 - 1e-6) * least)) continue;
      least = cost;
      best = tried;
      errors = std::move(moved);
    }
    for (std::size_t n = 0; n < errors.size(); ++n) samples_[n].error = std::move(errors[n]);
    p = best;
    return least;
  }

  const attention_options& o_;
  uniform q_codec_;
  uniform k_codec_;
  index g_;
  std::vector<score_sample> samples_;
};

/// equalize_scores by what ranges cost the scores of at most 16 samples: for each key/value head the product
/// of scales, from the largest that a channel asks for down to 0.4 of it; then what of it is whose
/// (score_search::descend).
///
/// Cost  7 products of codes, and 8 outer products for each channel and round
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
    score_search search(o, q_codec, k_codec, g, std::move(scores));
    attention_parameters& best = found[static_cast<std::size_t>(g)];
    double least = 0;
    for (const double shrink : shrinks) {
      attention_parameters tried = p;
      equalize_scores(o, q_codec, k_codec, tried, shrink);
      const double cost = search.measure(tried);
      if (shrink < 1 && !(cost < least)) continue;
      least = cost;
      best = std::move(tried);
    }
    if (state.recipe.score_steps) search.descend(best);
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
