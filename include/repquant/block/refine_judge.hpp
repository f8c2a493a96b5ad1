// SPDX-License-Identifier: MIT
/// refine_judge: which model refine() returns.
#pragma once

#include <repquant/block/quantized_model.hpp>
#include <repquant/block/refine_trainer.hpp>
#include <repquant/block/refine_writer.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace repquant::detail {

/// The losses of the results of a model, computed in integers.
template<Executor E>
std::vector<double> integer_losses(const quantized_model& m, const refine_phases& phases,
                                   std::span<const index> samples, const E& exec) {
  std::vector<double> losses(samples.size());
  exec(static_cast<index>(samples.size()), [&](index k) {
    const index i = samples[static_cast<std::size_t>(k)];
    const auto y = m.run(phases.samples[static_cast<std::size_t>(i)]);
    if (!y) return;  // the model's input was checked
    tape t;
    const node loss = phases.targets.result_loss(t, t.constant(*y), phases.targets.at(i).back(),
                                                 phases.rows_of(i), phases.options.temperature);
    losses[static_cast<std::size_t>(k)] = static_cast<double>(t.value(loss)(0, 0));
  });
  return losses;
}

/// The best model so far, by what it computes in integers.
template<Executor E>
class refine_judge {
 public:
  refine_judge(const quantized_model& m, const refine_flow& f, const refine_phases& phases,
               const refine_trainer<E>& trainer, const refine_parameters& p, const E& exec)
      : model_(m),
        flow_(f),
        phases_(phases),
        trainer_(trainer),
        exec_(exec),
        best_(integer_losses(m, phases, trainer.judging(), exec)),
        trained_(trainer.few_judge() ? judged(integer_losses(m, phases, trainer.training(), exec)) : 0),
        certainty_(static_cast<double>(phases.options.certainty)),
        bytes_(m.bytes().begin(), m.bytes().end()),
        kept_(p.all) {}

  /// Keeps the parameters if their model is better on the held-back samples, as clearly as is asked for, and,
  /// where few judge, on the others not worse than the start.
  failure judge(const refine_parameters& p) {
    auto now = write_model(model_.view(), flow_, p);
    if (!now) return now.error().within("refine");
    const auto m = quantized_model::load(*now, model_.report());
    if (!m) return m.error().within("refine");
    std::vector<double> losses = integer_losses(*m, phases_, trainer_.judging(), exec_);
    if (clearly_lower(losses, best_, certainty_) &&
        (!trainer_.few_judge() ||
         judged(integer_losses(*m, phases_, trainer_.training(), exec_)) <= trained_)) {
      best_ = std::move(losses);
      bytes_ = *std::move(now);
      kept_ = p.all;
    }
    return {};
  }
  [[nodiscard]] const std::vector<refine_parameter>& kept() const noexcept { return kept_; }
  [[nodiscard]] result<quantized_model> model() const {
    return quantized_model::load(bytes_, model_.report());
  }

 private:
  const quantized_model& model_;
  const refine_flow& flow_;
  const refine_phases& phases_;
  const refine_trainer<E>& trainer_;
  const E& exec_;
  std::vector<double> best_;  ///< losses of the held-back samples
  double trained_;            ///< what those of the others said of the start
  double certainty_;
  std::vector<std::byte> bytes_;
  std::vector<refine_parameter> kept_;
};

}  // namespace repquant::detail
