// SPDX-License-Identifier: MIT
/// What variations of samples are made of.
#pragma once

#include <repquant/infer/softmax.hpp>
#include <repquant/matrix/matrix.hpp>
#include <repquant/train/splitmix64.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <type_traits>

namespace examples {

using repquant::index;

/// A number in lo .. hi, both among them.
///
/// Requires  lo <= hi
template<class T>
T between(repquant::splitmix64& random, T lo, T hi) {
  if constexpr (std::is_integral_v<T>) {
    return lo + static_cast<T>(random.below(hi - lo + 1));
  } else {
    return lo + (hi - lo) * random.unit();
  }
}
/// One of them.
///
/// Requires  at least one
template<class T>
const T& any(repquant::splitmix64& random, std::span<const T> of) {
  return of[static_cast<std::size_t>(random.below(static_cast<index>(of.size())))];
}
inline bool chance(repquant::splitmix64& random, float share) { return random.unit() < share; }

/// A token drawn with the probabilities that logits [1 x tokens] give.
inline std::int32_t drawn_token(const repquant::matrix<>& logits, repquant::splitmix64& random) {
  repquant::matrix<> p(1, logits.cols());
  const auto n = static_cast<std::size_t>(p.size());
  repquant::softmax_row(std::span<const float>(logits.data(), n), std::span<float>(p.data(), n));
  float left = random.unit();
  index token = 0;
  while (token + 1 < p.size() && left >= p(0, token)) left -= p(0, token++);
  return static_cast<std::int32_t>(token);
}

/// Adds normal noise to every entry.
inline void add_noise(repquant::splitmix64& random, float deviation, repquant::matrix<>& m) {
  for (index k = 0; k + 1 < m.size(); k += 2) {
    const float radius = deviation * std::sqrt(-2 * std::log(1 - random.unit()));
    const float angle = 2 * std::numbers::pi_v<float> * random.unit();
    m.data()[k] += radius * std::cos(angle);
    m.data()[k + 1] += radius * std::sin(angle);
  }
}

}  // namespace examples
