// SPDX-License-Identifier: MIT
/// Door 2, the toolkit: calibrate, fold, reconstruct, one layer at a time. Adds Eigen.
#pragma once

#include <repquant/calibrate/calibrator.hpp>
#include <repquant/calibrate/concept.hpp>
#include <repquant/calibrate/fit.hpp>
#include <repquant/calibrate/histogram.hpp>
#include <repquant/calibrate/least_error.hpp>
#include <repquant/calibrate/min_max.hpp>
#include <repquant/calibrate/percentile.hpp>
#include <repquant/calibrate/percentile_search.hpp>
#include <repquant/layer/linear.hpp>
#include <repquant/layer/norm.hpp>
#include <repquant/matrix/matrix.hpp>
#include <repquant/matrix/quantize.hpp>
#include <repquant/matrix/quantizer.hpp>
#include <repquant/parallel/concept.hpp>
#include <repquant/parallel/inline_executor.hpp>
#include <repquant/parallel/threads.hpp>
#include <repquant/reconstruct/code_gram_accumulator.hpp>
#include <repquant/reconstruct/concept.hpp>
#include <repquant/reconstruct/gptq.hpp>
#include <repquant/reconstruct/gram.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>
#include <repquant/reconstruct/round_to_nearest.hpp>
#include <repquant/reparam/channel_scales.hpp>
#include <repquant/reparam/equivalence.hpp>
#include <repquant/reparam/fold_layer_norm.hpp>
#include <repquant/reparam/fused_norm.hpp>
#include <repquant/reparam/log_sqrt2_to_log2.hpp>
#include <repquant/run.hpp>
