// SPDX-License-Identifier: MIT
/// refine: improves a quantized model by gradients, block by block and then as a whole. Codes, scales, zero
/// points and offsets move; instructions, widths and sites stay.
#pragma once

#include <repquant/block/refine_judge.hpp>
#include <repquant/block/select_early.hpp>
#include <repquant/parallel/inline_executor.hpp>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace repquant {

namespace detail {

/// Errors  of refine(), but those of its settings
inline failure check_refinement(const program& p, const quantized_model& m, std::span<const matrix<>> samples,
                                std::span<const std::vector<index>> rows, const refinement& o) {
  const bool compared = o.loss == refinement_loss::similarity;
  if (compared && (o.references.rows() < 1 || o.references.cols() != p.output_cols()))
    return {errc::shape_mismatch, "refine: references", o.references.cols(), p.output_cols()};
  if (samples.empty()) return {errc::empty, "refine: samples", 0, 1};
  if (!rows.empty() && rows.size() != samples.size()) {
    return {errc::shape_mismatch, "refine: rows", static_cast<std::int64_t>(rows.size()),
            static_cast<std::int64_t>(samples.size())};
  }
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::string place = "refine: sample " + std::to_string(i);
    if (failure f = check_input(p, {samples[i].rows(), samples[i].cols()}, place)) return f;
    if (failure f = check_finite(samples[i], place)) return f;
    if (failure f = m.prepared().check_rows(samples[i].rows())) return f.within(place);
    const index n = m.prepared().output_rows(samples[i].rows());
    if (rows.empty()) continue;
    for (index r : rows[i]) {
      if (r < 0 || r >= n) return {errc::shape_mismatch, place + ": row", r, n};
    }
  }
  return {};
}

/// Sets the units of offsets: the root mean square of what each linear layer gives now.
template<Executor E>
void measure_outputs(refine_trainer<E>& trainer, const refine_phase& whole, const refine_flow& flow,
                     refine_parameters& parameters) {
  const auto few = trainer.training().first(std::min<std::size_t>(trainer.training().size(), 8));
  std::vector<std::vector<double>> squares(flow.code.size(), std::vector<double>(few.size(), 0));
  trainer.runner().visit(whole, few, [&](refine_forward::pass& x, index, index i) {
    for (std::size_t k = 0; k < flow.code.size(); ++k) {
      if (flow.code[k].kind != opcode::linear) continue;
      const matrix<>& y = x.t.value(x.values[k + 1]);
      squares[k][static_cast<std::size_t>(i)] =
          y.cast<double>().squaredNorm() / static_cast<double>(y.size());
    }
  });
  for (std::size_t k = 0; k < flow.code.size(); ++k) {
    if (flow.code[k].kind != opcode::linear) continue;
    const double sum = std::accumulate(squares[k].begin(), squares[k].end(), 0.0);
    parameters[parameters.units[k].third].unit =
        static_cast<float>(std::sqrt(sum / static_cast<double>(few.size())));
  }
}

template<Executor E>
result<quantized_model> refine(const program& original, const quantized_model& model,
                               std::span<const matrix<>> samples, std::span<const std::vector<index>> rows,
                               const refinement& options, const E& exec, const refine_progress& progress) {
  // the model's steps are those of p, or where the recipe selects early those of select_early(p)
  refine_flow flow;
  program p = original;
  if (const failure f = make_flow(p, model.view(), flow)) {
    p = select_early(std::move(p));
    if (make_flow(p, model.view(), flow)) return f;
  }
  refine_parameters parameters;
  if (failure f = read_parameters(model.view(), flow, options, parameters)) return f;
  refine_targets targets(p, flow, options);
  targets.find(samples, exec);
  const refine_phases phases{flow, targets, samples, rows, options};
  refine_trainer<E> trainer(model.view(), flow, parameters, options, static_cast<index>(samples.size()),
                            exec);
  measure_outputs(trainer, phases.of_all(), flow, parameters);
  refine_judge<E> judge(model, flow, phases, trainer, parameters, exec);

  refinement_status status;
  status.steps = static_cast<index>(flow.ranges.size()) * options.block_steps + options.end_to_end_steps;
  const auto after = [&](const refine_judgement& j) {
    ++status.done;
    status.start = j.start;
    status.best = j.best;
    status.now = j.now;
    status.training = j.training;
    return !progress || progress(status);
  };
  if (options.block_steps > 0) {
    std::vector<matrix<>> inputs(samples.begin(), samples.end());
    for (std::size_t r = 0; r < flow.ranges.size(); ++r) {
      const refine_phase phase = phases.of_range(r, inputs);
      if (const auto done = trainer.train(phase, after); !done) return done.error();
      if (failure f = judge.judge(parameters)) return f;
      if (r + 1 < flow.ranges.size()) {
        inputs = trainer.runner().outputs(phase, flow.ranges[r].output, static_cast<index>(samples.size()));
      }
    }
    parameters.all = judge.kept();  // as many blocks as are best together
  }
  if (options.end_to_end_steps > 0) {
    if (const auto done = trainer.train(phases.of_all(), after); !done) return done.error();
    if (failure f = judge.judge(parameters)) return f;
  }
  return judge.model();
}

}  // namespace detail

/// Improves a quantized model by gradients; p is the program that it was made from.
///
/// First block by block: each range of instructions between two residual values (the steps of one numbered
/// scope, "block.3.") is trained to give what the float program gives there, from the values that the refined
/// blocks before it give, with some activations left in float at random. Then end to end, on the result, from
/// the samples or from what `source` makes of them.
/// Codes and zero points are rounded in every forward pass, their gradients passed straight through. After
/// each block, and at the end, the model is written and run in integers: as many first blocks stay refined as
/// give the lowest loss of the result on the held-back samples, and the end-to-end phase counts if it lowers
/// it further; where fewer samples judge than train, neither counts if the loss on the training samples is
/// above that of the start. So it is never worse on what judges than it was; where nothing helps, it comes
/// back as it was. Losses of several samples are compared by the square of their mean root, in a mean one or
/// two samples may decide; by how many standard errors they must differ is `certainty`.
///
/// Shapes    samples [tokens x input_cols], at least one; rows: for each sample the rows of its result that
///           the divergence counts, empty for all; or nothing for all rows of all samples
/// Errors    empty, shape_mismatch, non_finite (samples, rows, weights); bad_option; shape_mismatch where the
///           model is not one of this program; cancelled
/// Cost      per step about three float runs for each sample of a batch; memory: a few times all values of
///           `at_once` samples, the inputs and float results of two batches, and each block's float result
///           for all samples
/// Precision the same bits for any executor on one build
/// Source    BRECQ (arXiv 2102.05426), QDrop (arXiv 2203.05740), LSQ+ (arXiv 2004.09576)
template<Executor E = inline_executor>
result<quantized_model> refine(const program& p, const quantized_model& model,
                               std::span<const matrix<>> samples, std::span<const std::vector<index>> rows,
                               const refinement& options, const E& exec = {},
                               const refine_progress& progress = {}) {
  if (failure f = check(options)) return f;
  if (failure f = detail::check_refinement(p, model, samples, rows, options)) return f;
  return detail::refine(p, model, samples, rows, options, exec, progress);
}

}  // namespace repquant
