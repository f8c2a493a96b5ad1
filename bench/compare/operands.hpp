// SPDX-License-Identifier: MIT
/// Operands of products, and whether results are right.
#pragma once

#include <repquant/core/failure.hpp>

#include "own_product.hpp"
#include "peers.hpp"
#include "random.hpp"
#include <cmath>
#include <functional>
#include <numeric>
#include <string>

namespace compare {

/// Operands in every form that a contender reads, and room for its results.
struct operands {
  extent size;
  buffer<std::uint8_t> x;
  buffer<std::int8_t> w;
  buffer<std::int8_t> x_signed;
  buffer<std::uint8_t> w_unsigned;
  buffer<float> x_float;
  buffer<float> w_float;
  buffer<std::int32_t> sums;
  buffer<std::int32_t> own_sums;
  buffer<float> floats;
  buffer<std::uint8_t> codes;

  operands(const extent& e, int x_bits, int w_bits, bool laplace) : size(e) {
    bit_source bits;
    const auto cells = static_cast<std::size_t>(e.m * e.n);
    x = uniform_values<std::uint8_t>(bits, static_cast<std::size_t>(e.m * e.k), 0, (1 << x_bits) - 1);
    const int half = 1 << (w_bits - 1);
    w = laplace ? laplace_rows(bits, static_cast<std::size_t>(e.n), static_cast<std::size_t>(e.k))
                : uniform_values<std::int8_t>(bits, static_cast<std::size_t>(e.n * e.k), -half, half - 1);
    for (const std::uint8_t v : x) {
      x_signed.push_back(static_cast<std::int8_t>(v - 128));
      x_float.push_back(v);
    }
    for (const std::int8_t v : w) {
      w_unsigned.push_back(static_cast<std::uint8_t>(v + 128));
      w_float.push_back(v);
    }
    sums.resize(cells);
    own_sums.resize(cells);
    floats.resize(cells);
    codes.resize(cells);
  }
  [[nodiscard]] float_product in_float() { return {size, x_float.data(), w_float.data(), floats.data()}; }
  [[nodiscard]] code_product in_codes() {
    return {size,
            x.data(),
            x_signed.data(),
            w.data(),
            w_unsigned.data(),
            sums.data(),
            reinterpret_cast<std::int8_t*>(codes.data())};
  }
  /// The first row whose own sums are not those of plain 64-bit arithmetic; of a few rows, from first to
  /// last.
  [[nodiscard]] repquant::failure check_own(const std::string& place) const {
    const index step = std::max<index>(1, (size.m - 1) / 4);
    for (index i = 0; i < size.m; i += step) {
      for (index j = 0; j < size.n; ++j) {
        std::int64_t sum = 0;
        for (index k = 0; k < size.k; ++k) {
          sum += std::int64_t{x[static_cast<std::size_t>(i * size.k + k)]} *
                 w[static_cast<std::size_t>(j * size.k + k)];
        }
        const std::int64_t got = own_sums[static_cast<std::size_t>(i * size.n + j)];
        if (got != sum) return {repquant::errc::bad_format, place, got, sum};
      }
    }
    return {};
  }
  /// The first result of groups that is farther from double arithmetic than its roundings allow.
  [[nodiscard]] repquant::failure check_groups(const std::string& place, index group) const {
    const index step = std::max<index>(1, (size.m - 1) / 4);
    for (index i = 0; i < size.m; i += step) {
      for (index j = 0; j < size.n; ++j) {
        double sum = 0;
        double most = 0;
        for (index k = 0; k < size.k; ++k) {
          const double term = (double{x_float[static_cast<std::size_t>(i * size.k + k)]} - 128) *
                              w[static_cast<std::size_t>(j * size.k + k)] *
                              own_product::group_scale(j, k / group);
          sum += term;
          most += std::fabs(term);
        }
        const double got = floats[static_cast<std::size_t>(i * size.n + j)];
        if (!(std::fabs(got - sum) <= 0x1p-18 * most))
          return {repquant::errc::bad_format, place, std::llround(got), std::llround(sum)};
      }
    }
    return {};
  }
  /// How many of a peer's sums are not ours.
  [[nodiscard]] std::size_t wrong() const {
    return std::inner_product(sums.begin(), sums.end(), own_sums.begin(), std::size_t{0}, std::plus<>(),
                              [](auto a, auto b) { return a == b ? std::size_t{0} : std::size_t{1}; });
  }
};

}  // namespace compare
