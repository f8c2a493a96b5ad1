// SPDX-License-Identifier: MIT
/// GPTQ as the paper writes it, in plain double loops: an explicit inverse, down-dated column by column
/// (optimal brain quantization with a fixed order). Shares no code with the library.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace oracle {

using double_rows = std::vector<std::vector<double>>;

/// Inverse by Gauss-Jordan elimination with row exchanges.
inline double_rows inverse(double_rows a) {
  const std::size_t n = a.size();
  double_rows b(n, std::vector<double>(n, 0.0));
  for (std::size_t i = 0; i < n; ++i) b[i][i] = 1;
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t best = c;
    for (std::size_t r = c + 1; r < n; ++r) {
      if (std::fabs(a[r][c]) > std::fabs(a[best][c])) best = r;
    }
    std::swap(a[c], a[best]);
    std::swap(b[c], b[best]);
    const double pivot = a[c][c];
    for (std::size_t k = 0; k < n; ++k) {
      a[c][k] /= pivot;
      b[c][k] /= pivot;
    }
    for (std::size_t r = 0; r < n; ++r) {
      const double f = a[r][c];
      if (r == c || f == 0) continue;
      for (std::size_t k = 0; k < n; ++k) {
        a[r][k] -= f * a[c][k];
        b[r][k] -= f * b[c][k];
      }
    }
  }
  return b;
}

struct gptq_answer {
  std::vector<std::vector<int>> codes;
  double damped_loss = 0;  ///< sum of e^2 / [H^-1]_jj of the remaining columns = sum of (e / U_jj)^2
};

/// w [out x in]; h [in x in]; `order` the live columns; encode(value, row, col) -> code and
/// decode(code, row, col) -> value. Dead columns are rounded as they are.
inline gptq_answer gptq(const double_rows& w, const double_rows& h, double damping,
                        const std::vector<std::size_t>& order,
                        const std::function<int(double, std::size_t, std::size_t)>& encode,
                        const std::function<double(int, std::size_t, std::size_t)>& decode) {
  const std::size_t out = w.size();
  const std::size_t in = h.size();
  const std::size_t n = order.size();
  double mean = 0;
  for (std::size_t j : order) mean += h[j][j] / static_cast<double>(n);
  double_rows sub(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) sub[i][j] = h[order[i]][order[j]] + (i == j ? damping * mean : 0);
  }
  gptq_answer answer;
  answer.codes.assign(out, std::vector<int>(in));
  for (std::size_t r = 0; r < out; ++r) {
    for (std::size_t c = 0; c < in; ++c) answer.codes[r][c] = encode(w[r][c], r, c);
  }
  double_rows current = w;
  double_rows inv = inverse(sub);
  for (std::size_t j = 0; j < n; ++j) {
    const double d = inv[j][j];
    for (std::size_t r = 0; r < out; ++r) {
      const std::size_t col = order[j];
      const int code = encode(current[r][col], r, col);
      answer.codes[r][col] = code;
      const double e = current[r][col] - decode(code, r, col);
      answer.damped_loss += e * e / d;
      for (std::size_t k = j + 1; k < n; ++k) current[r][order[k]] -= e / d * inv[j][k];
    }
    for (std::size_t a = j + 1; a < n; ++a) {
      for (std::size_t b = j + 1; b < n; ++b) inv[a][b] -= inv[a][j] * inv[j][b] / d;
    }
  }
  return answer;
}

/// tr(D H D^T).
inline double quadratic(const double_rows& d, const double_rows& h) {
  double sum = 0;
  for (const auto& row : d) {
    for (std::size_t i = 0; i < h.size(); ++i) {
      for (std::size_t j = 0; j < h.size(); ++j) sum += row[i] * h[i][j] * row[j];
    }
  }
  return sum;
}

}  // namespace oracle
