// SPDX-License-Identifier: MIT
/// Operands: the same on every machine.
#pragma once

#include "memory.hpp"
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace compare {

/// A sequence of bits (xorshift).
class bit_source {
 public:
  std::uint32_t operator()() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  /// A whole number from `least` to `most`, all equally likely but for the remainder of 2^32.
  int between(int least, int most) {
    return least + static_cast<int>((*this)() % static_cast<std::uint32_t>(most - least + 1));
  }
  /// In (0, 1].
  double unit() { return (1.0 + (*this)()) * 0x1p-32; }
  double normal() { return std::sqrt(-2 * std::log(unit())) * std::cos(6.283185307179586 * unit()); }

 private:
  std::uint32_t state_ = 12345;
};

/// `n` whole numbers from `least` to `most`.
template<class T>
buffer<T> uniform_values(bit_source& bits, std::size_t n, int least, int most) {
  buffer<T> v(n);
  for (T& x : v) x = static_cast<T>(bits.between(least, most));
  return v;
}

/// Rows of codes of Laplace-distributed weights, each row scaled so that its largest magnitude is 127: nearer
/// to what a trained layer holds than values that are all equally likely.
inline buffer<std::int8_t> laplace_rows(bit_source& bits, std::size_t rows, std::size_t cols) {
  buffer<std::int8_t> v(rows * cols);
  std::vector<double> row(cols);
  for (std::size_t r = 0; r < rows; ++r) {
    double most = 0;
    for (double& x : row) {
      x = -std::log(bits.unit());
      most = std::max(most, x);
      if (bits() % 2 == 0) x = -x;
    }
    for (std::size_t c = 0; c < cols; ++c) {
      v[r * cols + c] = static_cast<std::int8_t>(std::lround(row[c] * 127 / most));
    }
  }
  return v;
}

}  // namespace compare
