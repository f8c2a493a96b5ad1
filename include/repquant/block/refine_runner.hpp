// SPDX-License-Identifier: MIT
/// refine_runner: samples run through some instructions on tapes, for what they lose and for gradients.
#pragma once

#include <repquant/block/compare_losses.hpp>
#include <repquant/block/refine_phases.hpp>
#include <repquant/parallel/concept.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <span>
#include <vector>

namespace repquant::detail {

/// Deterministic: samples of a batch run in parallel, and their gradients are summed in order; a sample that
/// is drawn ahead is the same.
template<Executor E>
class refine_runner {
 public:
  /// `at_once`: samples whose gradients are in memory at a time
  refine_runner(const model_view& m, const refine_flow& f, refine_parameters& p, index at_once, const E& exec)
      : flow_(f),
        parameters_(p),
        exec_(exec),
        leaves_(f.code.size()),
        forward_{m, f, p, leaves_, std::vector<bool>(f.code.size(), false), 0},
        passes_(static_cast<std::size_t>(std::max<index>(1, at_once))) {}

  /// Calls f(pass, number, sample) after a forward run without gradients for each sample; several at once.
  template<class F>
  void visit(const refine_phase& p, std::span<const index> samples, const F& f) {
    prepare(p, false);
    exec_(static_cast<index>(samples.size()), [&](index k) {
      std::unique_ptr<refine_forward::pass> x = idle_.take();
      const index sample = samples[static_cast<std::size_t>(k)];
      run(*x, p, p.fixed, sample, 0, k);
      f(*x, k, sample);
      idle_.give(std::move(x));
    });
  }

  /// What a value is for the first `count` samples.
  std::vector<matrix<>> outputs(const refine_phase& p, int value, index count) {
    std::vector<index> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), index{0});
    std::vector<matrix<>> y(all.size());
    visit(p, all, [&](refine_forward::pass& x, index, index i) {
      y[static_cast<std::size_t>(i)] = x.t.value(x.values[static_cast<std::size_t>(value)]);
    });
    return y;
  }

  /// What the losses of some samples say to a judge.
  double loss(const refine_phase& p, std::span<const index> samples) {
    return loss(p, p.fixed.loss, samples);
  }
  double loss(const refine_phase& p, const std::function<node(refine_forward::pass&, index)>& of,
              std::span<const index> samples) {
    std::vector<double> losses(samples.size());
    visit(p, samples, [&](refine_forward::pass& x, index k, index i) {
      losses[static_cast<std::size_t>(k)] = static_cast<double>(x.t.value(of(x, i))(0, 0));
    });
    return judged(losses);
  }

  /// Sets the gradients of all parameters; the mean loss over the batch. `next`: the batch after this one,
  /// as many samples or none, drawn by threads that have nothing else left. `seed`: of what is random in it.
  double gradients(const refine_phase& p, std::span<const index> batch, std::span<const index> next,
                   std::uint64_t seed) {
    REPQUANT_ASSERT(next.empty() || next.size() == batch.size());
    prepare(p, true);
    for (int i : p.code) {
      for (std::size_t l = 0; l < refine_leaf_set::most; ++l) {
        refine_leaf_set& s = leaves_[static_cast<std::size_t>(i)];
        s.gradient[l].setZero(s.value[l].rows(), s.value[l].cols());
      }
    }
    std::swap(drawn_, next_drawn_);
    drawn_.resize(p.draw ? batch.size() : 0);
    next_drawn_.resize(next.size());
    const refine_feed& feed = p.training.start ? p.training : p.fixed;
    std::vector<double> losses(batch.size());
    for (std::size_t from = 0; from < batch.size(); from += passes_.size()) {
      const std::size_t n = std::min(passes_.size(), batch.size() - from);
      exec_(static_cast<index>(next.empty() ? n : 2 * n), [&](index piece) {
        const std::size_t c = static_cast<std::size_t>(piece) % n;
        const std::size_t k = from + c;
        if (static_cast<std::size_t>(piece) >= n) return p.draw(next_drawn_[k], next[k]);
        refine_forward::pass& x = passes_[c];
        if (p.draw) {
          if (drawn_[k].number != batch[k]) p.draw(drawn_[k], batch[k]);
          x.drawn = &drawn_[k];
        }
        run(x, p, feed, batch[k], seed, static_cast<index>(k));
        const node loss = feed.loss(x, batch[k]);
        losses[k] = static_cast<double>(x.t.value(loss)(0, 0));
        x.t.backward(loss);
      });
      add_gradients(p, n);
    }
    for (refine_parameter& q : parameters_.all) q.gradient.setZero(q.x.rows(), q.x.cols());
    for (int i : p.code) pull_back(flow_, parameters_, i, leaves_[static_cast<std::size_t>(i)]);
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  }

 private:
  /// Passes that nobody uses: in the end as many as the executor runs at once.
  class idle_passes {
   public:
    std::unique_ptr<refine_forward::pass> take() {
      const std::lock_guard lock(mutex_);
      if (passes_.empty()) return std::make_unique<refine_forward::pass>();
      std::unique_ptr<refine_forward::pass> x = std::move(passes_.back());
      passes_.pop_back();
      return x;
    }
    void give(std::unique_ptr<refine_forward::pass> x) {
      const std::lock_guard lock(mutex_);
      passes_.push_back(std::move(x));
    }

   private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<refine_forward::pass>> passes_;
  };

  void prepare(const refine_phase& p, bool training) {
    for (int i : p.code) forward_.trained[static_cast<std::size_t>(i)] = training;
    forward_.drop = training ? p.drop : 0;
    exec_(static_cast<index>(p.code.size()), [&](index k) {
      const int i = p.code[static_cast<std::size_t>(k)];
      make_leaves(flow_, parameters_, i, leaves_[static_cast<std::size_t>(i)]);
    });
  }

  /// A forward run of a sample, the k-th of those with this seed.
  void run(refine_forward::pass& x, const refine_phase& p, const refine_feed& feed, index sample,
           std::uint64_t seed, index k) const {
    x.start(flow_.code.size() + 1);
    x.random = splitmix64::of(seed, static_cast<std::uint64_t>(k));
    feed.start(x, sample);
    for (int i : p.code) forward_.run(x, i);
  }

  /// Adds those of the first `used` passes to the gradients of the leaves, in order.
  void add_gradients(const refine_phase& p, std::size_t used) {
    exec_(static_cast<index>(p.code.size()), [&](index k) {
      const auto i = static_cast<std::size_t>(p.code[static_cast<std::size_t>(k)]);
      for (std::size_t l = 0; l < refine_leaf_set::most; ++l) {
        if (leaves_[i].value[l].size() == 0) continue;
        for (std::size_t c = 0; c < used; ++c)
          leaves_[i].gradient[l] += passes_[c].t.gradient(passes_[c].leaf[i][l]);
      }
    });
  }

  const refine_flow& flow_;
  refine_parameters& parameters_;
  const E& exec_;
  std::vector<refine_leaf_set> leaves_;
  refine_forward forward_;
  std::vector<refine_forward::pass> passes_;  ///< of a batch, until their gradients are added
  std::vector<refine_drawn> drawn_;           ///< samples of the batch
  std::vector<refine_drawn> next_drawn_;      ///< of the one after it
  idle_passes idle_;
};

}  // namespace repquant::detail
