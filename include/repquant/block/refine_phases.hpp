// SPDX-License-Identifier: MIT
/// refine_phases: what refine() trains one after the other, the blocks and then the whole model: from which
/// samples, on which loss.
#pragma once

#include <repquant/block/refine_forward.hpp>
#include <repquant/block/refine_targets.hpp>

#include <functional>
#include <vector>

namespace repquant::detail {

/// Where samples come from, and what is lost on them.
struct refine_feed {
  std::function<void(refine_forward::pass&, index)> start;  ///< puts the value that a phase begins with
  std::function<node(refine_forward::pass&, index)> loss;
};

/// What is trained, from what, and how it is judged.
struct refine_phase {
  std::vector<int> code;  ///< instructions, in order
  refine_feed fixed;      ///< of the samples, to judge by
  refine_feed training;   ///< to train on; none: fixed
  /// What the rates are in units of, on the samples that judge; none: the loss that they are judged by.
  std::function<node(refine_forward::pass&, index)> unit;
  /// Makes the sample of any number that `training` starts with, a pure function; none: it takes the samples.
  std::function<void(refine_drawn&, index)> draw;
  index steps = 0;
  float rate = 1;  ///< factor of all rates
  float drop = 0;
};

/// Makes the phases.
struct refine_phases {
  const refine_flow& flow;
  const refine_targets& targets;
  std::span<const matrix<>> samples;
  std::span<const std::vector<index>> rows;  ///< of each sample, or none
  const refinement& options;

  /// Range r, from the values `inputs` of all samples to the float program's at its end.
  [[nodiscard]] refine_phase of_range(std::size_t r, std::span<const matrix<>> inputs) const {
    const refine_range& range = flow.ranges[r];
    refine_phase p;
    p.code = range.code;
    p.steps = options.block_steps;
    p.drop = options.drop;
    p.fixed.start = [inputs, in = static_cast<std::size_t>(range.input)](refine_forward::pass& x, index i) {
      x.values[in] = x.t.constant(inputs[static_cast<std::size_t>(i)]);
    };
    const bool last = r + 1 == flow.ranges.size();
    p.fixed.loss = [this, r, last, out = static_cast<std::size_t>(range.output)](refine_forward::pass& x,
                                                                                 index i) {
      const matrix<>& want = targets.at(i)[r];
      return last ? targets.result_loss(x.t, x.values[out], want, rows_of(i))
                  : targets.squared_loss(x.t, x.values[out], want, r);
    };
    return p;
  }

  /// The whole model, on the samples or on those of the source, judged by its result alone.
  [[nodiscard]] refine_phase of_all() const {
    refine_phase p;
    for (std::size_t i = 0; i < flow.code.size(); ++i) p.code.push_back(static_cast<int>(i));
    p.steps = options.end_to_end_steps;
    p.rate = options.end_to_end_rate;
    p.fixed.start = [this](refine_forward::pass& x, index i) {
      x.values[0] = x.t.constant(samples[static_cast<std::size_t>(i)]);
    };
    const auto loss_at = [this](float temperature) {
      return [this, temperature](refine_forward::pass& x, index i) {
        return targets.result_loss(x.t, x.values[static_cast<std::size_t>(flow.output)], targets.at(i).back(),
                                   rows_of(i), temperature);
      };
    };
    p.fixed.loss = loss_at(options.temperature);
    if (options.temperature != 1) p.unit = loss_at(1);
    if (options.source) {
      p.draw = [this](refine_drawn& d, index number) {
        d = {number, options.source(static_cast<std::uint64_t>(number)), {}};
        d.targets = targets.of(d.sample.input);
      };
      p.training.start = [](refine_forward::pass& x, index) {
        x.values[0] = x.t.constant(x.drawn->sample.input);
      };
      p.training.loss = [this](refine_forward::pass& x, index) {
        return whole_loss(x, x.drawn->targets, x.drawn->sample.rows);
      };
    } else {
      p.training.start = p.fixed.start;
      p.training.loss = [this](refine_forward::pass& x, index i) {
        return whole_loss(x, targets.at(i), rows_of(i));
      };
    }
    return p;
  }

  [[nodiscard]] std::span<const index> rows_of(index sample) const {
    if (rows.empty()) return {};
    return rows[static_cast<std::size_t>(sample)];
  }

 private:
  /// The loss of the result, and hidden_weight times the mean of those at the ends of the ranges before.
  [[nodiscard]] node whole_loss(refine_forward::pass& x, const std::vector<matrix<>>& want,
                                std::span<const index> counted) const {
    node y = targets.result_loss(x.t, x.values[static_cast<std::size_t>(flow.output)], want.back(), counted);
    if (options.hidden_weight == 0) return y;
    const std::size_t hidden = flow.ranges.size() - 1;
    for (std::size_t r = 0; r < hidden; ++r) {
      const node at = x.values[static_cast<std::size_t>(flow.ranges[r].output)];
      const node h = targets.squared_loss(x.t, at, want[r], r);
      const float share = options.hidden_weight / static_cast<float>(hidden);
      y = differentiable::add(x.t, y, differentiable::scale(x.t, h, share));
    }
    return y;
  }
};

}  // namespace repquant::detail
