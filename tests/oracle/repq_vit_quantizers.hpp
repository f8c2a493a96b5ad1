// SPDX-License-Identifier: MIT
/// The quantizers of RepQ-ViT (arXiv 2212.08254) as its published code has them, simulated: a number goes in
/// and the number that its code means comes out. Shares no code with the library's quantizers.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace oracle {

using repquant::index;

/// torch.quantile(x, p), linear interpolation: h = (n - 1) p, q = x[floor h] + (h - floor h) (x[floor h + 1]
/// - x[floor h]) of the sorted x. By selection, exact for any n; the order of x changes. (The published code
/// leaves large tensors to numpy.percentile, which is the same.)
///
/// Requires  x is not empty, 0 <= p <= 1
inline double selected_quantile(std::vector<float>& x, double p) {
  const double h = static_cast<double>(x.size() - 1) * p;
  const double below = std::floor(h);
  const auto kth = x.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(x.begin(), kth, x.end());
  const double a = *kth;
  const double b = kth + 1 == x.end() ? a : *std::min_element(kth + 1, x.end());
  return a + (h - below) * (b - a);
}

/// The candidates of every search.
inline constexpr std::array<double, 3> repq_percentiles = {0.999, 0.9999, 0.99999};

/// x^ = (clip(round(x / delta) + zero, 0, last) - zero) delta. One parameter set, or one per column (or row).
struct repq_uniform {
  std::vector<float> delta;
  std::vector<float> zero;  ///< a whole number, in the code range or not; after a fold any number
  float last = 0;           ///< 2^b - 1

  [[nodiscard]] bool fitted() const noexcept { return !delta.empty(); }
  [[nodiscard]] float value(float x, std::size_t set) const noexcept {
    const float d = delta[set];
    const float z = zero[set];
    return (std::clamp(std::nearbyint(x / d) + z, 0.0F, last) - z) * d;
  }
  /// One set for all, or column j with set j.
  [[nodiscard]] repquant::matrix<> columns(const repquant::matrix<>& x) const {
    return map(x, [&](index, index j) { return delta.size() == 1 ? 0 : j; });
  }
  /// Row i with set i.
  [[nodiscard]] repquant::matrix<> rows(const repquant::matrix<>& x) const {
    return map(x, [](index i, index) { return i; });
  }

  /// Adds the parameter set that the three-percentile search finds for these values, whose order changes:
  /// of the candidates delta = (hi - lo) / last, zero = round(-lo / delta) the one of least squared error.
  ///
  /// A range of no width is no candidate (the published code divides by zero and crashes where all three
  /// are); values that are all the same are then the end of a range that begins or ends at zero, exactly.
  void add_searched(std::vector<float>& x, int bits) {
    last = static_cast<float>((1 << bits) - 1);
    delta.push_back(0);
    zero.push_back(0);
    float best_delta = 0;
    float best_zero = 0;
    double least = std::numeric_limits<double>::infinity();
    for (const double p : repq_percentiles) {
      const double hi = selected_quantile(x, p);
      const double lo = selected_quantile(x, 1 - p);
      const auto d = static_cast<float>((hi - lo) / static_cast<double>(last));
      if (!(d >= std::numeric_limits<float>::min())) continue;
      delta.back() = d;
      zero.back() = static_cast<float>(std::nearbyint(-lo / static_cast<double>(d)));
      double error = 0;
      for (const float v : x) {
        const double e = static_cast<double>(v) - static_cast<double>(value(v, delta.size() - 1));
        error += e * e;
      }
      if (error < least) {
        least = error;
        best_delta = delta.back();
        best_zero = zero.back();
      }
    }
    if (best_delta == 0) {
      best_delta = x.front() == 0 ? 1 : std::fabs(x.front()) / last;
      best_zero = x.front() < 0 ? last : 0;
    }
    delta.back() = best_delta;
    zero.back() = best_zero;
  }

 private:
  template<class F>
  [[nodiscard]] repquant::matrix<> map(const repquant::matrix<>& x, const F& set) const {
    repquant::matrix<> y(x.rows(), x.cols());
    for (index i = 0; i < x.rows(); ++i) {
      for (index j = 0; j < x.cols(); ++j) y(i, j) = value(x(i, j), static_cast<std::size_t>(set(i, j)));
    }
    return y;
  }
};

/// One parameter set for all entries of some matrices.
inline repq_uniform search_tensor(const std::vector<const repquant::matrix<>*>& tensor, int bits) {
  std::vector<float> all;
  for (const auto* x : tensor) all.insert(all.end(), x->data(), x->data() + x->size());
  repq_uniform q;
  q.add_searched(all, bits);
  return q;
}
/// One per column, over the rows of all of them.
inline repq_uniform search_columns(const std::vector<const repquant::matrix<>*>& tensor, int bits) {
  repq_uniform q;
  std::vector<float> column;
  for (index j = 0; j < tensor.front()->cols(); ++j) {
    column.clear();
    for (const auto* x : tensor) {
      for (index i = 0; i < x->rows(); ++i) column.push_back((*x)(i, j));
    }
    q.add_searched(column, bits);
  }
  return q;
}
/// One per row: the output channels of a weight.
inline repq_uniform search_rows(const repquant::matrix<>& w, int bits) {
  repq_uniform q;
  std::vector<float> row;
  for (index i = 0; i < w.rows(); ++i) {
    row.assign(w.row(i).data(), w.row(i).data() + w.cols());
    q.add_searched(row, bits);
  }
  return q;
}

/// c = round(-2 log2(x / delta)); from 2^b on it means 0, else x^ = 2^-ceil(c' / 2) (sqrt2 where c' is odd)
/// delta, c' = max(c, 0): the 2^b levels of a code, and zero as one more.
struct repq_log_sqrt2 {
  float delta = 1;
  std::vector<float> levels;

  repq_log_sqrt2() = default;
  repq_log_sqrt2(float scale, int bits) : delta(scale) {
    for (int c = 0; c < 1 << bits; ++c) {
      levels.push_back(std::ldexp(1.0F, -((c + 1) / 2)) * (c % 2 == 1 ? std::sqrt(2.0F) : 1.0F) * delta);
    }
  }
  [[nodiscard]] float value(float x) const noexcept {
    const float c = std::nearbyint(-2 * std::log2(x / delta));  // 0 gives infinity
    if (!(c < static_cast<float>(levels.size()))) return 0;
    return levels[static_cast<std::size_t>(std::max(c, 0.0F))];
  }
  [[nodiscard]] double squared_error(const repquant::matrix<>& x) const {
    double error = 0;
    for (index i = 0; i < x.size(); ++i) {
      const float v = x.data()[i];
      if (v == 0) continue;  // exact
      const double e = static_cast<double>(v) - static_cast<double>(value(v));
      error += e * e;
    }
    return error;
  }
};

/// The candidates for delta: the upper quantiles of all entries. A quantile of zero is none.
inline std::vector<repq_log_sqrt2> log_candidates(const std::vector<repquant::matrix<>>& tensor, int bits) {
  std::vector<float> all;
  for (const auto& x : tensor) all.insert(all.end(), x.data(), x.data() + x.size());
  std::vector<repq_log_sqrt2> candidates;
  for (const double p : repq_percentiles) {
    const auto delta = static_cast<float>(selected_quantile(all, p));
    if (delta > 0) candidates.emplace_back(delta, bits);
  }
  if (candidates.empty()) candidates.emplace_back(1.0F, bits);
  return candidates;
}

}  // namespace oracle
