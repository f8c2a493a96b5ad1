// SPDX-License-Identifier: MIT
/// Door 1, the device: codecs, granularities, kernels, integer layers. The standard library and xsimd; no
/// Eigen, no heap, no exceptions.
#pragma once

#include <repquant/codec/check.hpp>
#include <repquant/codec/concept.hpp>
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/core/checksum.hpp>
#include <repquant/core/config.hpp>
#include <repquant/core/failure.hpp>
#include <repquant/core/lane.hpp>
#include <repquant/core/shape.hpp>
#include <repquant/granularity/concept.hpp>
#include <repquant/granularity/granularities.hpp>
#include <repquant/infer/activation.hpp>
#include <repquant/infer/attention.hpp>
#include <repquant/infer/engine.hpp>
#include <repquant/infer/epilogue.hpp>
#include <repquant/infer/execute.hpp>
#include <repquant/infer/integer_only/activation.hpp>
#include <repquant/infer/integer_only/norm.hpp>
#include <repquant/infer/integer_only/softmax.hpp>
#include <repquant/infer/integer_products.hpp>
#include <repquant/infer/linear.hpp>
#include <repquant/infer/model.hpp>
#include <repquant/infer/model_flow.hpp>
#include <repquant/infer/norm.hpp>
#include <repquant/infer/probability.hpp>
#include <repquant/infer/probability_kind.hpp>
#include <repquant/infer/requantize.hpp>
#include <repquant/infer/rotate.hpp>
#include <repquant/infer/simulated_products.hpp>
#include <repquant/infer/softmax.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/elementary.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/fixed_point.hpp>
#include <repquant/kernel/gemm.hpp>
#include <repquant/kernel/log_product.hpp>
#include <repquant/kernel/pack.hpp>
#include <repquant/kernel/packed_weights.hpp>
#include <repquant/kernel/product.hpp>
#include <repquant/kernel/reduce.hpp>
#include <repquant/version.hpp>
