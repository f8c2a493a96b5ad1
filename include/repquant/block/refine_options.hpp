// SPDX-License-Identifier: MIT
/// What refine() can be told, and what it tells while it works.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace repquant {

/// What the result of a model is compared by.
enum class refinement_loss : std::uint8_t {
  divergence,     ///< mean over rows of KL(softmax(float result) || softmax(quantized result)), in nats
  squared_error,  ///< mean squared error of the result over the mean square of the float result
};

/// Settings of refine(). Steps of 0 leave a phase out.
struct refinement {
  index block_steps = 200;       ///< steps for each block, on its own output
  index end_to_end_steps = 200;  ///< steps for the whole model, on its result
  index batch = 16;              ///< samples in a step
  index at_once = 4;             ///< samples held in memory at a time: more memory, the same result

  // What a step of Adam may change at most, at the start of a phase; the rates fall to 0 as a cosine. The
  // rates of the whole model are these times end_to_end_rate.
  float weight_rate = 0.02F;     ///< in steps between neighbouring codes
  float scale_rate = 5e-3F;      ///< in logarithms of scales, multipliers and score factors
  float zero_rate = 0.02F;       ///< in codes
  float offset_rate = 1e-3F;     ///< in root mean squares of what a layer gives, of a norm's gamma
  float end_to_end_rate = 0.5F;  ///< factor

  refinement_loss loss = refinement_loss::divergence;
  float hidden_weight =
      0;              ///< end to end: of the relative squared error of the value between the last blocks
  float drop = 0.5F;  ///< block by block: share of quantized activations left in float, at random (QDrop)
  float held_back = 0.5F;  ///< share of the samples, the last ones, that judge and do not train; at least
                           ///< one where it is not 0; with 0 the training samples judge
  index checks = 10;       ///< how often in a phase the held-back samples judge
  /// What is judged and kept is a running mean of the parameters over about the last 1 / (1 - average) steps,
  /// rounded: codes that waver settle. 0 for the parameters of the last step.
  float average = 0.9F;
  /// Where a judgement is no better than the best before, the parameters go back to that best and all rates
  /// are multiplied by this; 1 never goes back.
  float step_back = 0.5F;
  std::uint64_t seed = 1;

  /// Weights in units of codes to start from, one matrix [out x in] per linear instruction in order, or none:
  /// the codes. They are moved to within half a step of their code, so that the start rounds to the model.
  std::span<const matrix<>> weights = {};
};

/// How far refine() is.
struct refinement_status {
  index done = 0;   ///< steps done
  index steps = 0;  ///< steps in all
  /// Loss on the held-back samples, of the phase it is in: a block's relative squared error, or that of the
  /// result.
  double start = 0;
  double best = 0;
};

/// Called after each step; false stops (errc::cancelled).
using refine_progress = std::function<bool(const refinement_status&)>;

}  // namespace repquant
