// SPDX-License-Identifier: MIT
/// Recipes: everything quantize_block needs to decide, as plain structs of values. Change a setting by
/// assigning a member; change a policy by deriving and redeclaring one with another type (clang 14 has no
/// designated initialisers with deduction):
///
///   struct my_recipe : rq::repquant_recipe {
///     rq::percentile activation_range{.keep = 0.9999F};
///   };
///
/// quantize_block reads the members by name, so any struct that has them is a recipe.
#pragma once

#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/calibrate/percentile.hpp>
#include <repquant/calibrate/percentile_search.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/reconstruct/gptq.hpp>
#include <repquant/reconstruct/round_to_nearest.hpp>

#include <string>
#include <vector>

namespace repquant {

/// Which codecs an attention's probabilities may have. Where several are allowed, each site takes the one
/// with the smallest error of the attention's output on the calibration samples.
struct probability_codecs {
  bool uniform = false;
  bool log2 = false;
  bool log_sqrt2 = false;
  /// Codes of a probability over the largest of its query, which need no range; products with values are
  /// divided by the sum of the weights (docs/decisions/0020).
  bool relative = false;
};

/// Another bit width for one site.
struct site_bits {
  std::string path;
  int bits = 8;
};

/// Layer-wise min-max ranges, rounding to nearest: what most toolkits do by default.
struct naive_recipe {
  uniform weight{.bits = 8};       ///< per output channel
  uniform activation{.bits = 8};   ///< linear inputs, q, k, v; its bits also count for probabilities
  int input_bits = 8;              ///< for linear layers that read the model's input
  bool channel_wise_norm = false;  ///< one parameter set per channel behind a norm, folded away after
  /// One parameter set per channel at the inputs of the other linear layers, too: the layers take the scales.
  bool channel_wise_inputs = false;
  /// Parameters per head and channel for q, k and v. Scales of a channel of q and of k multiply to one number
  /// per head; zero points of keys cost nothing (infer/attention_head.hpp).
  bool channel_wise_attention = false;
  /// Channel-wise ranges wider the fewer tokens were seen: by 1 / sqrt(n) + 8 / n of themselves for n tokens.
  bool widen_ranges = false;
  /// Gradient steps (learn_clips) and then sweeps of a search (search_clips) over the channel-wise ranges of
  /// what linear layers read, by the error of their output; 0 and 0: the observer's ranges stay.
  int clip_steps = 0;
  int clip_sweeps = 0;
  bool balance_heads = false;  ///< bases of the heads in which low-bit codes lose least (balance_heads)
  /// The same for queries and keys behind rotary positions, in the running model: d multiply-adds per value.
  bool mix_heads = false;
  /// Inputs of linear layers are scaled and mixed (spread_inputs) where that leaves less than this share of
  /// the squared error of their output; 0: nowhere.
  double spread_below = 0;
  /// Codes of what linear layers and attentions read make up for each other's errors in blocks of at most so
  /// many channels (encode_with_feedback), at half a block of multiply-adds per value in the running model. 0
  /// and 1: each for itself.
  index feedback_block = 0;
  /// How little errors are moved where readers do not see them (find_feedback).
  double feedback_damping = 0.01;
  bool select_early = false;     ///< works on the selected token alone where only that is read (select_early)
  bool correct_bias = false;     ///< moves the mean error of a layer's output into its bias
  double target_correction = 0;  ///< most of the least-squares change taken before rounding, 0 to 1
  double target_damping = 0.01;  ///< ridge of that change, over the mean diagonal of the Gram matrix
  bool residual_target = false;  ///< layers that write to the residual also aim at what it lost so far
  /// Ranges of weights by the error of the layer's output (fit_rows_to_gram) instead of by weight_range.
  bool weight_range_by_output = false;
  int scale_rounds = 0;        ///< rounds of least-squares scales and coordinate descent after the solver
  bool share_weights = false;  ///< a layer called several times keeps one set of codes
  int ratio_rounds = 0;  ///< rounds of common_ratios for the channels of shared weights; 0: geometric means
  index selected_weight = 0;  ///< by how many tokens the one that the output selects counts more
  probability_codecs probability{.uniform = true};
  int probability_depth = 14;  ///< largest shift of a logarithmic code; 14 keeps sums in 32 bits
  min_max norm_range;          ///< observer of norm outputs
  min_max activation_range;    ///< observer of every other linear input and of q, k, v
  min_max attention_range;     ///< observer of q, k, v where channel_wise_attention is set
  min_max probability_range;
  min_max weight_range;
  round_to_nearest solver;
  std::vector<site_bits> overrides;  ///< bit widths of single sites, by path
};

/// RepQ-ViT (arXiv 2212.08254) in what integers can hold: its percentile search, channel-wise norm outputs
/// folded with an integer zero point, log-sqrt2 probabilities with 2^b levels, rounding to nearest.
struct repq_recipe : naive_recipe {
  bool channel_wise_norm = true;
  probability_codecs probability{.log_sqrt2 = true};
  percentile_search norm_range;
  percentile_search activation_range;
  percentile_search attention_range;
  percentile_search probability_range;
  percentile_search weight_range;
};

/// RepQuant (arXiv 2402.05628) and what measurement added to it (docs/decisions/0012): dual clipping per
/// channel by least error, at every input of a linear layer and of an attention; heads in balanced bases, and
/// inputs with long tails spread over their channels (docs/decisions/0021); probabilities relative to the
/// largest of their query, by output error; weights that first take what the errors before them ask for, then
/// are reconstructed against the quantized inputs with ranges and scales by output error; output means kept;
/// one set of codes for a layer that is called several times. One recipe for every model, without gradients.
struct repquant_recipe : naive_recipe {
  bool channel_wise_norm = true;
  bool channel_wise_inputs = true;
  bool channel_wise_attention = true;
  bool widen_ranges = true;
  bool balance_heads = true;
  bool mix_heads = true;
  double spread_below = 0.8;
  bool select_early = true;
  bool correct_bias = true;
  double target_correction = 1;
  bool residual_target = true;
  bool weight_range_by_output = true;
  int scale_rounds = 2;
  bool share_weights = true;
  int ratio_rounds = 8;
  index selected_weight = 10;
  probability_codecs probability{.uniform = true, .log2 = true, .log_sqrt2 = true, .relative = true};
  least_error norm_range;
  least_error activation_range;
  least_error attention_range;
  percentile_search probability_range;
  least_error weight_range;
  gptq solver;
};

/// The same with errors of codes fed back: less divergence at the same widths (at 4 bits by a tenth to six
/// tenths on the networks of docs/accuracy.md), and running takes longer (docs/decisions/0022).
struct feedback_recipe : repquant_recipe {
  index feedback_block = 64;
};

/// The recipe with other widths: WbAb in one word. The model's input keeps recipe.input_bits.
template<class Recipe>
Recipe with_bits(Recipe recipe, int weight_bits, int activation_bits) {
  recipe.weight.bits = weight_bits;
  recipe.activation.bits = activation_bits;
  return recipe;
}

}  // namespace repquant
