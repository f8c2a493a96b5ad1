// SPDX-License-Identifier: MIT
/// Door 4, training: quantized models refined by gradients, and the tape that these come from.
#pragma once

#include <repquant/block.hpp>
#include <repquant/block/refine.hpp>
#include <repquant/block/refine_flow.hpp>
#include <repquant/block/refine_forward.hpp>
#include <repquant/block/refine_leaves.hpp>
#include <repquant/block/refine_options.hpp>
#include <repquant/block/refine_parameters.hpp>
#include <repquant/block/refine_runner.hpp>
#include <repquant/block/refine_trainer.hpp>
#include <repquant/block/refine_writer.hpp>
#include <repquant/train/activations.hpp>
#include <repquant/train/adam.hpp>
#include <repquant/train/attention.hpp>
#include <repquant/train/cosine_schedule.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/fake_quantize.hpp>
#include <repquant/train/learn_clips.hpp>
#include <repquant/train/losses.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>
#include <repquant/train/rows.hpp>
#include <repquant/train/splitmix64.hpp>
#include <repquant/train/tape.hpp>
