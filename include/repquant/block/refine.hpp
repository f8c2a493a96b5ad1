// SPDX-License-Identifier: MIT
/// refine: improves a quantized model by gradients, block by block and then as a whole. Codes, scales, zero
/// points and offsets move; instructions, widths and sites stay.
///
/// Length: the phases and what judges them stand in one place.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/block/refine_trainer.hpp>
#include <repquant/block/refine_writer.hpp>
#include <repquant/parallel/inline_executor.hpp>
#include <repquant/train/losses.hpp>

#include <string>
#include <vector>

namespace repquant {

namespace detail {

/// What refine() works on, and what the float program says of every sample.
template<Executor E>
class refinement_run {
 public:
  refinement_run(const program& p, const quantized_model& m, std::span<const matrix<>> samples,
                 std::span<const std::vector<index>> rows, const refinement& o, const E& exec)
      : program_(p), model_(m), samples_(samples), rows_(rows), options_(o), exec_(exec) {}

  failure check() const {
    if (samples_.empty()) return {errc::empty, "refine: samples", 0, 1};
    if (!rows_.empty() && rows_.size() != samples_.size()) {
      return {errc::shape_mismatch, "refine: rows", static_cast<std::int64_t>(rows_.size()),
              static_cast<std::int64_t>(samples_.size())};
    }
    const auto share = [](float x) { return x >= 0 && x < 1; };
    if (!share(options_.drop)) return {errc::bad_option, "refine: drop", 0, 1};
    if (!share(options_.held_back)) return {errc::bad_option, "refine: held_back", 0, 1};
    if (!share(options_.average)) return {errc::bad_option, "refine: average", 0, 1};
    if (!(options_.step_back > 0 && options_.step_back <= 1))
      return {errc::bad_option, "refine: step_back", 0, 1};
    if (options_.batch < 1) return {errc::bad_option, "refine: batch", options_.batch, 1};
    for (float rate : {options_.weight_rate, options_.scale_rate, options_.zero_rate, options_.offset_rate,
                       options_.end_to_end_rate, options_.hidden_weight}) {
      if (!(rate >= 0 && rate <= 1e6F)) return {errc::bad_option, "refine: rates", 0, 0};
    }
    for (std::size_t i = 0; i < samples_.size(); ++i) {
      const std::string place = "refine: sample " + std::to_string(i);
      if (failure f = check_input(program_, {samples_[i].rows(), samples_[i].cols()}, place)) return f;
      if (failure f = check_finite(samples_[i], place)) return f;
      if (failure f = model_.prepared().check_rows(samples_[i].rows())) return f.within(place);
      const index n = model_.prepared().output_rows(samples_[i].rows());
      for (index r : rows_of(static_cast<index>(i))) {
        if (r < 0 || r >= n) return {errc::shape_mismatch, place + ": row", r, n};
      }
    }
    return {};
  }

  result<quantized_model> run(const refine_progress& progress) {
    const model_view& view = model_.view();
    if (failure f = make_flow(program_, view, flow_)) return f;
    refine_parameters parameters;
    if (failure f = read_parameters(view, flow_, options_, parameters)) return f;
    find_targets();
    refine_trainer<E> trainer(view, flow_, parameters, options_, static_cast<index>(samples_.size()), exec_);
    measure_outputs(trainer, parameters);

    const double start = integer_loss(model_, trainer.judging());
    const double trained = integer_loss(model_, trainer.training());
    double best = start;
    std::vector<std::byte> bytes(view.header().total_bytes);
    std::copy(model_.bytes().begin(), model_.bytes().end(), bytes.begin());
    std::vector<refine_parameter> kept = parameters.all;
    const auto judge = [&]() -> failure {
      std::vector<std::byte> now = write_model(view, flow_, parameters);
      const auto m = quantized_model::load(now, model_.report());
      if (!m) return m.error().within("refine");
      const double loss = integer_loss(*m, trainer.judging());
      // a few samples may dominate a mean: what is better on some must not be worse on the others
      if (loss < best && integer_loss(*m, trainer.training()) <= trained) {
        best = loss;
        bytes = std::move(now);
        kept = parameters.all;
      }
      return {};
    };

    const auto ranges = static_cast<index>(flow_.ranges.size());
    refinement_status status;
    status.steps = ranges * options_.block_steps + options_.end_to_end_steps;
    const auto after = [&](const refine_judgement& j) {
      ++status.done;
      status.start = j.start;
      status.best = j.best;
      return !progress || progress(status);
    };
    if (options_.block_steps > 0) {
      std::vector<matrix<>> inputs(samples_.begin(), samples_.end());
      for (index r = 0; r < ranges; ++r) {
        refine_phase p = block_phase(r, inputs);
        if (const auto done = trainer.train(p, after); !done) return done.error();
        if (failure f = judge()) return f;
        if (r + 1 < ranges) inputs = outputs_of(trainer, p, flow_.ranges[static_cast<std::size_t>(r)].output);
      }
      parameters.all = kept;  // as many blocks as are best together
    }
    if (options_.end_to_end_steps > 0) {
      if (const auto done = trainer.train(whole_phase(), after); !done) return done.error();
      if (failure f = judge()) return f;
    }
    return quantized_model::load(bytes, model_.report());
  }

 private:
  [[nodiscard]] std::span<const index> rows_of(index sample) const {
    if (rows_.empty()) return {};
    return rows_[static_cast<std::size_t>(sample)];
  }
  [[nodiscard]] const matrix<>& target(index range, index sample) const {
    return targets_[static_cast<std::size_t>(range)][static_cast<std::size_t>(sample)];
  }

  /// The float program's value at the end of each range, of each sample, and its mean square.
  void find_targets() {
    const std::size_t ranges = flow_.ranges.size();
    targets_.assign(ranges, std::vector<matrix<>>(samples_.size()));
    exec_(static_cast<index>(samples_.size()), [&](index i) {
      activations x(program_.value_cols.size());
      x[0] = samples_[static_cast<std::size_t>(i)];
      for (std::size_t s = 0; s < program_.steps.size(); ++s) {
        const int out = program_.steps[s].out;
        x[static_cast<std::size_t>(out)] = evaluate(program_, program_.steps[s], x);
        for (std::size_t r = 0; r < ranges; ++r) {
          if (flow_.real[static_cast<std::size_t>(flow_.ranges[r].output)] == out)
            targets_[r][static_cast<std::size_t>(i)] = x[static_cast<std::size_t>(out)];
        }
        free_unused(program_, s, x);
      }
    });
    for (const std::vector<matrix<>>& t : targets_) {
      double sum = 0;
      double count = 0;
      for (const matrix<>& m : t) {
        sum += m.cast<double>().squaredNorm();
        count += static_cast<double>(m.size());
      }
      sizes_.push_back(static_cast<float>(std::max(sum / count, 1e-30)));
    }
  }

  /// The loss of the result of sample i.
  node result_loss(tape& t, node y, index i) const {
    const index last = static_cast<index>(flow_.ranges.size()) - 1;
    if (options_.loss == refinement_loss::divergence)
      return differentiable::kl_divergence(t, y, target(last, i), rows_of(i));
    return squared_loss(t, y, last, i);
  }
  node squared_loss(tape& t, node y, index range, index i) const {
    return differentiable::scale(t, differentiable::mean_squared_error(t, y, target(range, i)),
                                 1 / sizes_[static_cast<std::size_t>(range)]);
  }

  refine_phase block_phase(index r, std::span<const matrix<>> inputs) const {
    const refine_range& range = flow_.ranges[static_cast<std::size_t>(r)];
    refine_phase p;
    p.code = range.code;
    p.input = range.input;
    p.inputs = inputs;
    p.steps = options_.block_steps;
    p.drop = options_.drop;
    const bool last = r + 1 == static_cast<index>(flow_.ranges.size());
    p.loss = [this, r, last, out = static_cast<std::size_t>(range.output)](refine_forward::pass& x, index i) {
      return last ? result_loss(x.t, x.values[out], i) : squared_loss(x.t, x.values[out], r, i);
    };
    return p;
  }
  refine_phase whole_phase() const {
    refine_phase p;
    for (std::size_t i = 0; i < flow_.code.size(); ++i) p.code.push_back(static_cast<int>(i));
    p.inputs = samples_;
    p.steps = options_.end_to_end_steps;
    p.rate = options_.end_to_end_rate;
    const auto ranges = static_cast<index>(flow_.ranges.size());
    p.loss = [this, ranges](refine_forward::pass& x, index i) {
      const node y = result_loss(x.t, x.values[static_cast<std::size_t>(flow_.output)], i);
      if (options_.hidden_weight == 0 || ranges < 2) return y;
      const auto hidden = static_cast<std::size_t>(flow_.ranges[static_cast<std::size_t>(ranges - 1)].input);
      const node h = squared_loss(x.t, x.values[hidden], ranges - 2, i);
      return differentiable::add(x.t, y, differentiable::scale(x.t, h, options_.hidden_weight));
    };
    return p;
  }

  std::vector<matrix<>> outputs_of(refine_trainer<E>& trainer, const refine_phase& p, int value) const {
    std::vector<matrix<>> y(samples_.size());
    std::vector<index> all;
    for (index i = 0; i < static_cast<index>(samples_.size()); ++i) all.push_back(i);
    trainer.visit(p, all, [&](refine_forward::pass& x, index i) {
      y[static_cast<std::size_t>(i)] = x.t.value(x.values[static_cast<std::size_t>(value)]);
    });
    return y;
  }

  /// Sets the units of offsets: the root mean square of what each linear layer gives now.
  void measure_outputs(refine_trainer<E>& trainer, refine_parameters& parameters) const {
    const auto few = trainer.training().first(std::min<std::size_t>(trainer.training().size(), 8));
    std::vector<std::vector<double>> squares(flow_.code.size(), std::vector<double>(samples_.size(), 0));
    trainer.visit(whole_phase(), few, [&](refine_forward::pass& x, index i) {
      for (std::size_t k = 0; k < flow_.code.size(); ++k) {
        if (flow_.code[k].kind != opcode::linear) continue;
        const matrix<>& y = x.t.value(x.values[k + 1]);
        squares[k][static_cast<std::size_t>(i)] =
            y.cast<double>().squaredNorm() / static_cast<double>(y.size());
      }
    });
    for (std::size_t k = 0; k < flow_.code.size(); ++k) {
      if (flow_.code[k].kind != opcode::linear) continue;
      double sum = 0;
      for (double s : squares[k]) sum += s;
      parameters[parameters.units[k].third].unit =
          static_cast<float>(std::sqrt(sum / static_cast<double>(few.size())));
    }
  }

  /// The mean loss of the results of a model, computed in integers.
  double integer_loss(const quantized_model& m, std::span<const index> samples) const {
    std::vector<double> losses(samples.size());
    exec_(static_cast<index>(samples.size()), [&](index k) {
      const index i = samples[static_cast<std::size_t>(k)];
      const auto y = m.run(samples_[static_cast<std::size_t>(i)]);
      tape t;
      losses[static_cast<std::size_t>(k)] =
          y ? static_cast<double>(t.value(result_loss(t, t.constant(*y), i))(0, 0)) : 0;
    });
    double sum = 0;
    for (double l : losses) sum += l;
    return sum / static_cast<double>(losses.size());
  }

  const program& program_;
  const quantized_model& model_;
  std::span<const matrix<>> samples_;
  std::span<const std::vector<index>> rows_;
  const refinement& options_;
  const E& exec_;
  refine_flow flow_;
  std::vector<std::vector<matrix<>>> targets_;  ///< of each range, of each sample
  std::vector<float> sizes_;                    ///< mean square of each range's targets
};

}  // namespace detail

/// Improves a quantized model by gradients.
///
/// First block by block: each range of instructions between two residual values (the steps of one numbered
/// scope, "block.3.") is trained to give what the float program gives there, from the values that the refined
/// blocks before it give, with some activations left in float at random. Then end to end, on the result.
/// Codes and zero points are rounded in every forward pass, their gradients passed straight through. After
/// each block, and at the end, the model is written and run in integers: as many first blocks stay refined as
/// give the lowest loss of the result on the held-back samples, and the end-to-end phase counts if it lowers
/// it further; neither counts if the loss on the training samples is above that of the start. So it is never
/// worse on either than it was; where nothing helps, it comes back as it was.
///
/// Shapes    samples [tokens x input_cols], at least one; rows: for each sample the rows of its result that
///           the divergence counts, empty for all; or nothing for all rows of all samples
/// Errors    empty, shape_mismatch, non_finite (samples, rows, weights); bad_option; shape_mismatch where the
///           model is not one of this program; cancelled
/// Cost      per step about three float runs for each sample of a batch; memory: a few times all values of
///           `at_once` samples, and each block's float result for all samples
/// Precision the same bits for any executor on one build
/// Source    BRECQ (arXiv 2102.05426), QDrop (arXiv 2203.05740), LSQ+ (arXiv 2004.09576)
template<Executor E = inline_executor>
result<quantized_model> refine(const program& p, const quantized_model& model,
                               std::span<const matrix<>> samples, std::span<const std::vector<index>> rows,
                               const refinement& options, const E& exec = {},
                               const refine_progress& progress = {}) {
  detail::refinement_run<E> run(p, model, samples, rows, options, exec);
  if (failure f = run.check()) return f;
  return run.run(progress);
}

}  // namespace repquant
