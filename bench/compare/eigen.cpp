// SPDX-License-Identifier: MIT
/// Eigen as a contender.
#include <Eigen/Core>

#include "peers.hpp"

namespace compare {

contender eigen_gemm(const float_product& p, int threads) {
  Eigen::setNbThreads(threads);
  using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return {"eigen_f32", [p] {
            const Eigen::Map<const rows> a(p.a, p.size.m, p.size.k);
            const Eigen::Map<const rows> w(p.w, p.size.n, p.size.k);
            Eigen::Map<rows>(p.c, p.size.m, p.size.n).noalias() = a * w.transpose();
          }};
}

}  // namespace compare
