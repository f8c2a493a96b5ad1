// SPDX-License-Identifier: MIT
/// Calibration in plain double loops over all values, from the papers' formulas. Shares no code with the
/// library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

struct interval {
  double lo;
  double hi;
};

/// numpy.quantile(x, p), method "linear". `sorted` ascending.
inline double quantile(const std::vector<float>& sorted, double p) {
  const double h = static_cast<double>(sorted.size() - 1) * p;
  const double below = std::floor(h);
  const auto k = static_cast<std::size_t>(below);
  const double a = sorted[k];
  const double b = sorted[std::min(k + 1, sorted.size() - 1)];
  return a + (h - below) * (b - a);
}

/// Mean squared error of b-bit uniform codes over [r.lo, r.hi]: s = (hi - lo) / n, z = round(-lo / s).
inline double uniform_error(const std::vector<float>& xs, interval r, int bits) {
  const double n = std::pow(2.0, bits) - 1;
  const double s = (r.hi - r.lo) / n;
  if (!(s > 0)) return HUGE_VAL;
  const double z = std::nearbyint(-r.lo / s);
  double sum = 0;
  for (float x : xs) {
    const double q = std::fmin(std::fmax(std::nearbyint(x / s) + z, 0), n);
    const double e = x - (q - z) * s;
    sum += e * e;
  }
  return sum / static_cast<double>(xs.size());
}

/// The same for symmetric codes: z = 2^(b-1), s the smallest that covers both ends.
inline double symmetric_error(const std::vector<float>& xs, interval r, int bits) {
  const double half = std::pow(2.0, bits - 1);
  const double s = std::fmax(-r.lo / half, r.hi / (half - 1));
  if (!(s > 0)) return HUGE_VAL;
  double sum = 0;
  for (float x : xs) {
    const double q = std::fmin(std::fmax(std::nearbyint(x / s), -half), half - 1);
    sum += (x - q * s) * (x - q * s);
  }
  return sum / static_cast<double>(xs.size());
}

/// Mean squared error of logarithmic codes below scale s: `steps` levels an octave, the last of 2^b codes
/// zero.
inline double log_error(const std::vector<float>& xs, double s, int bits, int steps) {
  const double last = std::pow(2.0, bits) - 1;
  double sum = 0;
  for (float x : xs) {
    double value = 0;
    if (x > 0) {
      const double q = std::fmax(std::nearbyint(-steps * std::log2(x / s)), 0);
      if (q < last) value = s * std::pow(2.0, -q / steps);
    }
    sum += (x - value) * (x - value);
  }
  return sum / static_cast<double>(xs.size());
}

/// The smallest of error(range) over a grid of (grid + 1)^2 ranges whose ends divide the way from the
/// extremes to the median evenly.
template<class Error>
double least_over_grid(const std::vector<float>& sorted, int grid, Error error) {
  const double middle = quantile(sorted, 0.5);
  const double lo = sorted.front();
  const double hi = sorted.back();
  double least = HUGE_VAL;
  for (int i = 0; i <= grid; ++i) {
    for (int j = 0; j <= grid; ++j) {
      const interval r{lo + (middle - lo) * i / (grid + 1), hi - (hi - middle) * j / (grid + 1)};
      least = std::fmin(least, error(r));
    }
  }
  return least;
}

}  // namespace oracle
