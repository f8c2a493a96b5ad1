// SPDX-License-Identifier: MIT
/// OpenBLAS as a contender.
#include "peers.hpp"
#include <cblas.h>

namespace compare {

contender openblas_gemm(const float_product& p, int threads) {
  openblas_set_num_threads(threads);
  return {"openblas_f32", [p] {
            const auto m = static_cast<blasint>(p.size.m);
            const auto n = static_cast<blasint>(p.size.n);
            const auto k = static_cast<blasint>(p.size.k);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0F, p.a, k, p.w, k, 0.0F, p.c, n);
          }};
}
std::string openblas_core() { return openblas_get_corename(); }

}  // namespace compare
