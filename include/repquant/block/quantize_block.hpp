// SPDX-License-Identifier: MIT
/// quantize_block: from a float block and a few samples to an integer model. The only orchestration in the
/// library.
///
/// The samples walk through the program one step at a time, in two streams: the float stream is the target,
/// the quantized stream is what the integer engine really computes from the steps finished so far (it runs
/// them). So each site is calibrated, and each weight reconstructed, on the inputs it will get.
///
/// Length: one pass over the program; its cases share all their state.
#pragma once

#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/concept.hpp>
#include <repquant/block/probabilities.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/block/recipe.hpp>
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/calibrate/fit.hpp>
#include <repquant/reconstruct/code_gram_accumulator.hpp>
#include <repquant/reparam/fold_layer_norm.hpp>
#include <repquant/reparam/fused_norm.hpp>

#include <functional>
#include <utility>

namespace repquant {

/// Called after each step with the number of steps done and in all; false stops (errc::cancelled).
using progress_callback = std::function<bool(index done, index steps)>;

namespace detail {

/// One run of quantize_block. Members are named after what the recipe calls them.
template<class Recipe, Executor E>
class quantization {
 public:
  quantization(const program& p, const Recipe& recipe, const E& exec)
      : original_(p),
        folded_(p),
        recipe_(recipe),
        stream_(p, exec),
        override_used_(recipe.overrides.size(), false) {
    sites_.resize(p.value_cols.size());
  }

  result<quantized_model> run(std::span<const matrix<>> samples, const progress_callback& progress) {
    if (failure f = check_recipe()) return f;
    if (failure f = stream_.start(samples)) return f;
    if (failure f = quantize_linear_input(0, "input", site_role::model_input)) return f;
    const auto steps = static_cast<index>(original_.steps.size());
    for (index i = 0; i < steps; ++i) {
      const auto at = static_cast<std::size_t>(i);
      stream_.advance_target(at);
      if (failure f = quantize_step(original_.steps[at])) return f;
      stream_.free_unused(at);
      if (progress && !progress(i + 1, steps))
        return failure{errc::cancelled, "quantize_block: step", i + 1, steps};
    }
    for (std::size_t i = 0; i < override_used_.size(); ++i) {
      if (!override_used_[i]) return failure{errc::unknown_site, recipe_.overrides[i].path, 0, 1};
    }
    return quantized_model::load(stream_.finish(), std::move(report_));
  }

 private:
  /// A value as linear layers see it: codes in a register under one layer-wise parameter set.
  struct linear_site {
    std::int32_t codes = -1;
    affine params{};
    int bits = 0;
    result<gram> inputs = failure{errc::empty, "gram", 0, 1};
  };

  failure check_recipe() const {
    if (failure f = check_bits(recipe_.weight.bits, "recipe: weight")) return f;
    if (failure f = check_bits(recipe_.activation.bits, "recipe: activation")) return f;
    if (failure f = check_bits(recipe_.input_bits, "recipe: input_bits")) return f;
    for (const site_bits& o : recipe_.overrides) {
      if (failure f = check_bits(o.bits, o.path)) return f;
    }
    const probability_codecs& p = recipe_.probability;
    if (!p.uniform && !p.log2 && !p.log_sqrt2) return {errc::bad_option, "recipe: probability codecs", 0, 1};
    return {};
  }
  static failure check_bits(int bits, std::string_view place) {
    return bits >= 2 && bits <= 8 ? failure{} : failure{errc::bad_bits, place, bits, 8};
  }
  /// The width of the site at `path`: the recipe's, unless an override names it.
  int bits_of(std::string_view path, int otherwise) {
    for (std::size_t i = 0; i < recipe_.overrides.size(); ++i) {
      if (recipe_.overrides[i].path != path) continue;
      override_used_[i] = true;
      return recipe_.overrides[i].bits;
    }
    return otherwise;
  }
  uniform activation_codec(int bits) const {
    uniform c = recipe_.activation;
    c.bits = bits;
    return c;
  }
  linear_site& site_of(int value) { return sites_[static_cast<std::size_t>(value)]; }

  failure quantize_step(const step& s) {
    switch (s.kind) {
      case step_kind::linear:
        return finish_value(s, quantize_linear(s));
      case step_kind::norm:
        return quantize_norm(s);
      case step_kind::attention:
        return finish_value(s, quantize_attention(s));
      default:
        return finish_value(s, stream_.run(float_instruction(s)));
    }
  }
  /// After a step: if linear layers read its result, that is a site.
  failure finish_value(const step& s, const failure& f) {
    if (f) return f;
    return quantize_linear_input(s.out, {}, site_role::linear_input);
  }

  /// The instruction of a step that works on floats alone.
  instruction float_instruction(const step& s) {
    instruction x;
    x.out = stream_.real(s.out);
    x.a = stream_.real(s.a);
    x.cols = static_cast<std::int32_t>(original_.value_cols[static_cast<std::size_t>(s.out)]);
    switch (s.kind) {
      case step_kind::add:
      case step_kind::multiply:
        x.kind = s.kind == step_kind::add ? opcode::add : opcode::multiply;
        x.b = stream_.real(s.b);
        break;
      case step_kind::activate:
        x.kind = opcode::activate;
        x.function = static_cast<std::uint8_t>(s.function);
        break;
      case step_kind::prepend_row:
      case step_kind::add_rows: {
        const matrix<>& m = original_.constants[static_cast<std::size_t>(s.layer)];
        x.kind = s.kind == step_kind::add_rows ? opcode::add_rows : opcode::prepend_row;
        x.inner = static_cast<std::int32_t>(m.rows());
        x.data[0] = constants(m.data(), m.size());
        break;
      }
      case step_kind::select_row:
        x.kind = opcode::select_row;
        x.row = static_cast<std::int32_t>(s.row);
        break;
      default:
        x.kind = opcode::mean_rows;
        break;
    }
    return x;
  }
  template<class T>
  std::uint64_t constants(const T* data, index n) {
    return stream_.writer().constants(std::span<const T>(data, static_cast<std::size_t>(n)));
  }

  /// The linear steps that read a value; empty when none does.
  std::vector<const step*> linear_readers(int value) const {
    std::vector<const step*> readers;
    for (int i : original_.readers(value)) {
      const step& s = original_.steps[static_cast<std::size_t>(i)];
      if (s.kind == step_kind::linear) readers.push_back(&s);
    }
    return readers;
  }

  /// Calibrates and encodes value v, layer-wise, for the linear layers that read it.
  failure quantize_linear_input(int v, std::string path, site_role role) {
    const std::vector<const step*> readers = linear_readers(v);
    if (readers.empty()) return {};
    if (role != site_role::model_input) path = readers.front()->path + ".in";
    linear_site& site = site_of(v);
    site.bits = bits_of(path, role == site_role::model_input ? recipe_.input_bits : recipe_.activation.bits);
    const auto q = calibrate(v, path, activation_codec(site.bits), per_tensor{}, recipe_.activation_range);
    if (!q) return q.error();
    site.params = q->params().front();
    return encode(v, path, role, site, q->params());
  }

  template<class Observer, Granularity G>
  result<quantizer<uniform, G>> calibrate(int v, const std::string& path, const uniform& codec, G granularity,
                                          const Observer& observer) {
    calibrator<Observer, G> watch(observer, granularity, original_.value_cols[static_cast<std::size_t>(v)],
                                  path);
    for (index i = 0; i < stream_.samples(); ++i) {
      if (failure f = watch.observe(stream_.reals(i, v))) return f;
    }
    return watch.make(codec);
  }

  /// Emits and runs the encode instruction of a site.
  failure encode(int v, const std::string& path, site_role role, linear_site& site,
                 std::span<const affine> params) {
    instruction x;
    x.kind = opcode::encode;
    x.a = stream_.real(v);
    x.out = site.codes = stream_.new_codes();
    x.cols = static_cast<std::int32_t>(original_.value_cols[static_cast<std::size_t>(v)]);
    x.bits = site.bits;
    x.per_column = params.size() > 1 ? 1 : 0;
    x.data[0] = constants(params.data(), static_cast<index>(params.size()));
    x.site = stream_.writer().site(path, site.bits, role);
    report_.sites.push_back({path, role, site.bits, params.size() > 1 ? "uniform per channel" : "uniform"});
    return stream_.run(x);
  }

  /// A norm; where linear layers read it and the recipe says so, its channel-wise scales are folded into it
  /// and them, or, where something else reads the norm too or it has no shift, absorbed into them alone.
  failure quantize_norm(const step& s) {
    const std::vector<const step*> readers = linear_readers(s.out);
    if (readers.empty() || !recipe_.channel_wise_norm)
      return finish_value(s, stream_.run(norm_instruction(s)));

    const std::string path = s.path + ".out";
    linear_site& site = site_of(s.out);
    site.bits = bits_of(path, recipe_.activation.bits);
    const uniform codec = activation_codec(site.bits);
    if (failure f = stream_.preview(norm_instruction(s))) return f;
    const auto q = calibrate(s.out, path, codec, per_col{}, recipe_.norm_range);
    if (!q) return q.error();

    std::vector<linear*> consumers;
    for (const step* r : readers) consumers.push_back(&folded_.linears[static_cast<std::size_t>(r->layer)]);
    auto* norm = std::get_if<layer_norm>(&folded_.norms[static_cast<std::size_t>(s.layer)]);
    const bool folds = norm != nullptr && readers.size() == original_.readers(s.out).size();
    const auto layer_wise = folds ? fold_layer_norm(codec, q->params(), *norm, consumers)
                                  : fuse_norm(codec, q->params(), consumers);
    if (!layer_wise) return layer_wise.error().within(path);
    site.params = *layer_wise;
    if (failure f = stream_.run(norm_instruction(s))) return f;
    if (folds) {
      if (failure f = report_fold(s, codec, q->params())) return f;
      return encode(s.out, path, site_role::norm_output, site, std::span<const affine>(&site.params, 1));
    }
    return encode(s.out, path, site_role::norm_output, site, q->params());
  }
  instruction norm_instruction(const step& s) {
    instruction x;
    x.kind = opcode::norm;
    x.out = stream_.real(s.out);
    x.a = stream_.real(s.a);
    x.cols = static_cast<std::int32_t>(original_.value_cols[static_cast<std::size_t>(s.out)]);
    const any_norm& n = folded_.norms[static_cast<std::size_t>(s.layer)];
    if (const auto* l = std::get_if<layer_norm>(&n)) {
      x.data[0] = constants(l->gamma.data(), l->gamma.size());
      x.data[1] = constants(l->beta.data(), l->beta.size());
      x.eps = l->eps;
    } else {
      const auto& r = std::get<rms_norm>(n);
      x.flag = 1;
      x.data[0] = constants(r.gamma.data(), r.gamma.size());
      x.eps = r.eps;
    }
    return x;
  }
  /// Measures what the fold kept, on the first samples' norm inputs.
  failure report_fold(const step& s, const uniform& codec, std::span<const affine> channels) {
    std::vector<const linear*> before;
    std::vector<const linear*> after;
    for (const step* r : linear_readers(s.out)) {
      before.push_back(&original_.linears[static_cast<std::size_t>(r->layer)]);
      after.push_back(&folded_.linears[static_cast<std::size_t>(r->layer)]);
    }
    const auto layer = static_cast<std::size_t>(s.layer);
    const auto& norm_before = std::get<layer_norm>(original_.norms[layer]);
    const auto& norm_after = std::get<layer_norm>(folded_.norms[layer]);
    fold_report sum{s.path + ".out", {}};
    for (index i = 0; i < std::min<index>(stream_.samples(), 8); ++i) {
      const auto e = fold_equivalence(stream_.reals(i, s.a), codec, channels, site_of(s.out).params,
                                      norm_before, norm_after, before, after);
      if (!e) return e.error().within(s.path);
      sum.add(*e);
    }
    report_.folds.push_back(std::move(sum));
    return {};
  }

  /// Reconstructs the weights on the codes they will read, then moves the mean error into the bias.
  failure quantize_linear(const step& s) {
    linear& layer = folded_.linears[static_cast<std::size_t>(s.layer)];
    linear_site& site = site_of(s.a);
    if (!site.inputs) site.inputs = inputs_of(site, layer.in());
    if (!site.inputs) return site.inputs.error().within(s.path);
    const auto q = fit(recipe_.weight, per_row{}, recipe_.weight_range, layer.weight);
    if (!q) return q.error().within(s.path);
    const auto codes = recipe_.solver(*q, layer.weight, *site.inputs);
    if (!codes) return codes.error().within(s.path);
    report_.weights.push_back({s.path, recipe_.weight.bits, codes->report});

    column<double> bias = column<double>::Zero(layer.out());
    if (layer.bias.size() != 0) bias = layer.bias.template cast<double>();
    instruction x = linear_instruction(s, site, codes->weights, bias);
    if (recipe_.correct_bias) {
      if (failure f = stream_.preview(x)) return f;
      bias += mean_error(s.out, layer.out());
      x = linear_instruction(s, site, codes->weights, bias);
    }
    return stream_.run(x);
  }
  /// The Gram matrix of a site's codes over all samples.
  result<gram> inputs_of(const linear_site& site, index in) {
    code_gram_accumulator sum(in);
    for (index i = 0; i < stream_.samples(); ++i) {
      if (failure f = sum.add(stream_.codes(i, site.codes))) return f;
    }
    return sum.total(site.params);
  }
  /// Mean over all tokens of target minus quantized output, per output channel; double, in sample order.
  column<double> mean_error(int v, index out) const {
    column<double> sum = column<double>::Zero(out);
    double tokens = 0;
    for (index i = 0; i < stream_.samples(); ++i) {
      const matrix<double> d =
          stream_.target(i, v).template cast<double>() - stream_.reals(i, v).template cast<double>();
      sum += d.colwise().sum().transpose();
      tokens += static_cast<double>(d.rows());
    }
    return sum / tokens;
  }
  instruction linear_instruction(const step& s, const linear_site& site, const quantized<uniform, per_row>& w,
                                 const column<double>& bias) {
    instruction x;
    x.kind = opcode::linear;
    x.out = stream_.real(s.out);
    x.a = site.codes;
    x.cols = static_cast<std::int32_t>(w.codes().rows());
    x.inner = static_cast<std::int32_t>(w.codes().cols());
    x.bits = recipe_.weight.bits;
    x.bits_a = site.bits;
    x.zero_a = site.params.zero_point;
    std::vector<std::int32_t> zero;
    std::vector<float> multiplier;
    std::vector<float> shift;
    for (index o = 0; o < w.codes().rows(); ++o) {
      const affine& p = w.quantizer().params()[static_cast<std::size_t>(o)];
      zero.push_back(p.zero_point);
      multiplier.push_back(
          static_cast<float>(static_cast<double>(site.params.scale) * static_cast<double>(p.scale)));
      shift.push_back(static_cast<float>(bias(o)));
    }
    x.data[0] = constants(w.codes().data(), w.codes().size());
    x.data[1] = constants(zero.data(), x.cols);
    x.data[2] = constants(multiplier.data(), x.cols);
    x.data[3] = constants(shift.data(), x.cols);
    return x;
  }

  /// Calibrates q, k, v, then the probabilities, among whose allowed codecs the output error chooses.
  failure quantize_attention(const step& s) {
    linear_site q;
    linear_site k;
    linear_site v;
    if (failure f = quantize_operand(s.a, s.path + ".query", site_role::query, q)) return f;
    if (failure f = quantize_operand(s.b, s.path + ".key", site_role::key, k)) return f;
    if (failure f = quantize_operand(s.c, s.path + ".value", site_role::value, v)) return f;
    const std::string path = s.path + ".probabilities";
    const int bits = bits_of(path, recipe_.activation.bits);
    const instruction scores = attention_instruction(s, q, k, v, bits);
    const auto chosen = choose_probabilities(scores, path, recipe_.probability, recipe_.probability_depth,
                                             recipe_.probability_range, stream_);
    if (!chosen) return chosen.error();
    instruction x = *chosen;
    x.site = stream_.writer().site(path, bits, site_role::probabilities);
    report_.sites.push_back({path, site_role::probabilities, bits, name(x.probability)});
    if (failure f = stream_.run(x)) return f;
    for (const linear_site* operand : {&q, &k, &v}) stream_.free_codes(operand->codes);
    return {};
  }
  failure quantize_operand(int value, const std::string& path, site_role role, linear_site& site) {
    site.bits = bits_of(path, recipe_.activation.bits);
    const auto q =
        calibrate(value, path, activation_codec(site.bits), per_tensor{}, recipe_.activation_range);
    if (!q) return q.error();
    site.params = q->params().front();
    return encode(value, path, role, site, q->params());
  }
  instruction attention_instruction(const step& s, const linear_site& q, const linear_site& k,
                                    const linear_site& v, int bits) {
    instruction x;
    x.kind = opcode::attention;
    x.out = stream_.real(s.out);
    x.a = q.codes;
    x.b = k.codes;
    x.c = v.codes;
    x.cols = static_cast<std::int32_t>(original_.value_cols[static_cast<std::size_t>(s.out)]);
    x.heads = static_cast<std::int32_t>(s.attention.heads);
    x.kv_heads = static_cast<std::int32_t>(s.attention.kv_heads);
    x.inner = x.cols / x.heads;
    x.flag = s.attention.causal ? 1 : 0;
    x.bits_a = std::max({q.bits, k.bits, v.bits});
    x.zero_a = q.params.zero_point;
    x.zero_b = k.params.zero_point;
    x.zero_c = v.params.zero_point;
    x.m_score = static_cast<float>(static_cast<double>(q.params.scale) * static_cast<double>(k.params.scale) *
                                   static_cast<double>(s.attention.scale));
    x.value_scale = v.params.scale;
    x.probability_bits = static_cast<std::uint8_t>(bits);
    return x;
  }

  const program& original_;
  program folded_;
  const Recipe& recipe_;
  calibration_stream<E> stream_;
  std::vector<linear_site> sites_;
  std::vector<bool> override_used_;
  quantization_report report_;
};

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
  return detail::quantization<Recipe, E>(p, recipe, exec).run(samples, progress);
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
