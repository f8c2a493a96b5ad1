// SPDX-License-Identifier: MIT
/// The error report of a quantized model as tables: signal to noise, worst first.
#pragma once

#include <repquant/block/quantized_model.hpp>

#include "support/table.hpp"
#include <algorithm>
#include <string>
#include <vector>

namespace examples {

/// The `most` entries with the least signal to noise, worst first; of equal ones the earlier first.
template<class Entry>
std::vector<Entry> worst(std::vector<Entry> all, int most) {
  std::stable_sort(all.begin(), all.end(),
                   [](const Entry& a, const Entry& b) { return a.noise.decibels() < b.noise.decibels(); });
  all.resize(std::min(all.size(), static_cast<std::size_t>(most)));
  return all;
}

/// Activations: dB of the codes against the values that they encode; of probabilities, dB of the attention's
/// output against the float network's.
inline table site_table(const repquant::quantization_report& report, int most) {
  table t({{"site", align::left}, {"codec", align::left}, {"bits"}, {"dB"}});
  for (const repquant::site_report& s : worst(report.sites, most)) {
    t.row({s.path, s.codec, std::to_string(s.bits), fixed(s.noise.decibels(), 2)});
  }
  return t;
}

/// Linear layers: dB of the output against the float network's, with all errors before it; and the share of
/// the least-squares change that the weights took first.
inline table layer_table(const repquant::quantization_report& report, int most) {
  table t({{"layer", align::left}, {"bits"}, {"dB"}, {"corrected %"}});
  for (const repquant::weight_report& w : worst(report.weights, most)) {
    t.row({w.path, std::to_string(w.bits), fixed(w.noise.decibels(), 2), fixed(100 * w.correction, 0)});
  }
  return t;
}

}  // namespace examples
