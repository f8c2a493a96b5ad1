// SPDX-License-Identifier: MIT
/// quantize_block: from a float block and a few samples to an integer model. The only orchestration in the
/// library.
///
/// The samples walk through the program one step at a time, in two streams: the float stream is the target,
/// the quantized stream is what the integer engine really computes from the steps finished so far (it runs
/// them). So each site is calibrated, and each weight reconstructed, on the inputs it will get.
#pragma once

#include <repquant/block/balance_attention.hpp>
#include <repquant/block/check_recipe.hpp>
#include <repquant/block/concept.hpp>
#include <repquant/block/encode_inputs.hpp>
#include <repquant/block/quantize_attention.hpp>
#include <repquant/block/quantize_linear.hpp>
#include <repquant/block/quantize_norm.hpp>
#include <repquant/block/spread_inputs.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <functional>
#include <utility>

namespace repquant {

/// Called after each step with the number of steps done and in all; false stops (errc::cancelled).
using progress_callback = std::function<bool(index done, index steps)>;

namespace detail {

/// The instruction of a step that works on floats alone.
template<class Recipe, Executor E>
instruction float_instruction(quantization<Recipe, E>& q, const step& s) {
  instruction x;
  x.kind = opcode_of(s.kind);
  x.out = q.stream.real(s.out);
  x.a = q.stream.real(s.a);
  x.cols = static_cast<std::int32_t>(q.cols(s.out));
  const auto constant = [&](std::size_t data, std::size_t number) -> const matrix<>& {
    const matrix<>& m = q.original.constants[number];
    x.data[data] = q.constants(m.data(), m.size());
    return m;
  };
  const auto layer = static_cast<std::size_t>(s.layer);
  switch (s.kind) {
    case step_kind::add:
    case step_kind::multiply:
      x.b = q.stream.real(s.b);
      break;
    case step_kind::activate:
      x.function = static_cast<std::uint8_t>(s.function);
      break;
    case step_kind::prepend_row:
    case step_kind::add_rows:
      x.inner = static_cast<std::int32_t>(constant(0, layer).rows());
      break;
    case step_kind::rotate:
      x.heads = static_cast<std::int32_t>(s.attention.heads);
      x.inner = static_cast<std::int32_t>(constant(0, layer).rows());
      constant(1, layer + 1);
      break;
    case step_kind::hadamard:
      constant(0, layer);
      break;
    case step_kind::mix_heads:
      x.inner = static_cast<std::int32_t>(constant(0, layer).cols());
      break;
    case step_kind::select_row:
      x.row = static_cast<std::int32_t>(s.row);
      break;
    default:
      break;
  }
  return x;
}

template<class Recipe, Executor E>
failure quantize_step(quantization<Recipe, E>& q, const step& s) {
  if (s.kind == step_kind::norm) return quantize_norm(q, s);
  failure f;
  if (s.kind == step_kind::linear) {
    f = quantize_linear(q, s);
  } else if (s.kind == step_kind::attention) {
    f = quantize_attention(q, s);
  } else {
    f = q.stream.run(float_instruction(q, s));
  }
  return f ? f : encode_for_readers(q, s.out);
}

/// One walk over the program.
template<class Recipe, Executor E, class Progress>
failure quantize_steps(quantization<Recipe, E>& q, std::span<const matrix<>> samples,
                       const Progress& progress) {
  if (failure f = q.stream.start(samples)) return f;
  if (failure f = encode_for_readers(q, 0)) return f;
  const auto steps = static_cast<index>(q.original.steps.size());
  for (index i = 0; i < steps; ++i) {
    const auto at = static_cast<std::size_t>(i);
    q.stream.advance_target(at);
    const step& s = q.original.steps[at];
    if (failure f = quantize_step(q, s)) return f;
    q.stream.free_unused(at);
    // of the codes of a value, the last linear layer that reads it was the last to look at them
    const bool read_linearly = s.kind == step_kind::linear;
    if (read_linearly && q.linear_readers(s.a).back() == &s) q.stream.free_codes(q.input(s.a).codes);
    if (!progress(i + 1, steps)) return {errc::cancelled, "quantize_block: step", i + 1, steps};
  }
  for (std::size_t i = 0; i < q.override_used.size(); ++i) {
    if (!q.override_used[i]) return {errc::unknown_site, q.recipe.overrides[i].path, 0, 1};
  }
  return {};
}

}  // namespace detail

/// Quantizes a traced block.
///
/// Shapes    samples: at least one matrix [tokens x input_cols]; the numbers of tokens may differ
/// Errors    bad_bits, bad_option (recipe); empty, shape_mismatch, non_finite (samples, with their number);
///           unknown_site (an override that names no site); cancelled; what calibration and reconstruction
///           say, with the path of the site. Nothing is half-written: there is a model or a failure
/// Cost      about two integer and one float run per sample, and a Cholesky per linear layer
/// Precision the same bits for any executor and batch split on one build
/// Example   examples/quantize_vit.cpp
template<class Recipe, Executor E = inline_executor>
result<quantized_model> quantize_program(const program& p, std::span<const matrix<>> samples,
                                         const Recipe& recipe, const E& exec = {},
                                         const progress_callback& progress = {}) {
  if (failure f = detail::check_recipe(recipe)) return f;
  if (failure f = detail::check_samples(p, samples)) return f;
  program prepared = recipe.select_early ? select_early(p) : p;
  if (recipe.balance_heads) {
    prepared = balance_attention(std::move(prepared), samples, exec, recipe.mix_heads);
  }
  if (recipe.spread_below > 0) {
    auto spread = spread_inputs(std::move(prepared), samples, recipe.activation, recipe.activation_range,
                                recipe.spread_below, exec);
    if (!spread) return spread.error();
    prepared = std::move(*spread);
  }
  shared_weights shared;
  if (recipe.share_weights) shared = shared_weights(prepared);
  const index passes = shared.any() ? 3 : 1;
  for (index pass = 0;; ++pass) {
    detail::quantization<Recipe, E> q(prepared, recipe, exec, shared);
    const auto report = [&](index done, index steps) {
      return !progress || progress(pass * steps + done, passes * steps);
    };
    // ratios of channels are settled by a quarter of the samples
    std::vector<matrix<>> part;
    if (pass + 2 < passes) {
      const std::size_t stride = samples.size() > 32 ? 4 : 1;
      for (std::size_t i = 0; i < samples.size(); i += stride) part.push_back(samples[i]);
    }
    if (failure f = detail::quantize_steps(q, part.empty() ? samples : part, report)) return f;
    if (pass + 1 == passes) {
      auto bytes = q.stream.finish();
      if (!bytes) return bytes.error();
      return quantized_model::load(*std::move(bytes), std::move(q.report));
    }
    if (pass == 0) {
      shared.settle_ratios(q.seen, recipe.ratio_rounds);
    } else {
      shared.settle_evidence(std::move(q.seen));
    }
  }
}

/// Traces and quantizes a block: quantize_program(record(block, columns of the samples), ...).
template<Block B, class Recipe, Executor E = inline_executor>
result<quantized_model> quantize_block(const B& block, std::span<const matrix<>> samples,
                                       const Recipe& recipe, const E& exec = {},
                                       const progress_callback& progress = {}) {
  if (samples.empty()) return failure{errc::empty, "calibration samples", 0, 1};
  const auto p = record(block, samples.front().cols());
  if (!p) return p.error();
  return quantize_program(*p, samples, recipe, exec, progress);
}

}  // namespace repquant
