// SPDX-License-Identifier: MIT
/// A host program: what stands on Eigen.
#include <repquant/matrix/matrix.hpp>
#include <repquant/version.hpp>

#include <cstdio>

int main() {
  const repquant::matrix<> weights = repquant::matrix<>::Constant(2, 3, 0.5F);
  const repquant::matrix_view view = weights;
  std::printf("repquant %d.%d.%d: %td x %td\n", repquant::version_major, repquant::version_minor,
              repquant::version_patch, view.rows(), view.cols());
  return repquant::check_finite(view, "weights") ? 1 : 0;
}
