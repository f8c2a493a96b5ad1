// SPDX-License-Identifier: MIT
/// Doubles are not converted silently: the compiler says what to write.
// expect: write m.cast<float>().eval()
#include <repquant/matrix/matrix.hpp>

namespace {
repquant::index rows(repquant::matrix_view m) { return m.rows(); }
}  // namespace

int main() {
  const repquant::matrix<double> m = repquant::matrix<double>::Zero(2, 3);
#if defined(REPQUANT_MUST_FAIL)
  return static_cast<int>(rows(m));
#else
  return static_cast<int>(rows(m.cast<float>().eval()));
#endif
}
