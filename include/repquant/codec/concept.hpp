// SPDX-License-Identifier: MIT
/// Codec: what a code means, one value at a time. Every other file of this folder is a model of it.
///
/// A code is in 0 .. levels()-1 and is stored as `code_type`. A codec is a small value; its fitted
/// numbers are a separate trivially copyable `params`, because one codec serves many parameter sets.
///
/// Laws (testing/codec_laws.hpp runs them): codes are in range; decode(encode(decode(q))) ==
/// decode(q) for every code that encode produces; encode is monotone; every architecture gives the
/// same code.
///
/// `encode` may be a plain function of a float, or a template over Lane, which makes the codec
/// vectorised. A vectorised codec also says how its params are put into lanes:
///
///   template<Lane V> using lane_params = ...;                      // params with lanes for numbers
///   template<Lane V> static lane_params<V> spread(const params&);  // one set in every place
///   template<Lane V> static lane_params<V> gather(const params*);  // lane_width<V> sets in a row
///   template<Lane V> ints_of<V> encode(V x, const lane_params<V>&) const;
///   template<CodeLane I> reals_of<I> decode(I q, const lane_params<reals_of<I>>&) const;
#pragma once

#include <repquant/core/lane.hpp>
#include <repquant/core/shape.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace repquant {

template<class C>
concept HasParams = std::copyable<C> && std::is_trivially_copyable_v<typename C::params>;
template<class C>
concept HasLevels = requires(const C c) {
  { c.levels() } -> std::same_as<int>;
};
/// fit(range) gives parameters that cover the range; it cannot fail for a finite range.
template<class C>
concept HasFit = HasParams<C> && requires(const C c, range r) {
  { c.fit(r) } -> std::same_as<typename C::params>;
};
template<class C>
concept HasEncode = HasParams<C> && requires(const C c, const typename C::params p, float x) {
  { c.encode(x, p) } -> std::same_as<std::int32_t>;
};
template<class C>
concept HasDecode = HasParams<C> && requires(const C c, const typename C::params p, std::int32_t q) {
  { c.decode(q, p) } -> std::same_as<float>;
};

/// What a code means. Named parts, so that the compiler names the missing one.
template<class C>
concept Codec = HasLevels<C> && HasFit<C> && HasEncode<C> && HasDecode<C>;

/// A codec whose formulas are templates over Lane, for lanes of V.
template<class C, class V>
concept VectorCodec = Codec<C> && Lane<V> &&
    requires(const C c, const typename C::params p, V x, ints_of<V> q,
             const typename C::template lane_params<V> lp) {
  { C::template spread<V>(p) } -> std::same_as<typename C::template lane_params<V>>;
  { C::template gather<V>(&p) } -> std::same_as<typename C::template lane_params<V>>;
  { c.encode(x, lp) } -> std::same_as<ints_of<V>>;
  { c.decode(q, lp) } -> std::same_as<V>;
};

/// How codes are stored in memory by codec C: `C::code_type` where it says so, else a byte.
template<class C>
struct code_type_of {
  using type = std::uint8_t;
};
template<class C>
requires requires { typename C::code_type; }
struct code_type_of<C> {
  using type = typename C::code_type;
};
template<class C>
using code_type_t = typename code_type_of<C>::type;

}  // namespace repquant
