// SPDX-License-Identifier: MIT
/// refine_leaves: the matrices that the tapes of all samples share, made from the parameters once per step,
/// and the way of their gradients back to the parameters.
#pragma once

#include <repquant/block/refine_parameters.hpp>

#include <vector>

namespace repquant::detail {

/// What one instruction reads on a tape.
///
///   linear     weight (round(V) - zw) m e^r, offset
///   norm       gamma, beta
///   encode     scale s e^t, zero
///   attention  score multiplier m e^f, scale of the probabilities
struct refine_leaf_set {
  static constexpr std::size_t most = 2;
  matrix<> value[most];
  matrix<> gradient[most];
};

/// A row with the growth e^t of each scale of an encode.
inline matrix<> growth_row(const matrix<>& t, index sets) {
  matrix<> g(1, sets);
  for (index j = 0; j < sets; ++j) g(0, j) = std::exp(t(0, j / (sets / t.cols())));
  return g;
}

/// Fills the leaves of instruction i from the parameters.
inline void make_leaves(const refine_flow& f, const refine_parameters& p, int i, refine_leaf_set& leaf) {
  const instruction& s = f.code[static_cast<std::size_t>(i)];
  const refine_unit& u = p.units[static_cast<std::size_t>(i)];
  switch (s.kind) {
    case opcode::linear:
      leaf.value[0] = rounded(p.at(u.first));
      leaf.value[0].colwise() -= u.zero.col(0);
      leaf.value[0].array().colwise() *= u.base.col(0).array() * p.at(u.second).col(0).array().exp();
      leaf.value[1] = p.at(u.third);
      break;
    case opcode::norm:
      leaf.value[0] = p.at(u.first);
      if (u.second >= 0) leaf.value[1] = p.at(u.second);
      break;
    case opcode::encode:
      leaf.value[0] = u.base.cwiseProduct(growth_row(p.at(u.first), u.base.cols()));
      leaf.value[1] = p.at(u.second);
      break;
    case opcode::attention:
      leaf.value[0] = (u.base.array() * p.at(u.first).array().exp()).matrix();
      leaf.value[1] = matrix<>::Constant(1, 1, s.probability_scale * std::exp(p.at(u.second)(0, 0)));
      break;
    default:
      break;
  }
}

/// Adds the gradients of the leaves of instruction i to those of its parameters. Rounding is passed straight
/// through.
inline void pull_back(const refine_flow& f, refine_parameters& p, int i, const refine_leaf_set& leaf) {
  const instruction& s = f.code[static_cast<std::size_t>(i)];
  const refine_unit& u = p.units[static_cast<std::size_t>(i)];
  const auto log_gradient = [&](std::size_t k) -> matrix<> {  // d/dt of e^t
    return leaf.gradient[k].cwiseProduct(leaf.value[k]);
  };
  switch (s.kind) {
    case opcode::linear:
      p[u.first].gradient.array() +=
          leaf.gradient[0].array().colwise() * (u.base.col(0).array() * p.at(u.second).col(0).array().exp());
      p[u.second].gradient += log_gradient(0).rowwise().sum();
      p[u.third].gradient += leaf.gradient[1];
      break;
    case opcode::norm:
      p[u.first].gradient += leaf.gradient[0];
      if (u.second >= 0) p[u.second].gradient += leaf.gradient[1];
      break;
    case opcode::encode: {
      const matrix<> g = log_gradient(0);
      p[u.second].gradient += leaf.gradient[1];
      matrix<>& sum = p[u.first].gradient;
      const index width = g.cols() / sum.cols();
      for (index k = 0; k < sum.cols(); ++k) sum(0, k) += g.middleCols(k * width, width).sum();
      break;
    }
    case opcode::attention:
      p[u.first].gradient += log_gradient(0);
      p[u.second].gradient += log_gradient(1);
      break;
    default:
      break;
  }
}

}  // namespace repquant::detail
