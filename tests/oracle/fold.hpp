// SPDX-License-Identifier: MIT
/// The fold of channel-wise parameters into a norm and a linear layer, and layer norm itself, as the
/// formulas stand in the paper, in double. Shares no code with the library.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace oracle {

struct folded_layer {
  std::vector<double> gamma, beta, bias;
  std::vector<std::vector<double>> weight;
};

/// gamma~ = gamma / r1, beta~ = (beta + s r2) / r1, W~ = W r1, b~ = b - W (s r2).
inline folded_layer fold(std::vector<double> gamma, std::vector<double> beta,
                         std::vector<std::vector<double>> weight, std::vector<double> bias,
                         const std::vector<double>& s, const std::vector<double>& z, double s_new,
                         double z_new) {
  for (std::size_t d = 0; d < gamma.size(); ++d) {
    const double r1 = s[d] / s_new;
    const double r2 = z[d] - z_new;
    gamma[d] /= r1;
    beta[d] = (beta[d] + s[d] * r2) / r1;
    for (std::size_t o = 0; o < weight.size(); ++o) {
      bias[o] -= weight[o][d] * s[d] * r2;
      weight[o][d] *= r1;
    }
  }
  return {gamma, beta, bias, weight};
}

inline std::vector<double> layer_norm(const std::vector<double>& x, const std::vector<double>& gamma,
                                      const std::vector<double>& beta, double eps) {
  double mean = 0;
  for (double v : x) mean += v / static_cast<double>(x.size());
  double variance = 0;
  for (double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  std::vector<double> y(x.size());
  for (std::size_t d = 0; d < x.size(); ++d) {
    y[d] = (x[d] - mean) / std::sqrt(variance + eps) * gamma[d] + beta[d];
  }
  return y;
}

}  // namespace oracle
