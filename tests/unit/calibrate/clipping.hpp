// SPDX-License-Identifier: MIT
/// What the tests of clipping share: a layer's tokens with channels of every kind, and the oracle of J.
#pragma once

#include <repquant/calibrate/clipping_problem.hpp>

#include <cmath>
#include <random>
#include <utility>
#include <vector>

namespace clipping {

namespace rq = repquant;

/// Tokens, weights of tokens, the readers' Gram matrix and the ranges that cover all tokens.
struct sample {
  rq::uniform codec{.bits = 3};
  rq::matrix<> x;
  std::vector<double> weight;
  rq::matrix<double> readers;
  bool centred = true;
  std::vector<rq::range> whole;

  [[nodiscard]] rq::clipping_problem problem() const {
    return rq::clipping_problem::make(codec, x, weight, readers, centred).value();
  }
};

/// Channels in turn, all with long tails: about zero, above 5, below -4, zero half of the time, about zero
/// or, beyond the fifth, of a single value; `out` rows of readers' weights whose columns are alike, so that
/// errors add up.
inline sample make_sample(rq::index tokens, rq::index channels, rq::index out, unsigned seed,
                          bool weighted = true) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal(0, 1);
  std::exponential_distribution<double> exponential(1);
  sample s;
  s.x.resize(tokens, channels);
  for (rq::index t = 0; t < tokens; ++t) {
    for (rq::index d = 0; d < channels; ++d) {
      double v = exponential(engine) * (engine() % 2 == 0 ? 1 : -1);
      if (d % 5 == 1) v = 5 + std::fabs(v);
      if (d % 5 == 2) v = -4 - std::fabs(v);
      if (d % 5 == 3) v = std::fmax(v, 0);
      if (d % 5 == 4 && d > 4) v = 0.75;
      s.x(t, d) = static_cast<float>(v);
    }
  }
  rq::matrix<double> w(out, channels);
  for (rq::index o = 0; o < out; ++o) {
    const double common = normal(engine);
    for (rq::index d = 0; d < channels; ++d) w(o, d) = common + 0.7 * normal(engine);
  }
  s.readers = w.transpose() * w;
  if (weighted) {
    for (rq::index t = 0; t < tokens; ++t) s.weight.push_back(t % 7 == 0 ? 11 : 1);
  }
  for (rq::index d = 0; d < channels; ++d) s.whole.push_back({s.x.col(d).minCoeff(), s.x.col(d).maxCoeff()});
  return s;
}

/// The value of x's code under a range, from the definition of the codec alone.
inline double coded(double x, const rq::range& r, int bits) {
  const double last = std::exp2(bits) - 1;
  // the codec rounds its scale to float once; a range of a single value has the smallest scale that it can
  const auto step =
      static_cast<double>(static_cast<float>((static_cast<double>(r.hi) - static_cast<double>(r.lo)) / last));
  const double zero = std::nearbyint(-static_cast<double>(r.lo) / step);
  const auto quotient = static_cast<double>(static_cast<float>(x / step));
  const double code = std::fmin(std::fmax(std::nearbyint(quotient) + zero, 0), last);
  return (code - zero) * step;
}

/// The oracle: J term by term, from values that stand for x.
inline double cost(const sample& s, const rq::matrix<double>& values) {
  double weights = 0;
  rq::column<double> mean = rq::column<double>::Zero(s.x.cols());
  const auto weight = [&](rq::index t) {
    return s.weight.empty() ? 1.0 : s.weight[static_cast<std::size_t>(t)];
  };
  for (rq::index t = 0; t < s.x.rows(); ++t) {
    weights += weight(t);
    for (rq::index d = 0; d < s.x.cols(); ++d)
      mean(d) += weight(t) * (values(t, d) - static_cast<double>(s.x(t, d)));
  }
  mean /= weights;
  double sum = 0;
  for (rq::index t = 0; t < s.x.rows(); ++t) {
    for (rq::index i = 0; i < s.x.cols(); ++i) {
      for (rq::index j = 0; j < s.x.cols(); ++j) {
        const double a = values(t, i) - static_cast<double>(s.x(t, i)) - (s.centred ? mean(i) : 0);
        const double b = values(t, j) - static_cast<double>(s.x(t, j)) - (s.centred ? mean(j) : 0);
        sum += weight(t) * a * s.readers(i, j) * b;
      }
    }
  }
  return sum;
}
inline double cost(const sample& s, const std::vector<rq::range>& ranges) {
  rq::matrix<double> values(s.x.rows(), s.x.cols());
  for (rq::index t = 0; t < s.x.rows(); ++t) {
    for (rq::index d = 0; d < s.x.cols(); ++d) {
      const rq::range& r = ranges[static_cast<std::size_t>(d)];
      values(t, d) = coded(static_cast<double>(s.x(t, d)), r, s.codec.bits);
    }
  }
  return cost(s, values);
}

/// True where channel 1, whose values are 5 and more, and channel 2, -4 and less, lost some of their tails
/// and did not grow towards zero.
inline bool clips_one_sign(const sample& s, const std::vector<rq::range>& r) {
  return r[1].lo > 4 && r[1].hi < 0.95F * s.whole[1].hi && r[2].hi < -3 && r[2].lo > 0.95F * s.whole[2].lo;
}

inline bool equal(const std::vector<rq::range>& a, const std::vector<rq::range>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t d = 0; d < a.size(); ++d) {
    if (a[d].lo != b[d].lo || a[d].hi != b[d].hi) return false;
  }
  return true;
}

}  // namespace clipping
