// SPDX-License-Identifier: MIT
/// spread_channels: what a linear layer reads, scaled and mixed by hadamard_row, and the inverse in its
/// weights, so that every channel has the same size, the shape of a normal distribution, and the same weight.
#pragma once

#include <repquant/kernel/hadamard.hpp>
#include <repquant/layer/linear.hpp>

#include <cmath>

namespace repquant {

/// The factors of hadamard_row for an input whose channels have variances `power`, where an error of a
/// channel counts `importance` (squared norms of the readers' columns):
///
///   g_j = (importance_j / power_j)^1/4
///
/// With steps in proportion to deviations, codes leave sum_j power_j importance_j in the output up to a
/// factor. After scaling by g and mixing, every channel has the mean of sqrt(power importance) for both: d
/// times its square is at most that sum. And sums of many channels have tails as short as a normal
/// distribution's, which a few levels cover better than those of what a GELU or a gate gives.
///
/// Half of the factors are negative (hadamard_negates): what one Hadamard matrix mixed before
/// (balance_heads), another one would take apart.
///
/// They also make the mixing orthogonal up to a factor for each output: 1 / sqrt(B) on the first block,
/// which both blocks may share.
///
/// Shapes    power, importance [d], not negative; result [d], none of them 0
/// Units     power that of the input squared. Channels that never move, or that nothing reads, count as a
///           millionth of the mean
/// Cost      in d
/// Source    ours; rotations with random signs before codes as QuIP# (arXiv 2402.04396) and QuaRot
///           (2404.00456), scales as SmoothQuant (2211.10438)
inline column<float> spread_factors(const column<double>& power, const column<double>& importance) {
  const index d = power.size();
  const double block = static_cast<double>(hadamard_block_size(static_cast<std::size_t>(d)));
  const double least_power = std::fmax(1e-6 * power.mean(), 1e-30);
  const double least_importance = std::fmax(1e-6 * importance.mean(), 1e-30);
  column<double> logs(d);
  for (index j = 0; j < d; ++j) {
    logs(j) = std::log(std::fmax(importance(j), least_importance) / std::fmax(power(j), least_power)) / 4;
  }
  column<float> factors(d);
  const double mean = logs.mean();
  for (index j = 0; j < d; ++j) {
    const double share = static_cast<double>(j) < block ? 1 / std::sqrt(block) : 1.0;
    const double sign = hadamard_negates(static_cast<std::size_t>(j)) ? -1.0 : 1.0;
    factors(j) = static_cast<float>(sign * share * std::exp(logs(j) - mean));
  }
  return factors;
}

/// Weights for inputs that hadamard_row scaled and mixed: `spread(w) hadamard_row(x) = w x` up to rounding.
///
/// Shapes    weight, result [out x d]; factors [d], none of them 0
/// Cost      a transform of each row
/// Precision float rounding of the sums that hadamard_row makes
inline matrix<> spread_weights(const matrix<>& weight, const column<float>& factors) {
  const index d = weight.cols();
  const auto block = static_cast<index>(hadamard_block_size(static_cast<std::size_t>(d)));
  const float share = 1.0F / static_cast<float>(block);  // H^-1 = H / B
  column<float> inverse(d);
  for (index j = 0; j < d; ++j) inverse(j) = (j < block ? share : 1.0F) / factors(j);
  matrix<> w(weight.rows(), d);
  const auto n = static_cast<std::size_t>(d);
  for (index i = 0; i < w.rows(); ++i) {
    hadamard_row({weight.row(i).data(), n}, {inverse.data(), n}, {w.row(i).data(), n});
  }
  if (block < d) w.rightCols(block) *= share;
  return w;
}

}  // namespace repquant
