// SPDX-License-Identifier: MIT
/// Door 3, blocks: a recipe for whole transformer blocks and models.
#pragma once

#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/concept.hpp>
#include <repquant/block/evaluate.hpp>
#include <repquant/block/gated.hpp>
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
#include <repquant/block/trace.hpp>
#include <repquant/block/transformer.hpp>
#include <repquant/block/weight_recipe.hpp>
#include <repquant/ptq.hpp>
#include <repquant/train/activations.hpp>
#include <repquant/train/adam.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/cosine_schedule.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/fake_logarithmic.hpp>
#include <repquant/train/fake_quantize.hpp>
#include <repquant/train/losses.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>
#include <repquant/train/rows.hpp>
#include <repquant/train/splitmix64.hpp>
#include <repquant/train/tape.hpp>
