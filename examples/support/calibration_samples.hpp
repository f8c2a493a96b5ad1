// SPDX-License-Identifier: MIT
/// What the recipes of examples/accuracy calibrate on: a model's calibration samples and variations of them.
#pragma once

#include "models/vary.hpp"
#include "support/accuracy_recipe.hpp"
#include <algorithm>
#include <array>
#include <limits>

namespace examples {

/// The inputs of at most `limit` calibration samples.
inline std::vector<repquant::matrix<>> calibration_inputs(
    const model_case& m, std::size_t limit = std::numeric_limits<std::size_t>::max()) {
  std::vector<repquant::matrix<>> all;
  for (const model_sample& s : m.calibration) {
    if (all.size() < limit) all.push_back(s.input);
  }
  return all;
}

/// Multiply-adds of the linear layers of a program on a sample of that many rows.
inline double multiply_adds(const repquant::program& p, index rows) {
  double sum = 0;
  for (const repquant::linear& l : p.linears) sum += static_cast<double>(l.weight.size() * rows);
  return sum;
}

/// The numbers first .. last - 1.
inline std::vector<index> numbers_of(index first, index last) {
  std::vector<index> all;
  for (index i = first; i < last; ++i) all.push_back(i);
  return all;
}

/// `count` variations, number k of one of the calibration samples with the numbers among(k).
///
/// Cost  one m.vary for each, in parallel
template<class F>
std::vector<model_sample> variations(const model_case& m, index count, std::uint64_t seed,
                                     const repquant::threads& exec, const F& among) {
  std::vector<model_sample> all(static_cast<std::size_t>(m.vary ? std::max<index>(count, 0) : 0));
  exec(static_cast<index>(all.size()), [&](index k) {
    auto random = repquant::splitmix64::of(seed, static_cast<std::uint64_t>(k));
    all[static_cast<std::size_t>(k)] = m.vary(among(k), random);
  });
  return all;
}

/// What this library's recipes calibrate on: the first `count` calibration samples, then variations of these,
/// until there are task.most_samples samples or a float run of all takes 3e10 multiply-adds. Variations of
/// even samples stand in even places: what the recipe tries on one half of the places, the other half has not
/// seen.
inline std::vector<repquant::matrix<>> varied_inputs(const recipe_task& task, std::size_t count) {
  std::vector<repquant::matrix<>> all = calibration_inputs(task.model, count);
  double rows = 0;
  for (const repquant::matrix<>& x : all) rows += static_cast<double>(x.rows());
  const double of_a_row = multiply_adds(task.model.network, 1);
  const double affordable = 3e10 / of_a_row * static_cast<double>(all.size()) / rows;
  std::array<std::vector<index>, 2> halves;
  for (std::size_t i = 0; i < count; ++i) halves[i % 2].push_back(static_cast<index>(i));
  const index wanted =
      std::min(task.most_samples, static_cast<index>(affordable)) - static_cast<index>(count);
  const auto half = [&](index k) -> std::span<const index> {
    const std::vector<index>& same = halves[(count + static_cast<std::size_t>(k)) % 2];
    return same.empty() ? halves[0] : same;
  };
  for (model_sample& s : variations(task.model, wanted, 1, task.exec, half))
    all.push_back(std::move(s.input));
  return all;
}

}  // namespace examples
