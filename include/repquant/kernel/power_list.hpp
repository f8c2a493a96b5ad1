// SPDX-License-Identifier: MIT
/// Logarithmic codes as a list of the multipliers that are not zero, four places at a time: what the kernels
/// of listed_row.inc multiply values by.
///
/// A softmax over many keys leaves most of them below the smallest level, and a code of log_sqrt2 is in one
/// of two rows of multipliers only: what is not listed costs nothing.
#pragma once

#include <repquant/kernel/power_rows.hpp>

#include <bit>

namespace repquant {

/// Where a list is written, and what is known of it.
///
/// Units  at[i] in bytes of a panel: four places are four_bytes of it
struct power_list {
  std::uint32_t* fours = nullptr;  ///< the multipliers of four places, the first lowest
  std::uint32_t* at = nullptr;     ///< where the values of these places stand
  index count = 0;
  std::int32_t sum = 0;  ///< of all multipliers
};

namespace detail {

/// For each set of eight lanes, their numbers, the lowest first: byte i is that of the i-th lane in the set.
inline constexpr std::array<std::uint64_t, 256> lanes_of_set = [] {
  std::array<std::uint64_t, 256> all{};
  for (unsigned set = 0; set < 256; ++set) {
    unsigned place = 0;
    for (unsigned lane = 0; lane < 8; ++lane) {
      if ((set >> lane & 1U) == 0) continue;
      all[set] |= std::uint64_t{lane} << (8 * place);
      ++place;
    }
  }
  return all;
}();

}  // namespace detail

/// Lists the multipliers of codes[i], i < n.
///
/// Shapes    codes of `blocks` whole blocks, n <= power_block * blocks of whose places count; list.fours and
///           list.at [power_block / 4 * blocks]
/// Requires  t is the table of a band of bytes; four_bytes a power of two, blocks power_block / 4 four_bytes
///           below 2^32
/// Cost      one pass
template<class Arch>
inline void list_powers(const power_table& t, const std::uint8_t* codes, index n,
                        [[maybe_unused]] index blocks, index four_bytes, power_list& list) noexcept {
  list.count = 0;
#if XSIMD_WITH_AVX2
  if constexpr (detail::has_avx2<Arch> || detail::has_avx512<Arch>) {
    constexpr index fours = power_block / 4;
    const detail::power_lookup<Arch> look_up(t);
    const __m256i zero = _mm256_setzero_si256();
    const __m128i to_bytes = _mm_cvtsi32_si128(std::countr_zero(static_cast<std::uint32_t>(four_bytes)));
    __m256i sums = zero;
    for (index b = 0; b < blocks; ++b) {
      const __m256i powers = look_up.low_bytes(look_up.places(codes, b, n));
      sums = _mm256_add_epi64(sums, _mm256_sad_epu8(powers, zero));
      const int none = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(powers, zero)));
      const auto set = static_cast<unsigned>(none) ^ 255U;
      const __m256i lanes =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&detail::lanes_of_set[set])));
      const __m256i number = _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int>(b * fours)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(list.fours + list.count),
                          _mm256_permutevar8x32_epi32(powers, lanes));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(list.at + list.count),
                          _mm256_sll_epi32(number, to_bytes));
      list.count += std::popcount(set);
    }
    list.sum = detail::sum_of_lanes_avx2<Arch>(sums);
    return;
  }
#endif
  list.sum = 0;
  for (index f = 0; f < (n + 3) / 4; ++f) {
    std::uint32_t four = 0;
    for (index i = 4 * f; i < std::min(n, 4 * f + 4); ++i) {
      const std::uint32_t power = detail::power_of(t, codes[i]);
      list.sum += static_cast<std::int32_t>(power);
      four |= power << (8 * (i - 4 * f));
    }
    list.fours[list.count] = four;
    list.at[list.count] = static_cast<std::uint32_t>(f * four_bytes);
    list.count += four != 0 ? 1 : 0;
  }
}

}  // namespace repquant
