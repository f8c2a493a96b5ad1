// SPDX-License-Identifier: MIT
/// The tables and the JSON rows of examples/accuracy.
#pragma once

#include "support/metrics.hpp"
#include "support/report.hpp"
#include "support/table.hpp"
#include <map>

namespace examples {

/// One recipe at one width on one model.
struct accuracy_row {
  std::string model = {};
  std::string accuracy = {};  ///< the name of the model's measure of accuracy, or empty
  std::string recipe = {};
  int bits = 32;
  int weight_bits = 0;  ///< where they differ; 0: as all else
  std::string engine = {};
  std::size_t calibration_samples = 0;
  double seconds = 0;  ///< that the quantization took
  std::vector<sample_score> scores = {};
  model_quality quality = {};
  std::string error_report = {};        ///< tables of the worst sites, or empty
  std::vector<double> kl_by_fold = {};  ///< where samples were held out: the mean of each quantized model
};

inline std::string bits_text(int bits, int weight_bits = 0) {
  return "W" + std::to_string(weight_bits > 0 ? weight_bits : bits) + "A" + std::to_string(bits);
}

/// 1.234 +- 0.056, with digits to the second of the error.
inline std::string with_error(const estimate& e, int digits) {
  if (std::isnan(e.mean)) return "-";
  return fixed(e.mean, digits) + (std::isnan(e.error) ? "" : " ± " + fixed(e.error, digits));
}

/// `folds`: with the standard deviation of the KL between the folds.
inline table quality_table(bool folds = false) {
  std::vector<table::heading> columns{{"model", align::left},
                                      {"recipe", align::left},
                                      {"bits", align::left},
                                      {"engine", align::left},
                                      {"KL"},
                                      {"cross-entropy"},
                                      {"rise %"},
                                      {"accuracy %"},
                                      {"change"},
                                      {"quantize s"}};
  if (folds) columns.push_back({"KL spread"});
  return table(std::move(columns));
}
/// `of_float`: the float model's scores.
inline void add_quality(table& t, const accuracy_row& r, std::span<const sample_score> of_float) {
  const bool is_float = r.recipe == "float";
  const model_change change = is_float ? model_change{} : change_of(of_float, r.scores);
  t.row({r.model, r.recipe, bits_text(r.bits, r.weight_bits), r.engine,
         is_float ? "0" : with_error(r.quality.kl, 5), with_error(r.quality.cross_entropy, 4),
         with_error(change.cross_entropy, 1), with_error(r.quality.accuracy, 2),
         with_error(change.accuracy, 2), is_float ? "-" : fixed(r.seconds, 1),
         is_float ? "-" : fixed(deviation(r.kl_by_fold), 5)});
}

/// One JSON row per metric that the model has.
inline void add_report_rows(report& to, const accuracy_row& r, const model_quality& of_float) {
  const auto add = [&](const std::string& metric, bool higher, double value, double float_value) {
    if (metric.empty() || std::isnan(value)) return;
    report::object row = {{"model", r.model},
                          {"metric", metric},
                          {"higher_is_better", higher},
                          {"recipe", r.recipe},
                          {"weight_bits", r.weight_bits > 0 ? r.weight_bits : r.bits},
                          {"activation_bits", r.bits},
                          {"engine", r.engine},
                          {"value", value},
                          {"float_value", float_value},
                          {"calibration_samples", r.calibration_samples},
                          {"seconds", r.seconds}};
    if (metric == "kl" && !r.kl_by_fold.empty()) row["by_fold"] = r.kl_by_fold;
    to.row(std::move(row));
  };
  add("kl", false, r.quality.kl.mean, of_float.kl.mean);
  add("cross_entropy", false, r.quality.cross_entropy.mean, of_float.cross_entropy.mean);
  add(r.accuracy, true, r.quality.accuracy.mean, of_float.accuracy.mean);
}

/// A share of the baseline's divergence with its bootstrap samples.
struct removed_share {
  std::string model;
  std::string recipe;
  int bits = 4;
  double value = 0;
  std::vector<double> resampled;
};

/// The shares that the rows of one model allow: recipe by recipe against `baseline` at the same width.
inline std::vector<removed_share> removed_shares(const std::vector<accuracy_row>& rows,
                                                 const std::string& baseline) {
  std::vector<removed_share> all;
  for (const accuracy_row& base : rows) {
    if (base.recipe != baseline) continue;
    for (const accuracy_row& r : rows) {
      if (r.recipe == baseline || r.bits != base.bits || r.model != base.model) continue;
      all.push_back({r.model, r.recipe, r.bits, share_removed(base.scores, r.scores),
                     bootstrap_shares(base.scores, r.scores)});
    }
  }
  return all;
}

/// The mean over these models per recipe and width, where all of them were measured.
inline std::vector<removed_share> mean_shares(const std::vector<removed_share>& shares,
                                              const std::vector<std::string>& models) {
  std::map<std::pair<int, std::string>, std::vector<const removed_share*>> groups;
  std::vector<std::pair<int, std::string>> order;
  for (const removed_share& s : shares) {
    if (std::find(models.begin(), models.end(), s.model) == models.end()) continue;
    auto& group = groups[{s.bits, s.recipe}];
    if (group.empty()) order.emplace_back(s.bits, s.recipe);
    group.push_back(&s);
  }
  std::vector<removed_share> means;
  for (const auto& key : order) {
    const auto& group = groups[key];
    if (group.size() != models.size()) continue;
    removed_share mean{"mean of " + std::to_string(models.size()), key.second, key.first, 0, {}};
    mean.resampled.resize(group.front()->resampled.size());
    const auto n = static_cast<double>(group.size());
    for (const removed_share* s : group) {
      mean.value += s->value / n;
      for (std::size_t i = 0; i < mean.resampled.size(); ++i) mean.resampled[i] += s->resampled[i] / n;
    }
    means.push_back(std::move(mean));
  }
  return means;
}

inline table share_table(const std::vector<removed_share>& shares, const std::vector<removed_share>& means) {
  table t({{"model", align::left},
           {"recipe", align::left},
           {"bits", align::left},
           {"KL removed %"},
           {"95 % interval", align::right}});
  const auto add = [&](const removed_share& s) {
    const auto [lo, hi] = middle(s.resampled);
    t.row({s.model, s.recipe, bits_text(s.bits), fixed(100 * s.value, 1),
           fixed(100 * lo, 1) + " .. " + fixed(100 * hi, 1)});
  };
  for (const removed_share& s : shares) add(s);
  t.rule();
  for (const removed_share& s : means) add(s);
  return t;
}

}  // namespace examples
