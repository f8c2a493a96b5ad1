// SPDX-License-Identifier: MIT
/// spread_inputs: where codes of a linear layer's input would lose much (the long tails behind a GELU or a
/// gate, channels of unequal size), the input is scaled and mixed first, and the layer's weights take the
/// inverse.
///
/// Length: what is seen, what it would cost and where it goes are one pass over the inputs of a program.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/block/shared_weights.hpp>
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/granularity/granularities.hpp>
#include <repquant/parallel/concept.hpp>
#include <repquant/reparam/spread_channels.hpp>

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace repquant {

namespace detail {

/// One value that linear layers read, and rows of it.
struct spread_site {
  int value = -1;
  std::vector<int> layers;  ///< linear layers that read it
  std::string path;         ///< of the first of them
  std::vector<int> groups;  ///< of its readers: the same for all calls of a shared layer
  int together = -1;        ///< number of the values that must be treated alike
  matrix<> rows;
};

/// The squared error of the outputs of layers with weights `w` when codes of their own for each channel stand
/// for their input.
template<class Observer>
result<double> coding_cost(matrix_view x, const matrix<>& w, const uniform& codec, const Observer& observer,
                           const std::string& path) {
  calibrator<Observer, per_col> watch(observer, {}, x.cols(), path);
  if (failure f = watch.observe(x)) return f;
  const auto q = watch.make(codec);
  if (!q) return q.error();
  matrix<> error(x.rows(), x.cols());
  for (index t = 0; t < x.rows(); ++t) {
    for (index d = 0; d < x.cols(); ++d) {
      const affine& p = q->params()[static_cast<std::size_t>(d)];
      error(t, d) = codec.decode(codec.encode(x(t, d), p), p) - x(t, d);
    }
  }
  const matrix<> out = error * w.transpose();
  return out.template cast<double>().squaredNorm();
}

/// The weights of all readers of a value, one below the other.
inline matrix<> weights_below(const program& p, const spread_site& s) {
  index rows = 0;
  for (int layer : s.layers) rows += p.linears[static_cast<std::size_t>(layer)].out();
  matrix<> w(rows, s.rows.cols());
  index at = 0;
  for (int layer : s.layers) {
    const linear& l = p.linears[static_cast<std::size_t>(layer)];
    w.middleRows(at, l.out()) = l.weight;
    at += l.out();
  }
  return w;
}

/// The values that linear layers read. Those whose readers are calls of one shared layer belong together.
inline std::vector<spread_site> find_inputs(const program& p) {
  const shared_weights shared(p);
  std::vector<spread_site> sites;
  for (int v = 0; v < static_cast<int>(p.value_cols.size()); ++v) {
    spread_site s{v, {}, {}, {}, static_cast<int>(sites.size()), {}};
    for (int i : p.readers(v)) {
      const step& r = p.steps[static_cast<std::size_t>(i)];
      if (r.kind != step_kind::linear) continue;
      if (s.layers.empty()) s.path = r.path + ".in";
      s.layers.push_back(r.layer);
      s.groups.push_back(shared.group_of(r) >= 0 ? shared.group_of(r) : r.layer);
    }
    if (!s.layers.empty()) sites.push_back(std::move(s));
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (spread_site& a : sites) {
      for (spread_site& b : sites) {
        if (a.together <= b.together) continue;
        if (std::find_first_of(a.groups.begin(), a.groups.end(), b.groups.begin(), b.groups.end()) ==
            a.groups.end())
          continue;
        a.together = b.together;
        changed = true;
      }
    }
  }
  return sites;
}

/// The values that linear layers read, with about 2,048 rows of each.
template<Executor E>
std::vector<spread_site> see_inputs(const program& p, std::span<const matrix<>> samples, const E& exec) {
  constexpr index most = 2048;
  std::vector<spread_site> sites = find_inputs(p);
  std::vector<std::vector<matrix<>>> parts(samples.size(), std::vector<matrix<>>(sites.size()));
  exec(static_cast<index>(samples.size()), [&](index i) {
    activations x(p.value_cols.size());
    const auto keep = [&](int made) {
      for (std::size_t k = 0; k < sites.size(); ++k) {
        if (sites[k].value != made) continue;
        const matrix<>& all = x[static_cast<std::size_t>(made)];
        const index stride = std::max<index>(1, all.rows() * static_cast<index>(samples.size()) / most);
        matrix<>& kept = parts[static_cast<std::size_t>(i)][k];
        const index first = i % stride;
        kept.resize(first < all.rows() ? (all.rows() - first + stride - 1) / stride : 0, all.cols());
        for (index t = 0; t < kept.rows(); ++t) kept.row(t) = all.row(first + t * stride);
      }
    };
    x[0] = samples[static_cast<std::size_t>(i)];
    keep(0);
    for (std::size_t n = 0; n < p.steps.size(); ++n) {
      x[static_cast<std::size_t>(p.steps[n].out)] = evaluate(p, p.steps[n], x);
      keep(p.steps[n].out);
      free_unused(p, n, x);
    }
  });
  for (std::size_t k = 0; k < sites.size(); ++k) {
    index rows = 0;
    for (const auto& part : parts) rows += part[k].rows();
    sites[k].rows.resize(rows, p.value_cols[static_cast<std::size_t>(sites[k].value)]);
    index at = 0;
    for (const auto& part : parts) {
      sites[k].rows.middleRows(at, part[k].rows()) = part[k];
      at += part[k].rows();
    }
  }
  return sites;
}

/// Puts a step in front of the linear readers of a value that scales and mixes it.
inline void insert_spread(program& p, const spread_site& s, const column<float>& factors) {
  step mix;
  mix.kind = step_kind::hadamard;
  mix.a = s.value;
  mix.out = static_cast<int>(p.value_cols.size());
  mix.layer = static_cast<int>(p.constants.size());
  p.value_cols.push_back(p.value_cols[static_cast<std::size_t>(s.value)]);
  p.constants.emplace_back(factors.transpose());
  std::size_t maker = 0;
  while (p.steps[maker].out != s.value) ++maker;
  for (step& r : p.steps) {
    if (r.kind != step_kind::linear || r.a != s.value) continue;
    r.a = mix.out;
    linear& l = p.linears[static_cast<std::size_t>(r.layer)];
    l.weight = spread_weights(l.weight, factors);
  }
  p.steps.insert(p.steps.begin() + static_cast<std::ptrdiff_t>(maker) + 1, mix);
}

}  // namespace detail

/// The program with a hadamard step in front of the linear layers whose output, when their input is coded
/// channel by channel, then errs by less than `most` of the squared error as it was, on float samples. Calls
/// of shared layers get one answer and one set of factors; layers that read the model's input stay as they
/// are, and so do all calls of one that does.
///
/// Shapes     samples: at least one matrix [tokens x input_cols], which the program can run
/// Errors     what calibration says
/// Precision  the float function changes by float rounding
/// Cost       a float run of the samples, and for each input of layers two searches of ranges on 2,048 rows
template<class Observer, Executor E>
result<program> spread_inputs(program p, std::span<const matrix<>> samples, const uniform& codec,
                              const Observer& observer, double most, const E& exec) {
  const std::vector<detail::spread_site> sites = detail::see_inputs(p, samples, exec);
  struct shared_sums {
    column<double> power, importance;
    double plain = 0, mixed = 0;
    bool input = false;  ///< one of them is the input of the model, which has codes of its own
  };
  std::map<int, shared_sums> sums;
  for (const detail::spread_site& s : sites) {
    const matrix<double> x = s.rows.template cast<double>();
    const column<double> mean = x.colwise().mean().transpose();
    const column<double> power =
        (x.rowwise() - mean.transpose()).colwise().squaredNorm().transpose() / static_cast<double>(x.rows());
    const column<double> importance =
        detail::weights_below(p, s).template cast<double>().colwise().squaredNorm().transpose();
    shared_sums& sum = sums[s.together];
    sum.input = sum.input || s.value == 0;
    if (sum.power.size() == 0) {
      sum.power = power;
      sum.importance = importance;
    } else {
      sum.power += power;
      sum.importance += importance;
    }
  }
  std::vector<double> plain(sites.size()), mixed(sites.size());
  std::vector<failure> failures(sites.size());
  std::map<int, column<float>> factors;
  for (const auto& [number, sum] : sums) factors[number] = spread_factors(sum.power, sum.importance);
  exec(static_cast<index>(sites.size()), [&](index k) {
    const auto at = static_cast<std::size_t>(k);
    const detail::spread_site& s = sites[at];
    const matrix<> w = detail::weights_below(p, s);
    const column<float>& f = factors.at(s.together);
    matrix<> y(s.rows.rows(), s.rows.cols());
    const auto n = static_cast<std::size_t>(y.cols());
    for (index t = 0; t < y.rows(); ++t)
      hadamard_row({s.rows.row(t).data(), n}, {f.data(), n}, {y.row(t).data(), n});
    const auto before = detail::coding_cost(s.rows, w, codec, observer, s.path);
    const auto after = detail::coding_cost(y, spread_weights(w, f), codec, observer, s.path);
    if (!before || !after) {
      failures[at] = before ? after.error() : before.error();
      return;
    }
    plain[at] = *before;
    mixed[at] = *after;
  });
  for (const failure& f : failures) {
    if (f) return f;
  }
  for (std::size_t k = 0; k < sites.size(); ++k) {
    sums[sites[k].together].plain += plain[k];
    sums[sites[k].together].mixed += mixed[k];
  }
  for (const detail::spread_site& s : sites) {
    const shared_sums& sum = sums.at(s.together);
    if (!sum.input && sum.mixed < most * sum.plain) detail::insert_spread(p, s, factors.at(s.together));
  }
  return p;
}

}  // namespace repquant
