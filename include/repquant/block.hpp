// SPDX-License-Identifier: MIT
/// Door 3, blocks: a recipe for whole transformer blocks and models.
#pragma once

#include <repquant/block/attention_parameters.hpp>
#include <repquant/block/balance_attention.hpp>
#include <repquant/block/calibrate_channels.hpp>
#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/check_recipe.hpp>
#include <repquant/block/common_ratios.hpp>
#include <repquant/block/concept.hpp>
#include <repquant/block/encode_inputs.hpp>
#include <repquant/block/evaluate.hpp>
#include <repquant/block/feedback.hpp>
#include <repquant/block/gated.hpp>
#include <repquant/block/head_moments.hpp>
#include <repquant/block/layer_evidence.hpp>
#include <repquant/block/model_writer.hpp>
#include <repquant/block/post_norm.hpp>
#include <repquant/block/probabilities.hpp>
#include <repquant/block/program.hpp>
#include <repquant/block/quantization.hpp>
#include <repquant/block/quantize_attention.hpp>
#include <repquant/block/quantize_block.hpp>
#include <repquant/block/quantize_linear.hpp>
#include <repquant/block/quantize_norm.hpp>
#include <repquant/block/quantize_weights.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/block/recipe.hpp>
#include <repquant/block/reconstruct_weight.hpp>
#include <repquant/block/select_early.hpp>
#include <repquant/block/shared_weights.hpp>
#include <repquant/block/spread_inputs.hpp>
#include <repquant/block/trace.hpp>
#include <repquant/block/transformer.hpp>
#include <repquant/block/weight_only_stream.hpp>
#include <repquant/block/weight_recipe.hpp>
#include <repquant/ptq.hpp>
