// SPDX-License-Identifier: MIT
/// The laws of ObserverFor, to be run on one's own observer with any test framework or none.
#pragma once

#include <repquant/calibrate/concept.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace repquant::testing {

namespace detail {

/// The range after these batches, or an empty-handed {NaN, NaN}, which equals nothing.
template<class O, class C>
range chosen(O o, const C& codec, std::span<const std::span<const float>> batches) {
  for (std::span<const float> b : batches) o.observe(b);
  const auto r = o.choose(codec);
  constexpr float none = std::numeric_limits<float>::quiet_NaN();
  return r ? *r : range{none, none};
}

inline bool same_bits(range a, range b) noexcept {
  return a.lo == a.lo && std::bit_cast<std::uint32_t>(a.lo) == std::bit_cast<std::uint32_t>(b.lo) &&
         std::bit_cast<std::uint32_t>(a.hi) == std::bit_cast<std::uint32_t>(b.hi);
}

}  // namespace detail

/// The first law that an observer breaks on these values, as a sentence; nullptr where it keeps them all.
///
/// Shapes    xs: any values of your kind, in any order
/// Requires  `unused` has seen nothing; xs finite, at least two values
/// Cost      about ten times observing xs and choosing
/// Example   REQUIRE(testing::broken_observer_law(my_observer{}, uniform{.bits = 4}, xs) == nullptr);
template<class O, Codec C>
requires ObserverFor<O, C>
const char* broken_observer_law(const O& unused, const C& codec, std::span<const float> xs) {
  using batches = std::vector<std::span<const float>>;
  const std::size_t n = xs.size();

  const auto nothing = unused.choose(codec);
  if (nothing || nothing.error().code != errc::empty) return "an observer that saw nothing refuses: empty";

  const range whole = detail::chosen(unused, codec, batches{xs});
  if (!(whole.lo <= whole.hi) || !std::isfinite(whole.lo) || !std::isfinite(whole.hi))
    return "lo <= hi, both finite";

  const auto keeps = [&](const batches& b) {
    return detail::same_bits(whole, detail::chosen(unused, codec, b));
  };
  batches ones;
  for (std::size_t i = 0; i < n; ++i) ones.push_back(xs.subspan(i, 1));
  if (!keeps(ones)) return "the split into batches does not matter: single values";
  batches uneven = {xs.first(n / 3), xs.subspan(n / 3, 0), xs.subspan(n / 3)};
  if (!keeps(uneven)) return "the split into batches does not matter: a third, nothing, the rest";
  std::reverse(uneven.begin(), uneven.end());
  if (!keeps(uneven)) return "the order of batches does not matter";
  std::reverse(ones.begin(), ones.end());
  if (!keeps(ones)) return "the order of values does not matter: reversed";
  std::vector<float> sorted(xs.begin(), xs.end());
  std::sort(sorted.begin(), sorted.end());
  if (!keeps({sorted})) return "the order of values does not matter: sorted";

  O a = unused;
  O b = unused;
  a.observe(xs.first(n / 3));
  b.observe(xs.subspan(n / 3));
  O ab = a;
  ab.merge(b);
  O ba = b;
  ba.merge(a);
  O padded = unused;
  padded.merge(ba);
  padded.merge(unused);
  for (const O* merged : {&ab, &ba, &padded}) {
    const auto r = merged->choose(codec);
    if (!r || !detail::same_bits(whole, *r)) return "merging gives what one stream gives";
  }

  O copy = ab;
  const float far[] = {whole.hi + 8 * (1 + std::fabs(whole.hi)), whole.lo - 8 * (1 + std::fabs(whole.lo))};
  for (int i = 0; i < 100; ++i) copy.observe(far);
  const auto original = ab.choose(codec);
  if (!original || !detail::same_bits(whole, *original)) return "a copy does not share state";

  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1};
  ab.observe(bad);
  const auto refused = ab.choose(codec);
  if (refused || refused.error().code != errc::non_finite || refused.error().got != 2) {
    return "NaN and infinities are refused: non_finite, and how many";
  }
  return nullptr;
}

}  // namespace repquant::testing
