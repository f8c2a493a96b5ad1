// SPDX-License-Identifier: MIT
/// refine_trainer: some instructions trained on some loss, judged on samples that were held back.
#pragma once

#include <repquant/block/refine_runner.hpp>
#include <repquant/train/cosine_schedule.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace repquant::detail {

/// The state that the phases share.
template<Executor E>
class refine_trainer {
 public:
  refine_trainer(const model_view& m, const refine_flow& f, refine_parameters& p, const refinement& o,
                 index samples, const E& exec)
      : runner_(m, f, p, o.at_once, exec), parameters_(p), options_(o), exec_(exec), random_{o.seed} {
    const index train = training_samples(o, samples);
    for (index i = 0; i < train; ++i) training_.push_back(i);
    for (index i = train < samples ? train : 0; i < samples; ++i) judging_.push_back(i);
  }

  /// Whether what held-back samples say must be confirmed by those trained on: a few samples may dominate a
  /// mean, and what is better on some must not be worse on the many others.
  [[nodiscard]] bool few_judge() const noexcept { return judging_.size() < training_.size(); }
  [[nodiscard]] std::span<const index> judging() const noexcept { return judging_; }
  [[nodiscard]] std::span<const index> training() const noexcept { return training_; }
  [[nodiscard]] refine_runner<E>& runner() noexcept { return runner_; }

  /// Trains, and leaves the parameters at those of the lowest loss on the held-back samples, where few judge
  /// among those whose loss on the training samples is not above the start's; which may be the start.
  ///
  /// `after` is called after each step with the judgement so far; false stops (errc::cancelled)
  template<class F>
  result<refine_judgement> train(const refine_phase& p, const F& after) {
    const std::vector<int> changed = parameters_of(p);
    std::vector<matrix<>> best;
    const auto keep = [&] {
      best.clear();
      for (int k : changed) best.push_back(parameters_.at(k));
    };
    refine_judgement j{runner_.loss(p, judging_), 0, 0, 0};
    const double others = few_judge() ? runner_.loss(p, training_) : 0;
    j.best = j.now = j.start;
    const double unit = p.unit ? runner_.loss(p, p.unit, judging_) : j.start;
    const auto walk = static_cast<float>(std::sqrt(unit / static_cast<double>(std::max<index>(1, p.steps))));
    keep();
    for (int k : changed) parameters_[k].past = {};
    std::vector<matrix<>> mean = best;
    float slower = 1;
    double trained = 0;
    index since = 0;  // steps since the mean began
    const auto swap_with_mean = [&] {
      for (std::size_t k = 0; k < changed.size(); ++k) std::swap(parameters_[changed[k]].x, mean[k]);
    };
    const index every = std::max<index>(1, p.steps / std::max<index>(1, options_.checks));
    std::vector<index> order;
    index last = 0;
    for (index step = 0; step < p.steps; ++step) {
      const std::vector<index> batch = p.draw ? endless_batch(step) : next_batch(order);
      const bool draws = p.draw && step + 1 < p.steps;
      trained +=
          runner_.gradients(p, batch, draws ? endless_batch(step + 1) : std::vector<index>{}, random_());
      const float warm = options_.warm_up * static_cast<float>(p.steps);
      const float rate = slower * p.rate * walk * cosine_schedule(step, p.steps) *
                         std::min(1.0F, static_cast<float>(step + 1) / std::max(1.0F, warm));
      exec_(static_cast<index>(changed.size()),
            [&](index k) { move(parameters_[changed[static_cast<std::size_t>(k)]], rate); });
      // early steps average over what there is, so that the start is soon forgotten
      const float keep_mean =
          std::min(options_.average, static_cast<float>(since) / static_cast<float>(since + 10));
      ++since;
      for (std::size_t k = 0; k < changed.size(); ++k)
        mean[k] += (1 - keep_mean) * (parameters_.at(changed[k]) - mean[k]);
      if ((step + 1) % every == 0 || step + 1 == p.steps) {
        swap_with_mean();
        const double now = j.now = runner_.loss(p, judging_);
        j.training = trained / static_cast<double>(step + 1 - last);
        trained = 0;
        last = step + 1;
        if (now < j.best && (!few_judge() || runner_.loss(p, training_) <= others)) {
          j.best = now;
          keep();
        }
        swap_with_mean();
        if (!(now <= j.best) && options_.step_back < 1) {
          for (std::size_t k = 0; k < changed.size(); ++k) {
            refine_parameter& q = parameters_[changed[k]];
            q.x = mean[k] = best[k];
            q.past = {};
          }
          slower *= options_.step_back;
          since = 0;
        }
      }
      if (!after(j)) return failure{errc::cancelled, "refine: step", step + 1, p.steps};
    }
    for (std::size_t k = 0; k < changed.size(); ++k) parameters_[changed[k]].x = best[k];
    return j;
  }

 private:
  /// Parameters whose users are all among the instructions of the phase.
  [[nodiscard]] std::vector<int> parameters_of(const refine_phase& p) const {
    std::vector<int> found;
    for (std::size_t k = 0; k < parameters_.all.size(); ++k) {
      const std::vector<int>& users = parameters_.all[k].users;
      const bool all = std::all_of(users.begin(), users.end(), [&](int u) {
        return std::find(p.code.begin(), p.code.end(), u) != p.code.end();
      });
      if (all) found.push_back(static_cast<int>(k));
    }
    return found;
  }

  void move(refine_parameter& q, float rate) const {
    const float of_kind = q.kind == refined::weight  ? options_.weight_rate
                          : q.kind == refined::scale ? options_.scale_rate
                          : q.kind == refined::zero  ? options_.zero_rate
                                                     : options_.offset_rate;
    // losses are relative, gradients may be small: the smallest that counts lies below them
    adam_step(adam{.epsilon = 1e-15F}, q.past, rate * of_kind * q.unit, q.gradient, q.x);
    if (q.lowest.size() == 1) {
      q.x = q.x.cwiseMax(q.lowest(0, 0)).cwiseMin(q.highest(0, 0));
    } else {
      q.x = q.x.cwiseMax(q.lowest).cwiseMin(q.highest);
    }
  }

  [[nodiscard]] std::vector<index> endless_batch(index step) const {
    std::vector<index> batch;
    for (index k = 0; k < options_.batch; ++k) batch.push_back(step * options_.batch + k);
    return batch;
  }
  /// The next training samples of a random order, which starts anew when it is used up.
  std::vector<index> next_batch(std::vector<index>& order) {
    const auto n = std::min(static_cast<std::size_t>(std::max<index>(1, options_.batch)), training_.size());
    if (order.size() < n) {
      order = training_;
      for (std::size_t k = order.size() - 1; k > 0; --k)
        std::swap(order[k], order[static_cast<std::size_t>(random_.below(static_cast<index>(k + 1)))]);
    }
    std::vector<index> batch(order.end() - static_cast<std::ptrdiff_t>(n), order.end());
    order.resize(order.size() - n);
    return batch;
  }

  refine_runner<E> runner_;
  refine_parameters& parameters_;
  const refinement& options_;
  const E& exec_;
  splitmix64 random_;
  std::vector<index> training_;
  std::vector<index> judging_;
};

}  // namespace repquant::detail
