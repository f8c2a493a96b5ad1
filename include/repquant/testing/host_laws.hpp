// SPDX-License-Identifier: MIT
/// Executable laws for policies of the host. Run them on your own: a null pointer means that all hold,
/// otherwise the law that does not, as a sentence.
#pragma once

#include <repquant/reconstruct/concept.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>
#include <repquant/reconstruct/round_to_nearest.hpp>

#include <cstdint>
#include <limits>
#include <vector>

namespace repquant::testing {

namespace detail {
/// Values in [-1, 1), the same on every machine.
inline matrix<> noise(index rows, index cols, std::uint32_t seed) {
  matrix<> m(rows, cols);
  for (index i = 0; i < rows * cols; ++i) {
    seed = seed * 1664525U + 1013904223U;
    m.data()[i] = static_cast<float>(static_cast<std::int32_t>(seed)) * 0x1p-31F;
  }
  return m;
}

/// Activations whose channels are correlated, as real ones are.
inline gram correlated_gram(index in) {
  const matrix<> mixed = noise(4 * in, in, 2) + 4 * noise(4 * in, 4, 3) * noise(4, in, 4);
  gram_accumulator sum(in);
  return sum.add(mixed) ? gram{} : sum.total();
}

template<Codec C, Granularity G>
result<quantizer<C, G>> fitted(const C& codec, const G& granularity, const matrix<>& w) {
  const shape s{w.rows(), w.cols()};
  std::vector<range> ranges(static_cast<std::size_t>(granularity.groups(s)));
  for (index i = 0; i < w.rows(); ++i) {
    for (index j = 0; j < w.cols(); ++j) {
      range& r = ranges[static_cast<std::size_t>(granularity.group(s, i, j))];
      r = {std::fmin(r.lo, w(i, j)), std::fmax(r.hi, w(i, j))};
    }
  }
  std::vector<typename C::params> params;
  for (const range& r : ranges) params.push_back(codec.fit(r));
  return quantizer<C, G>::make(codec, granularity, s, std::move(params));
}
}  // namespace detail

/// The laws of a reconstructor (reconstruct/concept.hpp), on one small problem of its own.
///
/// Requires  the granularity fits a weight of 24 x 32
/// Cost      milliseconds, plus seven runs of the reconstructor on 24 x 32 weights
template<Codec C, Granularity G, ReconstructorFor<C, G> R>
const char* broken_reconstructor_law(const R& reconstruct, const C& codec, const G& granularity) {
  constexpr index out = 24;
  constexpr index in = 32;
  constexpr index dead = 5;
  const matrix<> w = detail::noise(out, in, 1);
  const auto q = detail::fitted(codec, granularity, w);
  if (!q) return "the granularity must fit a weight of 24 x 32";
  gram h = detail::correlated_gram(in);
  const auto nearest = round_to_nearest{}(*q, w, h);
  if (!nearest) return "rounding to nearest must succeed under the codec";
  const auto& nearest_codes = nearest->weights.codes();

  const auto first = reconstruct(*q, w, h);
  if (!first) return "a good problem must not be refused";
  const auto& codes = first->weights.codes();
  if (codes.rows() != out || codes.cols() != in) return "there must be a code for every weight";
  for (index i = 0; i < out * in; ++i) {
    if (static_cast<std::int64_t>(codes.data()[i]) >= codec.levels()) return "codes must be in range";
  }
  const auto again = reconstruct(*q, w, h);
  if (!again || again->weights.codes() != codes) return "equal arguments must give equal codes";
  if (!(output_error(first->weights, w, h) <= nearest->report.loss)) {
    return "the output error must not exceed that of rounding to nearest";
  }

  const auto identity = reconstruct(*q, w, gram::identity(in));
  if (!identity || identity->weights.codes() != nearest_codes) {
    return "under the identity every weight must be rounded to nearest";
  }

  matrix<> changed = w;
  changed.row(0) = -w.row(0);
  const auto other = reconstruct(*q, changed, h);
  if (!other || other->weights.codes().bottomRows(out - 1) != codes.bottomRows(out - 1)) {
    return "rows must not depend on each other";
  }

  h.sum.row(dead).setZero();
  h.sum.col(dead).setZero();
  const auto with_dead = reconstruct(*q, w, h);
  if (!with_dead || with_dead->weights.codes().col(dead) != nearest_codes.col(dead)) {
    return "a dead input's weights must be rounded to nearest";
  }
  if (with_dead->report.dead_columns != 1) return "dead inputs must be reported";

  changed(1, 2) = std::numeric_limits<float>::quiet_NaN();
  const auto bad = reconstruct(*q, changed, h);
  if (bad || bad.error().code != errc::non_finite || bad.error().got != 1) {
    return "NaN in the weight must be refused, with the count";
  }
  return nullptr;
}

}  // namespace repquant::testing
