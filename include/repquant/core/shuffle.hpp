// SPDX-License-Identifier: MIT
/// Lanes whose values change places: within a register, and between two of them.
#pragma once

#include <repquant/core/lane.hpp>

#include <utility>

#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
namespace repquant::lane {

namespace detail {
template<int Distance, class A, int... Places>
inline xsimd::batch<float, A> swap_neighbours(const xsimd::batch<float, A>& v,
                                              std::integer_sequence<int, Places...>) noexcept {
  return xsimd::batch<float, A>(__builtin_shufflevector(v.data, v.data, (Places ^ Distance)...));
}
}  // namespace detail
/// A register whose place l holds what stands in place l ^ Distance of v.
template<int Distance, class A>
inline xsimd::batch<float, A> swap_neighbours(const xsimd::batch<float, A>& v) noexcept {
  constexpr int width = static_cast<int>(xsimd::batch<float, A>::size);
  static_assert(Distance > 0 && Distance < width && (Distance & (Distance - 1)) == 0);
  return detail::swap_neighbours<Distance>(v, std::make_integer_sequence<int, width>{});
}

namespace detail {
template<int Distance, class A, int... Places>
inline xsimd::batch<float, A> upper_of_first(const xsimd::batch<float, A>& a, const xsimd::batch<float, A>& b,
                                             std::integer_sequence<int, Places...>) noexcept {
  constexpr int width = sizeof...(Places);
  return xsimd::batch<float, A>(__builtin_shufflevector(
      a.data, b.data, ((Places & Distance) == 0 ? Places : width + (Places ^ Distance))...));
}
template<int Distance, class A, int... Places>
inline xsimd::batch<float, A> lower_of_second(const xsimd::batch<float, A>& a,
                                              const xsimd::batch<float, A>& b,
                                              std::integer_sequence<int, Places...>) noexcept {
  constexpr int width = sizeof...(Places);
  return xsimd::batch<float, A>(__builtin_shufflevector(
      a.data, b.data, ((Places & Distance) == 0 ? Places ^ Distance : width + Places)...));
}
}  // namespace detail
/// Place l + Distance of a and place l of b change places, for every l without that bit: a step of a
/// transposition.
template<int Distance, class A>
inline void exchange(xsimd::batch<float, A>& a, xsimd::batch<float, A>& b) noexcept {
  constexpr int width = static_cast<int>(xsimd::batch<float, A>::size);
  static_assert(Distance > 0 && Distance < width && (Distance & (Distance - 1)) == 0);
  constexpr auto places = std::make_integer_sequence<int, width>{};
  const xsimd::batch<float, A> first = detail::upper_of_first<Distance>(a, b, places);
  b = detail::lower_of_second<Distance>(a, b, places);
  a = first;
}

}  // namespace repquant::lane
#endif
