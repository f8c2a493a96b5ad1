// SPDX-License-Identifier: MIT
/// What the tests of reconstructors share: correlated activations, weights, fitted quantizers, and the loss
/// in plain double loops.
#pragma once

#include <repquant/reconstruct/gptq.hpp>
#include <repquant/reconstruct/gram_accumulator.hpp>
#include <repquant/testing/host_laws.hpp>

#include "catch.hpp"
#include "oracle/samples.hpp"
#include <algorithm>
#include <vector>

namespace problem {

namespace rq = repquant;

inline rq::matrix<> normal(rq::index rows, rq::index cols, double size, std::uint64_t seed) {
  oracle::mixer m{seed};
  rq::matrix<> x(rows, cols);
  for (rq::index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(size * m.normal());
  return x;
}
/// Tokens that a few directions explain, with channels of unequal size.
inline rq::matrix<> activations(rq::index tokens, rq::index in, std::uint64_t seed) {
  rq::matrix<> x = normal(tokens, in, 0.3, seed) + normal(tokens, 4, 1, seed + 1) * normal(4, in, 0.5, 99);
  for (rq::index j = 3; j < in; j += 8) x.col(j) *= 6;
  return x;
}
template<class C, class G>
rq::quantizer<C, G> fitted(const C& codec, const G& granularity, const rq::matrix<>& w) {
  const rq::shape s{w.rows(), w.cols()};
  std::vector<rq::range> ranges(static_cast<std::size_t>(granularity.groups(s)));
  for (rq::index i = 0; i < w.rows(); ++i) {
    for (rq::index j = 0; j < w.cols(); ++j) {
      rq::range& r = ranges[static_cast<std::size_t>(granularity.group(s, i, j))];
      r = {std::fmin(r.lo, w(i, j)), std::fmax(r.hi, w(i, j))};
    }
  }
  std::vector<typename C::params> params;
  for (rq::range r : ranges) params.push_back(codec.fit(r));
  return rq::quantizer<C, G>::make(codec, granularity, s, std::move(params)).value();
}
/// (w - q) H_d (w - q)^T of row i.
template<class C, class G>
double row_loss(const rq::quantized<C, G>& q, const rq::matrix<>& w, const rq::gram& h, rq::index i,
                double ridge = 0) {
  std::vector<double> d;
  for (rq::index j = 0; j < w.cols(); ++j) {
    d.push_back(static_cast<double>(w(i, j)) -
                static_cast<double>(q.quantizer().decode(q.codes()(i, j), i, j)));
  }
  double sum = 0;
  for (std::size_t a = 0; a < d.size(); ++a) {
    for (std::size_t b = 0; b < d.size(); ++b) {
      const double extra = a == b ? ridge : 0;
      sum += d[a] * (h.sum(static_cast<rq::index>(a), static_cast<rq::index>(b)) + extra) * d[b];
    }
  }
  return sum;
}
template<class C, class G>
double loss(const rq::quantized<C, G>& q, const rq::matrix<>& w, const rq::gram& h, double ridge = 0) {
  double sum = 0;
  for (rq::index i = 0; i < w.rows(); ++i) sum += row_loss(q, w, h, i, ridge);
  return sum;
}
inline double mean_live_diagonal(const rq::gram& h) {
  double sum = 0;
  double live = 0;
  for (rq::index j = 0; j < h.size(); ++j) {
    sum += h.sum(j, j);
    live += h.sum(j, j) > 0 ? 1 : 0;
  }
  return sum / live;
}

template<class R, class C, class G>
void keeps_the_laws_for(const R& r, const C& codec, const G& granularity) {
  const char* broken = rq::testing::broken_reconstructor_law(r, codec, granularity);
  INFO((broken != nullptr ? broken : ""));
  CHECK(broken == nullptr);
}
/// Uniform codes of every granularity.
template<class R>
void keeps_the_laws(const R& r) {
  keeps_the_laws_for(r, rq::uniform{4}, rq::per_row{});
  keeps_the_laws_for(r, rq::uniform{2}, rq::per_tensor{});
  keeps_the_laws_for(r, rq::uniform{8, true}, rq::per_col{});
  keeps_the_laws_for(r, rq::uniform{3}, rq::per_group{8});
}

}  // namespace problem
