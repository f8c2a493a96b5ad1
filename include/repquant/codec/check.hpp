// SPDX-License-Identifier: MIT
/// check(codec): whether a codec's settings are in their documented ranges. Host functions ask before they
/// fit.
#pragma once

#include <repquant/codec/logarithmic.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/core/failure.hpp>

#include <limits>

namespace repquant {

/// Nothing, or bad_bits where bits are outside 2 .. 8.
constexpr failure check(const uniform& c, std::string_view place) noexcept {
  if (c.bits < 2 || c.bits > 8) return {errc::bad_bits, place, c.bits, c.bits < 2 ? 2 : 8};
  return {};
}

/// Nothing, bad_bits where bits are outside 2 .. 8, or bad_option where the depth is outside 0 .. 30.
template<int Steps>
constexpr failure check(const logarithmic<Steps>& c, std::string_view place) noexcept {
  if (c.bits < 2 || c.bits > 8) return {errc::bad_bits, place, c.bits, c.bits < 2 ? 2 : 8};
  if (c.depth < 0 || c.depth > 30) return {errc::bad_option, place, c.depth, c.depth < 0 ? 0 : 30};
  return {};
}

/// Nothing, or what is wrong with any codec's settings: what check(codec, place) says, where the codec has
/// one, and bad_bits where its levels are fewer than 2 or more than its code type holds.
template<Codec C>
constexpr failure check_codec(const C& c, std::string_view place) noexcept {
  if constexpr (requires {
                  { check(c, place) } -> std::same_as<failure>;
                }) {
    if (failure f = check(c, place)) return f;
  }
  constexpr std::int64_t most = std::int64_t{std::numeric_limits<code_type_t<C>>::max()} + 1;
  if (c.levels() < 2 || c.levels() > most)
    return {errc::bad_bits, place, c.levels(), c.levels() < 2 ? 2 : most};
  return {};
}

}  // namespace repquant
