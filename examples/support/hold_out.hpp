// SPDX-License-Identifier: MIT
/// Judging on calibration samples alone: they are split into parts, and each part judges what the others
/// made. What a recipe is chosen by; no evaluation sample has a part in it.
#pragma once

#include <repquant/core/failure.hpp>

#include "models/model_case.hpp"
#include "models/splitmix64.hpp"
#include "support/accuracy_rows.hpp"

namespace examples {

/// A model that calibrates on some of its calibration samples and is measured on the other ones.
struct held_out_case {
  model_case model;
  std::vector<std::size_t> measured;  ///< numbers of the evaluation samples among the calibration samples
};

/// The `folds` cases of one split: every sample is measured in one of them and calibrates in the others.
/// Which samples go together is drawn from `seed`; their order stays.
///
/// Errors  bad_option: fewer calibration samples than parts
inline repquant::result<std::vector<held_out_case>> hold_out(const model_case& m, int folds,
                                                             std::uint64_t seed) {
  const auto count = static_cast<index>(m.calibration.size());
  if (count < folds) {
    return repquant::failure{repquant::errc::bad_option, m.name + ": calibration samples for so many folds",
                             count, folds};
  }
  std::vector<index> order(m.calibration.size());
  for (index i = 0; i < count; ++i) order[static_cast<std::size_t>(i)] = i;
  splitmix64 random{seed};
  shuffle_front(random, order, count);
  std::vector<int> part(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    part[static_cast<std::size_t>(order[i])] = static_cast<int>(i % static_cast<std::size_t>(folds));
  }
  std::vector<held_out_case> cases;
  for (int fold = 0; fold < folds; ++fold) {
    held_out_case c;
    c.model = {m.name, m.network, {}, {}, m.accuracy, m.output, m.similarity_scale, {}};
    std::vector<index> numbers;  // of the samples that calibrate
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (part[i] == fold) c.measured.push_back(i);
      if (part[i] != fold) numbers.push_back(static_cast<index>(i));
      (part[i] == fold ? c.model.evaluation : c.model.calibration).push_back(m.calibration[i]);
    }
    if (m.vary) {
      c.model.vary = [vary = m.vary, numbers](std::span<const index> among, splitmix64& draws) {
        std::vector<index> original;
        for (const index i : among) original.push_back(numbers[static_cast<std::size_t>(i)]);
        return vary(original, draws);
      };
    }
    cases.push_back(std::move(c));
  }
  return cases;
}

/// Adds the rows of one case to those of the cases before it: scores go to the samples that they are of, so
/// that a sample measured in several splits counts as one.
///
/// Requires  the same recipes and widths in the same order in every case
inline void add_fold(std::vector<accuracy_row>& to, std::vector<accuracy_row> rows,
                     std::span<const std::size_t> measured, std::size_t samples) {
  const bool first = to.empty();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    accuracy_row& fold = rows[r];
    if (first) {
      to.push_back(fold);
      to.back().scores.assign(samples, {});
      to.back().seconds = 0;
    }
    accuracy_row& sum = to[r];
    for (std::size_t i = 0; i < fold.scores.size(); ++i) sum.scores[measured[i]].add(fold.scores[i]);
    sum.kl_by_fold.push_back(fold.quality.kl.mean);
    sum.seconds += (fold.seconds - sum.seconds) / static_cast<double>(sum.kl_by_fold.size());
    sum.calibration_samples = std::min(sum.calibration_samples, fold.calibration_samples);
    sum.quality = quality_of(sum.scores);
  }
}

}  // namespace examples
