// SPDX-License-Identifier: MIT
/// refine_targets: what the float program says of samples, and how far a model is from it.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/block/refine_flow.hpp>
#include <repquant/block/refine_options.hpp>
#include <repquant/parallel/concept.hpp>
#include <repquant/train/elementwise.hpp>
#include <repquant/train/losses.hpp>
#include <repquant/train/norms.hpp>
#include <repquant/train/products.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace repquant::detail {

/// The float program's values at the end of each range of a flow.
class refine_targets {
 public:
  refine_targets(const program& p, const refine_flow& f, const refinement& o)
      : program_(p),
        flow_(f),
        options_(o),
        unit_(matrix<>::Constant(1, p.output_cols(), 1 / std::sqrt(static_cast<float>(p.output_cols())))) {}

  /// Those of one sample, in the order of the ranges.
  [[nodiscard]] std::vector<matrix<>> of(const matrix<>& sample) const {
    std::vector<matrix<>> found(flow_.ranges.size());
    activations x(program_.value_cols.size());
    x[0] = sample;
    for (std::size_t s = 0; s < program_.steps.size(); ++s) {
      const int out = program_.steps[s].out;
      x[static_cast<std::size_t>(out)] = evaluate(program_, program_.steps[s], x);
      for (std::size_t r = 0; r < found.size(); ++r) {
        if (flow_.real[static_cast<std::size_t>(flow_.ranges[r].output)] == out)
          found[r] = x[static_cast<std::size_t>(out)];
      }
      free_unused(program_, s, x);
    }
    return found;
  }

  /// Keeps those of all samples, and their mean squares.
  template<Executor E>
  void find(std::span<const matrix<>> samples, const E& exec) {
    of_sample_.resize(samples.size());
    exec(static_cast<index>(samples.size()), [&](index i) {
      of_sample_[static_cast<std::size_t>(i)] = of(samples[static_cast<std::size_t>(i)]);
    });
    for (std::size_t r = 0; r < flow_.ranges.size(); ++r) {
      double sum = 0;
      double count = 0;
      for (const std::vector<matrix<>>& t : of_sample_) {
        sum += t[r].template cast<double>().squaredNorm();
        count += static_cast<double>(t[r].size());
      }
      sizes_.push_back(static_cast<float>(std::max(sum / count, 1e-30)));
    }
  }
  [[nodiscard]] const std::vector<matrix<>>& at(index sample) const {
    return of_sample_[static_cast<std::size_t>(sample)];
  }

  /// The loss of a result of which `rows` count; a divergence at this temperature.
  node result_loss(tape& t, node y, const matrix<>& want, std::span<const index> rows,
                   float temperature = 1) const {
    switch (options_.loss) {
      case refinement_loss::divergence:
        return differentiable::scale(
            t,
            differentiable::kl_divergence(t, differentiable::scale(t, y, 1 / temperature), want / temperature,
                                          rows),
            temperature * temperature);
      case refinement_loss::similarity:
        return differentiable::kl_divergence(t, similarities(t, y),
                                             t.value(similarities(t, t.constant(want))), rows);
      case refinement_loss::squared_error:
        break;
    }
    return squared_loss(t, y, want, flow_.ranges.size() - 1);
  }
  /// The squared error at the end of a range, over the mean square of what should be there.
  node squared_loss(tape& t, node y, const matrix<>& want, std::size_t range) const {
    return differentiable::scale(t, differentiable::mean_squared_error(t, y, want), 1 / sizes_[range]);
  }

 private:
  /// references y / |y| of each row y.
  node similarities(tape& t, node y) const {
    constexpr float tiny = 1e-30F;  // a row of zeros has no direction
    const node direction = differentiable::rms_norm(t, y, t.constant(unit_), tiny);
    return differentiable::linear(t, direction, t.constant(options_.references));
  }

  const program& program_;
  const refine_flow& flow_;
  const refinement& options_;
  matrix<> unit_;  ///< what makes the root mean square of a row its length
  std::vector<std::vector<matrix<>>> of_sample_;
  std::vector<float> sizes_;  ///< mean square of each range's targets
};

}  // namespace repquant::detail
