// SPDX-License-Identifier: MIT
/// head_moments: what calibration says about the heads of a query, key or value.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <vector>

namespace repquant::detail {

/// Sums over tokens of the columns of a value and of their products, head by head.
struct head_moments {
  std::vector<matrix<double>> products;
  column<double> sum;
  double tokens = 0;

  /// Adds the tokens of a sample.
  void see(const matrix<>& x, index heads) {
    const index d = x.cols() / heads;
    products.resize(static_cast<std::size_t>(heads), matrix<double>::Zero(d, d));
    if (sum.size() == 0) sum = column<double>::Zero(x.cols());
    for (index h = 0; h < heads; ++h) {
      const matrix<double> part = x.middleCols(h * d, d).template cast<double>();
      products[static_cast<std::size_t>(h)] += part.transpose() * part;
    }
    sum += x.template cast<double>().colwise().sum().transpose();
    tokens += static_cast<double>(x.rows());
  }
  /// Adds what others have seen.
  void add(const head_moments& other) {
    if (products.empty()) {
      *this = other;
      return;
    }
    for (std::size_t h = 0; h < products.size(); ++h) products[h] += other.products[h];
    sum += other.sum;
    tokens += other.tokens;
  }
  /// The products of head h about the means of its columns.
  [[nodiscard]] matrix<double> about_mean(index h) const {
    const matrix<double>& p = products[static_cast<std::size_t>(h)];
    const auto mean = sum.segment(h * p.rows(), p.rows());
    return p - mean * mean.transpose() / tokens;
  }
};

}  // namespace repquant::detail
