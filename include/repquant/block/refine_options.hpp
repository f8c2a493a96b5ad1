// SPDX-License-Identifier: MIT
/// What refine() can be told, and what it tells while it works.
#pragma once

#include <repquant/core/check_fraction.hpp>
#include <repquant/matrix/matrix.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace repquant {

/// What the result of a model is compared by.
enum class refinement_loss : std::uint8_t {
  divergence,  ///< mean over rows of T^2 KL(softmax(float result / T) || softmax(quantized result / T)), in
               ///< nats; T is 1 to train, the temperature to judge
  squared_error,  ///< mean squared error of the result over the mean square of the float result
  similarity,     ///< the divergence of references y / |y|, y a row of the result: of embeddings, whose
                  ///< direction counts
};

/// An input to learn from.
struct refinement_sample {
  matrix<> input;           ///< [tokens x input_cols]
  std::vector<index> rows;  ///< rows of its result that count, empty for all
};

/// Makes sample `number` of an endless sequence. A pure function: it is called by several threads at once, in
/// any order.
///
/// Requires  what it gives is finite and fits the program and the model, as refine() checks of its samples
using refinement_source = std::function<refinement_sample(std::uint64_t number)>;

/// Settings of refine(). Steps of 0 leave a phase out.
struct refinement {
  index block_steps = 200;       ///< steps for each block, on its own output
  index end_to_end_steps = 200;  ///< steps for the whole model, on its result
  index batch = 16;              ///< samples in a step
  index at_once = 4;             ///< samples whose gradients are in memory at a time: the same result

  // How far a parameter wanders in a phase whose gradients are nothing but noise, over the root of the loss
  // that the phase starts with: a step of Adam changes it by at most rate sqrt(loss / steps), so that one
  // whose gradients agree goes sqrt(steps) times as far. What wanders adds an error of about its square,
  // which may be as large as the error that is there, but not larger; and a weight that wanders by half a
  // code flips for no reason. More steps tell more of the noise from the rest. Within a phase the steps fall
  // to 0 as a cosine.
  float weight_rate = 0.15F;  ///< in steps between neighbouring codes
  float scale_rate = 5e-3F;   ///< in logarithms of scales, multipliers and score factors
  float zero_rate = 0.1F;     ///< in codes
  float offset_rate = 5e-3F;  ///< in root mean squares of what a layer gives, of a norm's gamma
  float end_to_end_rate = 1;  ///< factor
  float warm_up = 0;          ///< share of a phase's steps in which the rates rise from 0

  refinement_loss loss = refinement_loss::divergence;
  matrix<> references;  ///< for refinement_loss::similarity, [any x output_cols]
  /// At which divergences judge; training is at 1. A classifier is all but certain of most samples: at 1
  /// these say next to nothing, at higher temperatures all logits count (at infinity equally), so that a few
  /// uncertain samples decide less and fewer samples tell a gain from luck.
  float temperature = 1;
  /// End to end, to train on: how much the relative squared error at the ends of the blocks counts, their
  /// mean, beside the loss of the result. It speaks of every token and every channel, where a result may be a
  /// few numbers.
  float hidden_weight = 0;
  float drop = 0.5F;  ///< block by block: share of quantized activations left in float, at random (QDrop)
  float held_back = 0.5F;  ///< share of the samples, the last ones, that judge and do not train; at least
                           ///< one where it is not 0; with 0 the training samples judge
  /// How many standard errors the mean gain of a phase on the samples that judge must come to, paired by
  /// sample, of the square roots of their losses: what is less may be luck, the more so as the luckiest of
  /// several checks is what a phase offers. 0 takes whatever is lower.
  float certainty = 0;
  index checks = 10;  ///< how often in a phase the held-back samples judge
  /// What is judged and kept is a running mean of the parameters over about the last 1 / (1 - average) steps,
  /// rounded: codes that waver settle. 0 for the parameters of the last step.
  float average = 0.9F;
  /// Where a judgement is no better than the best before, the parameters go back to that best and all rates
  /// are multiplied by this; 1 never goes back.
  float step_back = 0.5F;
  std::uint64_t seed = 1;

  /// What the whole model is trained on instead of the training samples: variations of those, for which the
  /// float program says what is right. It must not look at the samples held back.
  refinement_source source;

  /// Weights in units of codes to start from, one matrix [out x in] per linear instruction in order, or none:
  /// the codes. They are moved to within half a step of their code, so that the start rounds to the model.
  std::span<const matrix<>> weights = {};
};

/// How many of the samples train, the first ones; the others judge.
inline index training_samples(const refinement& o, index samples) {
  if (o.held_back == 0) return samples;
  // a share of 0.2F is a little more than 0.2: of five samples it is one all the same
  const double share = (static_cast<double>(o.held_back) - 1e-6) * static_cast<double>(samples);
  return samples - std::min(std::max(static_cast<index>(std::ceil(share)), index{1}), samples - 1);
}

/// Errors  bad_option
inline failure check(const refinement& o) {
  struct setting {
    float x;
    double lowest, highest;
    const char* place;
  };
  const double none = 0;
  const double most = 1e6;
  for (const setting& s :
       {setting{o.drop, none, detail::below_one, "refine: drop (millionths)"},
        setting{o.held_back, none, detail::below_one, "refine: held_back (millionths)"},
        setting{o.certainty, none, most, "refine: certainty (millionths)"},
        setting{o.temperature, detail::above_zero, most, "refine: temperature (millionths)"},
        setting{o.average, none, detail::below_one, "refine: average (millionths)"},
        setting{o.warm_up, none, detail::below_one, "refine: warm_up (millionths)"},
        setting{o.step_back, detail::above_zero, 1, "refine: step_back (millionths)"},
        setting{o.weight_rate, none, most, "refine: weight_rate (millionths)"},
        setting{o.scale_rate, none, most, "refine: scale_rate (millionths)"},
        setting{o.zero_rate, none, most, "refine: zero_rate (millionths)"},
        setting{o.offset_rate, none, most, "refine: offset_rate (millionths)"},
        setting{o.end_to_end_rate, none, most, "refine: end_to_end_rate (millionths)"},
        setting{o.hidden_weight, none, most, "refine: hidden_weight (millionths)"}}) {
    const auto x = static_cast<double>(s.x);
    if (failure f = detail::check_fraction(x, s.lowest, s.highest, s.place)) return f;
  }
  if (o.batch < 1) return {errc::bad_option, "refine: batch", o.batch, 1};
  return {};
}

/// How far refine() is.
struct refinement_status {
  index done = 0;   ///< steps done
  index steps = 0;  ///< steps in all
  /// Loss on the held-back samples, the square of its mean root over them, of the phase it is in: a block's
  /// relative squared error, or that of the result.
  double start = 0;
  double best = 0;
  double now = 0;       ///< the same, at the last judgement
  double training = 0;  ///< loss on the samples trained on, mean of the steps before the last judgement
};

/// Called after each step; false stops (errc::cancelled).
using refine_progress = std::function<bool(const refinement_status&)>;

}  // namespace repquant
