// SPDX-License-Identifier: MIT
/// The running model in double and int64, written from the formulas: shares no code with the library.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace oracle {

inline double gelu_erf(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
inline double gelu_tanh(double x) {
  const double u = std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-2.0 * u));  // the tanh form without its cancellation
}
inline double silu(double x) { return x / (1.0 + std::exp(-x)); }

inline std::vector<double> softmax(const std::vector<double>& x) {
  double top = -INFINITY;
  for (double v : x) top = std::fmax(top, v);
  std::vector<double> y(x.size(), 0.0);
  if (std::isinf(top) && top < 0) return y;
  double total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) total += y[i] = std::exp(x[i] - top);
  for (double& v : y) v /= total;
  return y;
}

inline std::vector<double> layer_norm(const std::vector<float>& x, const std::vector<float>& gamma,
                                      const std::vector<float>& beta, double eps) {
  double mean = 0;
  for (float v : x) mean += v;
  mean /= static_cast<double>(x.size());
  double variance = 0;
  for (float v : x) variance += (v - mean) * (v - mean);
  variance /= static_cast<double>(x.size());
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = (x[i] - mean) / std::sqrt(variance + eps) * gamma[i] + beta[i];
  }
  return y;
}
inline std::vector<double> rms_norm(const std::vector<float>& x, const std::vector<float>& gamma,
                                    double eps) {
  double power = 0;
  for (float v : x) power += static_cast<double>(v) * v;
  power /= static_cast<double>(x.size());
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::sqrt(power + eps) * gamma[i];
  return y;
}

/// The value of a probability code by its definition, in double. kind: 0 uniform, 1 log2, 2 log_sqrt2.
/// `smallest` is the code of the smallest level that is not zero.
inline double probability(int kind, int code, double scale, int zero_point, int smallest, bool has_zero) {
  if (kind == 0) return (code - zero_point) * scale;
  if (has_zero && code > smallest) return 0;
  return scale * std::pow(2.0, kind == 1 ? -code : -code / 2.0);
}

/// x rounded to float, for sure: g++ turns float(double(a) * double(b)) into a float product, which is equal,
/// and then into a fused multiply-add, which is not.
inline float rounded(double x) {
  volatile float r = static_cast<float>(x);
  return r;
}

/// The bits of a float.
inline std::uint32_t bits(float x) {
  std::uint32_t u = 0;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
/// True where two rows have the same bits.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace oracle
