// SPDX-License-Identifier: MIT
/// refine_runner: samples run through some instructions on tapes, for what they lose and for gradients.
#pragma once

#include <repquant/block/compare_losses.hpp>
#include <repquant/block/refine_phases.hpp>
#include <repquant/parallel/concept.hpp>

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

namespace repquant::detail {

/// Deterministic: samples of a batch run in parallel, and their gradients are summed in order.
template<Executor E>
class refine_runner {
 public:
  /// `at_once`: samples on tapes at a time
  refine_runner(const model_view& m, const refine_flow& f, refine_parameters& p, index at_once, const E& exec)
      : flow_(f),
        parameters_(p),
        exec_(exec),
        leaves_(f.code.size()),
        forward_{m, f, p, leaves_, std::vector<bool>(f.code.size(), false), 0},
        passes_(static_cast<std::size_t>(std::max<index>(1, at_once))) {}

  /// Calls f(pass, sample) after a forward run without gradients for each sample; several at once.
  template<class F>
  void visit(const refine_phase& p, std::span<const index> samples, const F& f) {
    prepare(p, false);
    for_each(
        p, p.fixed, samples, 0, [&](refine_forward::pass& x, index, index i) { f(x, i); },
        [](std::size_t) {});
  }

  /// What a value is for the first `count` samples.
  std::vector<matrix<>> outputs(const refine_phase& p, int value, index count) {
    std::vector<index> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), index{0});
    std::vector<matrix<>> y(all.size());
    visit(p, all, [&](refine_forward::pass& x, index i) {
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
    prepare(p, false);
    for_each(
        p, p.fixed, samples, 0,
        [&](refine_forward::pass& x, index k, index i) {
          losses[static_cast<std::size_t>(k)] = static_cast<double>(x.t.value(of(x, i))(0, 0));
        },
        [](std::size_t) {});
    return judged(losses);
  }

  /// Sets the gradients of all parameters; the mean loss over the batch. `seed`: of what is random in it.
  double gradients(const refine_phase& p, std::span<const index> batch, std::uint64_t seed) {
    prepare(p, true);
    for (int i : p.code) {
      for (std::size_t l = 0; l < refine_leaf_set::most; ++l) {
        refine_leaf_set& s = leaves_[static_cast<std::size_t>(i)];
        s.gradient[l].setZero(s.value[l].rows(), s.value[l].cols());
      }
    }
    const refine_feed& feed = p.training.start ? p.training : p.fixed;
    std::vector<double> losses(batch.size());
    for_each(
        p, feed, batch, seed,
        [&](refine_forward::pass& x, index k, index i) {
          const node loss = feed.loss(x, i);
          losses[static_cast<std::size_t>(k)] = static_cast<double>(x.t.value(loss)(0, 0));
          x.t.backward(loss);
        },
        [&](std::size_t used) {
          exec_(static_cast<index>(p.code.size()), [&](index k) {
            const auto i = static_cast<std::size_t>(p.code[static_cast<std::size_t>(k)]);
            for (std::size_t l = 0; l < refine_leaf_set::most; ++l) {
              if (leaves_[i].value[l].size() == 0) continue;
              for (std::size_t c = 0; c < used; ++c)
                leaves_[i].gradient[l] += passes_[c].t.gradient(passes_[c].leaf[i][l]);
            }
          });
        });
    for (refine_parameter& q : parameters_.all) q.gradient.setZero(q.x.rows(), q.x.cols());
    for (int i : p.code) pull_back(flow_, parameters_, i, leaves_[static_cast<std::size_t>(i)]);
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  }

 private:
  void prepare(const refine_phase& p, bool training) {
    for (int i : p.code) forward_.trained[static_cast<std::size_t>(i)] = training;
    forward_.drop = training ? p.drop : 0;
    exec_(static_cast<index>(p.code.size()), [&](index k) {
      const int i = p.code[static_cast<std::size_t>(k)];
      make_leaves(flow_, parameters_, i, leaves_[static_cast<std::size_t>(i)]);
    });
  }

  /// Runs the samples, as many at once as there are passes: each(pass, number, sample), then all(passes
  /// used).
  template<class Each, class All>
  void for_each(const refine_phase& p, const refine_feed& feed, std::span<const index> samples,
                std::uint64_t seed, const Each& each, const All& all) {
    for (std::size_t from = 0; from < samples.size(); from += passes_.size()) {
      const std::size_t n = std::min(passes_.size(), samples.size() - from);
      exec_(static_cast<index>(n), [&](index c) {
        refine_forward::pass& x = passes_[static_cast<std::size_t>(c)];
        const auto k = static_cast<index>(from) + c;
        const index sample = samples[static_cast<std::size_t>(k)];
        x.start(flow_.code.size() + 1);
        x.random = splitmix64::of(seed, static_cast<std::uint64_t>(k));
        feed.start(x, sample);
        for (int i : p.code) forward_.run(x, i);
        each(x, k, sample);
      });
      all(n);
    }
  }

  const refine_flow& flow_;
  refine_parameters& parameters_;
  const E& exec_;
  std::vector<refine_leaf_set> leaves_;
  refine_forward forward_;
  std::vector<refine_forward::pass> passes_;
};

}  // namespace repquant::detail
