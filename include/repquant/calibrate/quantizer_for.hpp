// SPDX-License-Identifier: MIT
/// quantizer_for: from one range per parameter set to a quantizer.
#pragma once

#include <repquant/codec/check.hpp>
#include <repquant/matrix/quantizer.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace repquant {

/// How many parameter sets could not have the scale that their range asks for.
struct fit_report {
  index sets = 0;      ///< parameter sets in all
  index enlarged = 0;  ///< a single value, or a range so far from zero that the zero point would be too large
  index floored = 0;   ///< below 2^-24 of the largest scale of its neighbours, and raised to that
};

namespace detail {
/// A codec whose scale can be kept above a floor.
template<class C>
concept HasFloor = requires(const C c, range r, float floor) {
  { c.fit(r, floor) } -> std::same_as<typename C::params>;
  { c.fit(r).scale } -> std::convertible_to<float>;
};
template<class C>
concept ReportsEnlarging = requires(const C c, range r) {
  { c.fit_enlarges(r) } -> std::same_as<bool>;
};
}  // namespace detail

/// The quantizer that covers these ranges, ranges[k] with parameter set k.
///
/// Channels (per_col) whose scale would be below 2^-24 of the largest get that floor, where the codec knows
/// floors: the ratios of scales that folding puts into weights then stay far from the limits of float.
///
/// Shapes    ranges [groups(size)]
/// Errors    bad_bits, bad_option (the codec; a range whose end is not finite or whose lo > hi, with its
///           number), group_mismatch, shape_mismatch
template<Codec C, Granularity G>
result<quantizer<C, G>> quantizer_for(const C& codec, const G& granularity, shape size,
                                      std::span<const range> ranges, fit_report* report = nullptr) {
  if (failure f = check_codec(codec, "quantizer")) return f;
  fit_report counts{.sets = static_cast<index>(ranges.size())};
  std::vector<typename C::params> params;
  params.reserve(ranges.size());
  for (const range& r : ranges) {
    if (!std::isfinite(r.lo) || !std::isfinite(r.hi) || r.lo > r.hi) {
      return failure{errc::bad_option, "quantizer: range", &r - ranges.data(), 0};
    }
    params.push_back(codec.fit(r));
    if constexpr (detail::ReportsEnlarging<C>) counts.enlarged += codec.fit_enlarges(r) ? 1 : 0;
  }
  if constexpr (detail::HasFloor<C> && std::same_as<G, per_col>) {
    float largest = 0;
    for (const auto& p : params) largest = std::max(largest, static_cast<float>(p.scale));
    const float floor = largest * 0x1p-24F;
    for (std::size_t k = 0; k < params.size(); ++k) {
      if (static_cast<float>(params[k].scale) >= floor) continue;
      params[k] = codec.fit(ranges[k], floor);
      ++counts.floored;
    }
  }
  if (report != nullptr) *report = counts;
  return quantizer<C, G>::make(codec, granularity, size, std::move(params));
}

}  // namespace repquant
