// SPDX-License-Identifier: MIT
/// Runs a model on all samples that it is measured on, and scores it against the float model.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/parallel/threads.hpp>

#include "models/model_case.hpp"
#include "support/metrics.hpp"
#include "support/progress.hpp"
#include <functional>

namespace examples {

/// What maps the input of a program to its output. Called by several threads at once.
using sample_runner = std::function<repquant::result<repquant::matrix<>>(const repquant::matrix<>&)>;

/// The rows of an output that count.
inline repquant::matrix<> counted_rows(const repquant::matrix<>& output, std::span<const index> rows) {
  if (rows.empty()) return output;
  repquant::matrix<> m(static_cast<index>(rows.size()), output.cols());
  for (index i = 0; i < m.rows(); ++i) m.row(i) = output.row(rows[static_cast<std::size_t>(i)]);
  return m;
}

/// The logits of every evaluation sample, [rows that count x classes].
///
/// Errors  the first sample's that failed; non_finite: a sample's logits
inline repquant::result<std::vector<repquant::matrix<>>> logits_of(const model_case& m,
                                                                   const sample_runner& run,
                                                                   const repquant::threads& exec,
                                                                   progress& bar) {
  const auto count = static_cast<index>(m.evaluation.size());
  std::vector<repquant::matrix<>> logits(m.evaluation.size());
  std::vector<repquant::failure> failures(m.evaluation.size());
  constexpr index chunk = 64;
  for (index first = 0; first < count; first += chunk) {
    exec(std::min(chunk, count - first), [&](index i) {
      const auto at = static_cast<std::size_t>(first + i);
      const auto y = run(m.evaluation[at].input);
      if (y) {
        logits[at] = counted_rows(*y, m.evaluation[at].rows);
        failures[at] = repquant::check_finite(logits[at], "evaluation sample " + std::to_string(at));
      } else {
        failures[at] = y.error();
      }
    });
    bar(first + chunk, count);
  }
  for (const repquant::failure& f : failures) {
    if (f) return f;
  }
  if (m.output == output_kind::embedding) return similarity_logits(logits, m.similarity_scale);
  return logits;
}

/// The scores of all samples.
inline std::vector<sample_score> scores_of(const model_case& m,
                                           const std::vector<repquant::matrix<>>& reference,
                                           const std::vector<repquant::matrix<>>& logits,
                                           const repquant::threads& exec) {
  std::vector<sample_score> all(logits.size());
  exec(static_cast<index>(all.size()), [&](index i) {
    const auto at = static_cast<std::size_t>(i);
    all[at] = score(reference[at], logits[at], m.evaluation[at].labels);
  });
  return all;
}

}  // namespace examples
