// SPDX-License-Identifier: MIT
/// balance_attention: the head bases of reparam/balance_heads.hpp put into the layers around each attention.
/// Length: the moments, the bases and where they go are one pass over the attentions of a program.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/block/head_moments.hpp>
#include <repquant/block/shared_weights.hpp>
#include <repquant/parallel/in_order.hpp>
#include <repquant/reparam/balance_heads.hpp>

#include <map>
#include <vector>

namespace repquant {

namespace detail {

/// The linear step that alone makes value v for one reader, or nothing.
inline const step* sole_maker(const program& p, int v) {
  if (p.readers(v).size() != 1 || v == p.output) return nullptr;
  for (const step& s : p.steps) {
    if (s.out == v) return s.kind == step_kind::linear ? &s : nullptr;
  }
  return nullptr;
}
/// The same, looking through a selection of rows.
inline const step* sole_maker_of_rows(const program& p, int v) {
  for (const step& s : p.steps) {
    if (s.out == v && s.kind == step_kind::select_row && p.readers(v).size() == 1) return sole_maker(p, s.a);
  }
  return sole_maker(p, v);
}

/// Rows [first, first + d) of a layer's output in another basis: y' = y basis.
inline void change_outputs(linear& l, index first, const matrix<double>& basis) {
  const index d = basis.rows();
  l.weight.middleRows(first, d) =
      (basis.transpose() * l.weight.middleRows(first, d).template cast<double>()).template cast<float>();
  if (l.bias.size() != 0) {
    l.bias.segment(first, d) =
        (basis.transpose() * l.bias.segment(first, d).template cast<double>()).template cast<float>();
  }
}
/// Columns [first, first + d) of a layer for an input that was multiplied by a basis whose inverse transposed
/// is `backward`.
inline void change_inputs(linear& l, index first, const matrix<double>& backward) {
  const index d = backward.rows();
  l.weight.middleCols(first, d) =
      (l.weight.middleCols(first, d).template cast<double>() * backward).template cast<float>();
}

/// Puts a step in front of one reader of value v that multiplies its heads by matrices [heads d x d].
inline void insert_mix(program& p, std::size_t reader, int step::*operand, const matrix<double>& matrices) {
  step mix;
  mix.kind = step_kind::mix_heads;
  mix.a = p.steps[reader].*operand;
  mix.out = static_cast<int>(p.value_cols.size());
  mix.layer = static_cast<int>(p.constants.size());
  p.value_cols.push_back(p.value_cols[static_cast<std::size_t>(mix.a)]);
  p.constants.emplace_back(matrices.template cast<float>());
  p.steps[reader].*operand = mix.out;
  p.steps.insert(p.steps.begin() + static_cast<std::ptrdiff_t>(reader), mix);
}

}  // namespace detail

/// The program with the query, key, value and output layers of each attention in balanced head bases. Queries
/// and keys that something stands in front of (rotary positions) get a step that changes their basis where
/// `mix` asks for it, and stay as they are where not; so do values and outputs that other steps read. Calls
/// of shared layers get one basis, from all calls' samples together.
///
/// Precision  the float function changes by float rounding of the layers' weights
/// Cost       a float run of the samples; in d^2 for each layer and head; memory: for 16 samples and for all
///            together d^2 for each head of a query, key and value
template<Executor E>
program balance_attention(program p, std::span<const matrix<>> samples, const E& exec, bool mix = false) {
  struct site {
    attention_options options;
    std::size_t place = 0;  // of the attention among the steps
    // linear layers, -1 where there is none that may change
    int query = -1;
    int key = -1;
    int value = -1;
    int out = -1;
    int group = -1;
  };
  const shared_weights shared(p);
  std::vector<site> sites;
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    const step& s = p.steps[i];
    if (s.kind != step_kind::attention) continue;
    const step* query = detail::sole_maker_of_rows(p, s.a);
    const step* key = detail::sole_maker(p, s.b);
    const step* value = detail::sole_maker(p, s.c);
    // readers are steps: one layer for two operands has one reader, and can have but one basis
    if (s.a == s.c || s.b == s.c) query = key = value = nullptr;
    const std::vector<int> readers = p.readers(s.out);
    const step* out = nullptr;
    if (readers.size() == 1 && s.out != p.output) {
      const step& r = p.steps[static_cast<std::size_t>(readers.front())];
      if (r.kind == step_kind::linear) out = &r;
    }
    site x{s.attention, i};
    if (query != nullptr && key != nullptr && query != key) {
      x.query = query->layer;
      x.key = key->layer;
    }
    if (value != nullptr && out != nullptr) {
      x.value = value->layer;
      x.out = out->layer;
    }
    // one basis for all calls of a shared layer; its number is that of any of its layers
    const step* any = x.key >= 0 ? key : x.value >= 0 ? value : nullptr;
    x.group = any == nullptr               ? -1 - static_cast<int>(i)
              : shared.group_of(*any) >= 0 ? shared.group_of(*any)
                                           : any->layer;
    sites.push_back(x);
  }

  struct moments {
    detail::head_moments query, key, value;
  };
  std::vector<moments> totals(sites.size());
  const auto see = [&](index i, std::vector<moments>& own) {
    own.assign(sites.size(), {});
    activations x(p.value_cols.size());
    x[0] = samples[static_cast<std::size_t>(i)];
    for (std::size_t n = 0; n < p.steps.size(); ++n) {
      x[static_cast<std::size_t>(p.steps[n].out)] = evaluate(p, p.steps[n], x);
      for (std::size_t k = 0; k < sites.size(); ++k) {
        if (sites[k].place != n) continue;
        const step& s = p.steps[n];
        own[k].query.see(x[static_cast<std::size_t>(s.a)], s.attention.heads);
        own[k].key.see(x[static_cast<std::size_t>(s.b)], s.attention.kv_heads);
        own[k].value.see(x[static_cast<std::size_t>(s.c)], s.attention.kv_heads);
      }
      free_unused(p, n, x);
    }
  };
  in_order<std::vector<moments>>(static_cast<index>(samples.size()), exec, see,
                                 [&](index, const std::vector<moments>& own) {
                                   for (std::size_t k = 0; k < sites.size(); ++k) {
                                     totals[k].query.add(own[k].query);
                                     totals[k].key.add(own[k].key);
                                     totals[k].value.add(own[k].value);
                                   }
                                 });
  struct bases {
    std::vector<matrix<double>> query, key, value, out;  // by key/value head
  };
  std::map<int, bases> sums;
  for (std::size_t k = 0; k < sites.size(); ++k) {
    const attention_options& o = sites[k].options;
    const index share = o.heads / o.kv_heads;
    bases& b = sums[sites[k].group];
    const moments& total = totals[k];
    for (index g = 0; g < o.kv_heads; ++g) {
      const auto at = static_cast<std::size_t>(g);
      const index d = total.key.products[at].rows();
      for (auto* m : {&b.query, &b.key, &b.value, &b.out}) {
        if (m->size() <= at) m->resize(static_cast<std::size_t>(o.kv_heads), matrix<double>::Zero(d, d));
      }
      // what a query's error meets is the keys about their mean: the mean adds the same to all scores
      b.key[at] += total.key.about_mean(g) / total.key.tokens;
      b.value[at] += total.value.about_mean(g) / total.value.tokens;
      for (index h = g * share; h < (g + 1) * share; ++h) {
        b.query[at] += total.query.products[static_cast<std::size_t>(h)] / total.query.tokens;
        if (sites[k].out < 0) continue;
        const linear& out = p.linears[static_cast<std::size_t>(sites[k].out)];
        const matrix<double> w = out.weight.middleCols(h * d, d).template cast<double>();
        b.out[at] += w.transpose() * w;
      }
    }
  }
  // from the last to the first: steps that are put in move only what stands behind
  for (auto at_site = sites.rbegin(); at_site != sites.rend(); ++at_site) {
    const site& x = *at_site;
    const attention_options& o = x.options;
    const index share = o.heads / o.kv_heads;
    const bases& b = sums.at(x.group);
    const index width = b.key.front().rows();
    matrix<double> queries(o.heads * width, width);
    matrix<double> keys(o.kv_heads * width, width);
    const auto layer = [&p](int number) -> linear& { return p.linears[static_cast<std::size_t>(number)]; };
    for (index g = 0; g < o.kv_heads; ++g) {
      const auto at = static_cast<std::size_t>(g);
      const index d = b.key[at].rows();
      const head_basis scores = balance_heads(b.query[at], b.key[at]);
      const head_basis values = balance_heads(b.value[at], b.out[at]);
      keys.middleRows(g * d, d) = scores.backward;
      if (x.key >= 0) detail::change_outputs(layer(x.key), g * d, scores.backward);
      if (x.value >= 0) detail::change_outputs(layer(x.value), g * d, values.forward);
      for (index h = g * share; h < (g + 1) * share; ++h) {
        queries.middleRows(h * d, d) = scores.forward;
        if (x.query >= 0) detail::change_outputs(layer(x.query), h * d, scores.forward);
        if (x.out >= 0) detail::change_inputs(layer(x.out), h * d, values.backward);
      }
    }
    if (x.query < 0 && mix) {
      detail::insert_mix(p, x.place, &step::b, keys);
      detail::insert_mix(p, x.place + 1, &step::a, queries);
    }
  }
  return p;
}

}  // namespace repquant
