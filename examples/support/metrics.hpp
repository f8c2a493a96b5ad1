// SPDX-License-Identifier: MIT
/// How far the output of a quantized model is from the float model's, and how sure one can be of it.
#pragma once

#include <repquant/matrix/matrix.hpp>
#include <repquant/train/splitmix64.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace examples {

using repquant::index;

/// log sum exp(x), in double.
inline double log_sum_exp(std::span<const float> x) {
  const double top = static_cast<double>(*std::max_element(x.begin(), x.end()));
  double sum = 0;
  for (const float v : x) sum += std::exp(static_cast<double>(v) - top);
  return top + std::log(sum);
}

/// KL(p || q) = sum p (log p - log q) in nats, p = softmax(reference), q = softmax(logits).
///
/// Requires  as many logits as references, at least one
inline double kl_divergence(std::span<const float> reference, std::span<const float> logits) {
  const double of_reference = log_sum_exp(reference);
  const double of_logits = log_sum_exp(logits);
  double sum = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double p = static_cast<double>(reference[i]) - of_reference;
    sum += std::exp(p) * (p - (static_cast<double>(logits[i]) - of_logits));
  }
  return std::max(sum, 0.0);  // a sum of roundings where the two are the same
}

/// The position of the largest value; the first of equal ones.
inline index largest_of(std::span<const float> x) { return std::max_element(x.begin(), x.end()) - x.begin(); }

/// Sums over the rows of one sample.
struct sample_score {
  double rows = 0;
  double kl = 0;             ///< of KL(float || quantized), nats
  double labelled = 0;       ///< rows with a label
  double cross_entropy = 0;  ///< of -log q[label], nats, over the labelled rows
  double hits = 0;           ///< labelled rows whose largest logit is the label's

  void add(const sample_score& other) {
    rows += other.rows;
    kl += other.kl;
    labelled += other.labelled;
    cross_entropy += other.cross_entropy;
    hits += other.hits;
  }
};

/// Scores the logits of a sample against the float model's.
///
/// Shapes    reference, logits [rows x classes]; labels [rows], -1 for none, or empty for none at all
inline sample_score score(repquant::matrix_view reference, repquant::matrix_view logits,
                          std::span<const index> labels) {
  sample_score s;
  for (index i = 0; i < logits.rows(); ++i) {
    s.rows += 1;
    s.kl += kl_divergence(reference.row(i), logits.row(i));
    if (labels.empty() || labels[static_cast<std::size_t>(i)] < 0) continue;
    const index label = labels[static_cast<std::size_t>(i)];
    s.labelled += 1;
    s.cross_entropy += log_sum_exp(logits.row(i)) - static_cast<double>(logits(i, label));
    s.hits += largest_of(logits.row(i)) == label ? 1 : 0;
  }
  return s;
}

/// A mean with its standard error; NaN where there is nothing to take a mean of.
struct estimate {
  double mean = std::numeric_limits<double>::quiet_NaN();
  double error = std::numeric_limits<double>::quiet_NaN();
};

/// The mean over all rows, m = sum s_i / sum n_i over samples i, with the standard error of a mean of
/// clusters: sqrt(k / (k - 1) sum (s_i - m n_i)^2) / sum n_i over k samples. With one row a sample it is the
/// usual one.
inline estimate mean_over_rows(std::span<const sample_score> scores, double sample_score::*sum,
                               double sample_score::*count) {
  double s = 0;
  double n = 0;
  double samples = 0;
  for (const sample_score& x : scores) {
    s += x.*sum;
    n += x.*count;
    samples += x.*count > 0 ? 1 : 0;
  }
  estimate e;
  if (n == 0) return e;
  e.mean = s / n;
  if (samples < 2) return e;
  double squares = 0;
  for (const sample_score& x : scores) {
    const double d = x.*sum - e.mean * (x.*count);
    squares += d * d;
  }
  e.error = std::sqrt(samples / (samples - 1) * squares) / n;
  return e;
}

/// The standard deviation of values, n - 1 under the root; NaN for fewer than two.
inline double deviation(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (values.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  double mean = 0;
  for (const double v : values) mean += v / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (n - 1));
}

/// What is left of a model.
struct model_quality {
  estimate kl;             ///< nats
  estimate cross_entropy;  ///< nats
  estimate accuracy;       ///< percent
};
inline model_quality quality_of(std::span<const sample_score> scores) {
  model_quality q{mean_over_rows(scores, &sample_score::kl, &sample_score::rows),
                  mean_over_rows(scores, &sample_score::cross_entropy, &sample_score::labelled),
                  mean_over_rows(scores, &sample_score::hits, &sample_score::labelled)};
  q.accuracy.mean *= 100;
  q.accuracy.error *= 100;
  return q;
}

/// What quantizing changed, sample by sample: what both models get wrong alike takes no part in the error.
struct model_change {
  estimate cross_entropy;  ///< percent of the float model's
  estimate accuracy;       ///< points
};
/// Requires  scores of the same samples in the same order; else nothing is known
inline model_change change_of(std::span<const sample_score> of_float, std::span<const sample_score> scores) {
  if (of_float.size() != scores.size()) return {};
  std::vector<sample_score> differences(scores.begin(), scores.end());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    differences[i].cross_entropy -= of_float[i].cross_entropy;
    differences[i].hits -= of_float[i].hits;
  }
  const model_quality before = quality_of(of_float);
  const model_quality change = quality_of(differences);
  const double percent = 100 / before.cross_entropy.mean;
  return {{percent * change.cross_entropy.mean, percent * change.cross_entropy.error}, change.accuracy};
}

/// The share of a baseline's divergence that is removed, 1 - KL / KL of the baseline; negative where it grew.
///
/// Requires  scores of the same samples in the same order
inline double share_removed(std::span<const sample_score> baseline, std::span<const sample_score> scores) {
  double before = 0;
  double after = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    before += baseline[i].kl;
    after += scores[i].kl;
  }
  return 1 - after / before;
}

/// The same of `resamples` bootstrap samples: as many samples as there are, drawn with replacement, the same
/// ones for both sides. The generator is splitmix64: the same draws everywhere.
inline std::vector<double> bootstrap_shares(std::span<const sample_score> baseline,
                                            std::span<const sample_score> scores, int resamples = 2000,
                                            std::uint64_t seed = 1) {
  repquant::splitmix64 next{seed};
  std::vector<double> shares;
  for (int r = 0; r < resamples; ++r) {
    double before = 0;
    double after = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const std::size_t drawn = (next() >> 32) * scores.size() >> 32;
      before += baseline[drawn].kl;
      after += scores[drawn].kl;
    }
    shares.push_back(1 - after / before);
  }
  return shares;
}

/// The middle `part` of values, linearly interpolated.
///
/// Requires  at least one value
inline std::pair<double, double> middle(std::vector<double> values, double part = 0.95) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double p) {
    const double h = p * static_cast<double>(values.size() - 1);
    const auto k = static_cast<std::size_t>(h);
    const double above = values[std::min(k + 1, values.size() - 1)];
    return values[k] + (h - std::floor(h)) * (above - values[k]);
  };
  return {at((1 - part) / 2), at((1 + part) / 2)};
}

/// The logits of sample i when the model gives embeddings: scale * cosine similarity to every sample's.
///
/// Shapes    one row [1 x width] per sample; result one row [1 x samples] per sample
inline std::vector<repquant::matrix<>> similarity_logits(std::span<const repquant::matrix<>> embeddings,
                                                         float scale) {
  std::vector<Eigen::VectorXd> directions;
  for (const repquant::matrix<>& e : embeddings) {
    const Eigen::VectorXd v = e.row(0).transpose().cast<double>();
    directions.emplace_back(v / std::max(v.norm(), 1e-30));
  }
  const auto n = static_cast<index>(embeddings.size());
  std::vector<repquant::matrix<>> all;
  for (index i = 0; i < n; ++i) {
    repquant::matrix<> row(1, n);
    for (index j = 0; j < n; ++j) {
      row(0, j) =
          static_cast<float>(static_cast<double>(scale) * directions[static_cast<std::size_t>(i)].dot(
                                                              directions[static_cast<std::size_t>(j)]));
    }
    all.push_back(std::move(row));
  }
  return all;
}

}  // namespace examples
