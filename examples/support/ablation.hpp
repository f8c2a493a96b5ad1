// SPDX-License-Identifier: MIT
/// What each ingredient of a recipe brings: the recipe without it, and it alone on plain rounding.
#pragma once

#include <repquant/block/recipe.hpp>
#include <repquant/reconstruct/coordinate_descent.hpp>

#include "support/accuracy_rows.hpp"
#include <functional>

namespace examples {

/// An observer of type On where `on`, else one of type Off.
template<class On, class Off>
struct observer_choice {
  bool on = true;
  On first = {};
  Off second = {};

  void observe(std::span<const float> xs) {
    if (on) {
      first.observe(xs);
    } else {
      second.observe(xs);
    }
  }
  void merge(const observer_choice& other) {
    first.merge(other.first);
    second.merge(other.second);
  }
  template<class C>
  [[nodiscard]] repquant::result<repquant::range> choose(const C& codec) const {
    return on ? first.choose(codec) : second.choose(codec);
  }
};

/// A solver of type On where `on`, else rounding to nearest.
template<class On>
struct solver_choice {
  bool on = true;
  On first = {};

  template<repquant::Codec C, repquant::Granularity G, repquant::Executor E = repquant::inline_executor>
  repquant::result<repquant::reconstruction<C, G>> operator()(const repquant::quantizer<C, G>& q,
                                                              repquant::matrix_view w,
                                                              const repquant::gram& h,
                                                              const E& exec = {}) const {
    if (on) return repquant::detail::run_solver(first, q, w, h, exec);
    return repquant::round_to_nearest{}(q, w, h);
  }
};

/// repquant_recipe whose policies can be exchanged at run time for those of naive_recipe. As it is made, it
/// quantizes as repquant_recipe does; with a feedback_block as feedback_recipe does.
struct ablation_recipe : repquant::repquant_recipe {
  using base = repquant::repquant_recipe;
  observer_choice<decltype(base::norm_range), repquant::min_max> norm_range;
  observer_choice<decltype(base::activation_range), repquant::min_max> activation_range;
  observer_choice<decltype(base::attention_range), repquant::min_max> attention_range;
  observer_choice<decltype(base::probability_range), repquant::min_max> probability_range;
  observer_choice<decltype(base::weight_range), repquant::min_max> weight_range;
  solver_choice<decltype(base::solver)> solver;
};

/// One thing that the recipe does, and how to leave it out.
struct ingredient {
  std::string name;
  std::function<void(ablation_recipe&)> leave_out;
};

/// The ingredients of the recipe in the order in which it works. With all of them left out it is
/// naive_recipe with per-channel min-max ranges of weights.
inline std::vector<ingredient> ingredients() {
  using recipe = ablation_recipe;
  return {
      {"select_early", [](recipe& r) { r.select_early = false; }},
      {"selected_weight", [](recipe& r) { r.selected_weight = 0; }},
      {"balance_heads", [](recipe& r) { r.balance_heads = false; }},
      {"mix_heads", [](recipe& r) { r.mix_heads = false; }},
      {"spread_inputs", [](recipe& r) { r.spread_below = 0; }},
      {"channel_wise_norm", [](recipe& r) { r.channel_wise_norm = false; }},
      {"channel_wise_inputs", [](recipe& r) { r.channel_wise_inputs = false; }},
      {"channel_wise_attention", [](recipe& r) { r.channel_wise_attention = false; }},
      {"activation_clipping",
       [](recipe& r) { r.norm_range.on = r.activation_range.on = r.attention_range.on = false; }},
      {"widen_ranges", [](recipe& r) { r.widen_ranges = false; }},
      {"probability_codec",
       [](recipe& r) { r.probability.log2 = r.probability.log_sqrt2 = r.probability_range.on = false; }},
      {"relative_probabilities", [](recipe& r) { r.probability.relative = false; }},
      {"target_correction", [](recipe& r) { r.target_correction = 0; }},
      {"residual_target", [](recipe& r) { r.residual_target = false; }},
      {"correct_bias", [](recipe& r) { r.correct_bias = false; }},
      {"weight_clipping", [](recipe& r) { r.weight_range.on = r.weight_range_by_output = false; }},
      {"solver", [](recipe& r) { r.solver.on = false; }},
      {"scale_rounds", [](recipe& r) { r.scale_rounds = 0; }},
      {"share_weights", [](recipe& r) { r.share_weights = false; }},
      {"ratio_rounds", [](recipe& r) { r.ratio_rounds = 0; }},
      {"feedback", [](recipe& r) { r.feedback_block = 0; }},
  };
}
inline std::vector<std::string> ingredient_names() {
  std::vector<std::string> names;
  for (const ingredient& i : ingredients()) names.push_back(i.name);
  return names;
}

/// The recipes that can be taken apart, by their names.
inline const std::vector<std::string> whole_recipes = {"repquant", "repquant_feedback"};

/// The recipe of that name, whole. The ingredient `feedback` is in one of them alone.
inline ablation_recipe whole_recipe(const std::string& name) {
  ablation_recipe r;
  if (name == "repquant_feedback") r.feedback_block = repquant::feedback_recipe{}.feedback_block;
  return r;
}
/// The recipe with nothing but the ingredient `alone`; with none at all where there is no such name.
inline ablation_recipe recipe_with_only(const std::string& alone, ablation_recipe whole = {}) {
  for (const ingredient& i : ingredients()) {
    if (i.name != alone) i.leave_out(whole);
  }
  return whole;
}
/// The recipe with all but the ingredient `absent`.
inline ablation_recipe recipe_without(const std::string& absent, ablation_recipe whole = {}) {
  for (const ingredient& i : ingredients()) {
    if (i.name == absent) i.leave_out(whole);
  }
  return whole;
}

/// What the rows of one model at one width say of each ingredient, in columns: the KL of the plain recipe
/// with it, and the share of the plain KL that it removes; the KL of the recipe without it, and that as a
/// multiple of that of `recipe`, the whole one.
inline table ablation_table(const std::vector<accuracy_row>& rows, int bits,
                            const std::vector<std::string>& names, const std::string& recipe) {
  table t({{"ingredient", align::left}, {"KL alone"}, {"removes %"}, {"KL without"}, {"times"}});
  const auto find = [&](const std::string& name) -> const accuracy_row* {
    for (const accuracy_row& r : rows) {
      if (r.recipe == name && r.bits == bits) return &r;
    }
    return nullptr;
  };
  const accuracy_row* plain = find("plain");
  const accuracy_row* whole = find(recipe);
  if (plain == nullptr || whole == nullptr) return t;
  t.row({"none / all", with_error(plain->quality.kl, 5), "", with_error(whole->quality.kl, 5), ""});
  t.rule();
  for (const std::string& name : names) {
    const accuracy_row* only = find("only " + name);
    const accuracy_row* without = find("without " + name);
    if (only == nullptr || without == nullptr) continue;
    t.row({name, with_error(only->quality.kl, 5), fixed(100 * share_removed(plain->scores, only->scores), 1),
           with_error(without->quality.kl, 5), fixed(without->quality.kl.mean / whole->quality.kl.mean, 3)});
  }
  return t;
}

}  // namespace examples
