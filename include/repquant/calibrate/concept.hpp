// SPDX-License-Identifier: MIT
/// ObserverFor: watches the values of one parameter set, then chooses the range that a codec is to cover.
/// Every observer of this folder is a model of it.
///
/// An observer is a plain struct: its settings are public and come first, so that `percentile{.keep =
/// 0.9999}` reads well; what it has seen is its last member, `seen`, an object of its own that guards itself.
/// An unused observer is its own prototype: a calibrator copies it once per parameter set.
///
/// Laws (testing/observer_laws.hpp runs them): lo <= hi; the order and the split of batches do not matter;
/// merging gives what one stream gives; a copy does not share state.
#pragma once

#include <repquant/codec/concept.hpp>
#include <repquant/core/failure.hpp>

#include <concepts>
#include <span>

namespace repquant {

/// observe(xs) takes values in; memory stays bounded however many come.
/// merge(other) takes in what another observer with the same settings has seen.
template<class O>
concept Observer = std::copyable<O> && requires(O o, const O other, std::span<const float> xs) {
  o.observe(xs);
  o.merge(other);
};

/// choose(codec) is the range to cover, or a failure: empty (no value seen), non_finite (got = how many NaN
/// and infinities were seen), bad_option (a setting out of its documented range).
template<class O, class C>
concept ObserverFor = Observer<O> && Codec<C> && requires(const O o, const C c) {
  { o.choose(c) } -> std::same_as<result<range>>;
};

}  // namespace repquant
