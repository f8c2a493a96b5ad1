// SPDX-License-Identifier: MIT
/// A column-major matrix is not copied silently: the compiler says what to write.
// expect: write repquant::matrix<>(m)
#include <repquant/matrix/matrix.hpp>

namespace {
repquant::index rows(repquant::matrix_view m) { return m.rows(); }
}  // namespace

int main() {
  const Eigen::MatrixXf m = Eigen::MatrixXf::Zero(2, 3);  // column-major
#if defined(REPQUANT_MUST_FAIL)
  return static_cast<int>(rows(m));
#else
  return static_cast<int>(rows(repquant::matrix<>(m)));
#endif
}
