// SPDX-License-Identifier: MIT
/// fit: a quantizer calibrated on one matrix, for weights.
#pragma once

#include <repquant/calibrate/calibrator.hpp>

namespace repquant {

/// A quantizer whose ranges are chosen from one matrix.
///
/// Shapes    w [rows x cols], for weights [out x in]
/// Errors    bad_bits or bad_option (the codec), empty, group_mismatch (columns not divisible by the group),
///           non_finite, and what the observer refuses; all at `place`
/// Cost      where no two rows share a parameter set (per_row, per_group), one observer at a time and thread
/// Example   const auto q = fit(uniform{.bits = 4}, per_row{}, least_error{}, w);
template<Codec C, Granularity G, ObserverFor<C> O, Executor E = inline_executor>
result<quantizer<C, G>> fit(const C& codec, const G& granularity, const O& observer, matrix_view w,
                            std::string_view place = "fit", const E& exec = {},
                            fit_report* report = nullptr) {
  if (failure f = check_codec(codec, place)) return f;
  if (w.empty()) return failure{errc::empty, place, w.rows() * w.cols(), 1};
  const index groups = granularity.groups(w.size());
  const index run = granularity.run(w.size());
  if (groups < 1) return failure{errc::group_mismatch, "columns", w.cols(), run}.within(place);
  if (failure f = check_finite(w, place)) return f;
  if (groups != w.rows() * (w.cols() / run)) {  // rows share parameter sets
    calibrator<O, G> c(observer, granularity, w.size(), std::string(place));
    if (failure f = c.observe(w, exec)) return f;
    return c.make(codec, exec, report);
  }
  std::vector<range> ranges(static_cast<std::size_t>(groups));
  std::vector<failure> failures(static_cast<std::size_t>(w.rows()));
  exec(w.rows(), [&](index i) {
    for (index j = 0; j < w.cols(); j += run) {
      O o = observer;
      o.observe(w.row(i).subspan(static_cast<std::size_t>(j), static_cast<std::size_t>(run)));
      if (const result<range> r = o.choose(codec)) {
        ranges[static_cast<std::size_t>(granularity.group(w.size(), i, j))] = *r;
      } else {
        failures[static_cast<std::size_t>(i)] = r.error();
      }
    }
  });
  for (const failure& f : failures) {
    if (f) return f.within(place);
  }
  auto made = quantizer_for(codec, granularity, w.size(), ranges, report);
  if (!made) return made.error().within(place);
  return made;
}

}  // namespace repquant
