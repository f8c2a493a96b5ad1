// SPDX-License-Identifier: MIT
/// balance_heads: a change of basis inside an attention head that no float result depends on, chosen so that
/// low-bit codes of its two sides lose least.
///
/// A template, so that only who calls it compiles an eigenvalue decomposition, a fifth of the time that
/// repquant.hpp took with it.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include <cmath>

namespace repquant {

/// A basis for one head: x' = x forward, y' = y backward, with forward backward^T = identity, so that
/// x' y'^T = x y^T for all rows x and y.
struct head_basis {
  matrix<double> forward;   ///< [d x d]
  matrix<double> backward;  ///< [d x d], the inverse transposed
};

/// The basis in which both sides have the same diagonal second moments, and all of them are equally large.
///
///   A = L L^T,  L^T B L = U S^2 U^T,  M = L^-T U S^1/2     then M^T A M = S = M^-1 B M^-T
///   forward = M R,  backward = M^-T R,  R = Hadamard / sqrt(d), where d is a power of two
///
/// Codes of x'_k have steps in proportion to its deviation; the noise that they leave in x y^T is the sum
/// over k of E[x'_k^2] E[y'_k^2] up to a factor. In the basis M that is sum S_k^2; R makes every k the mean
/// of S, which gives (sum S_k)^2 / d: less the more unequal the S_k are.
///
/// Shapes    first, second [d x d], of float or double, symmetric, positive semidefinite: moments of x and y
/// Requires  equal sizes. A little of each trace is added to its diagonal, so that both are definite
/// Cost      a Cholesky and an eigenvalue decomposition of d x d, in double
/// Source    ours; rotations of heads as QuaRot (arXiv 2404.00456), scales as SmoothQuant
template<class First, class Second>
head_basis balance_heads(const Eigen::MatrixBase<First>& first, const Eigen::MatrixBase<Second>& second,
                         double ridge = 1e-3) {
  const index d = first.rows();
  const auto regular = [&](const auto& moments) {
    const matrix<double> m = moments.template cast<double>();
    matrix<double> r = m / std::fmax(m.trace() / static_cast<double>(d), 1e-300);
    r.diagonal().array() += ridge;
    return r;
  };
  const matrix<double> a = regular(first);
  const matrix<double> b = regular(second);
  const Eigen::LLT<matrix<double>> cholesky(a);
  const matrix<double> l = cholesky.matrixL();
  const matrix<double> both = l.transpose() * b * l;
  const Eigen::SelfAdjointEigenSolver<matrix<double>> eigen(both);
  const column<double> s = eigen.eigenvalues().cwiseMax(1e-30).cwiseSqrt();  // S
  const matrix<double> u = eigen.eigenvectors();
  // M = L^-T U S^1/2, M^-T = L U S^-1/2
  head_basis basis;
  const matrix<double> inverse_transposed = l.transpose().triangularView<Eigen::Upper>().solve(u);
  basis.forward = inverse_transposed * s.cwiseSqrt().asDiagonal();
  basis.backward = l * u * s.cwiseSqrt().cwiseInverse().asDiagonal();
  if ((d & (d - 1)) == 0) {
    matrix<double> hadamard = matrix<double>::Ones(1, 1);
    while (hadamard.rows() < d) {
      const index n = hadamard.rows();
      matrix<double> twice(2 * n, 2 * n);
      twice << hadamard, hadamard, hadamard, -hadamard;
      hadamard = twice;
    }
    hadamard /= std::sqrt(static_cast<double>(d));
    basis.forward = (basis.forward * hadamard).eval();
    basis.backward = (basis.backward * hadamard).eval();
  }
  return basis;
}

}  // namespace repquant
