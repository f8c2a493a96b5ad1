// SPDX-License-Identifier: MIT
/// An expression has no memory to look at: the compiler says what to write.
// expect: write repquant::matrix<>(m)
#include <repquant/matrix/matrix.hpp>

namespace {
repquant::index rows(repquant::matrix_view m) { return m.rows(); }
}  // namespace

int main() {
  const repquant::matrix<> a = repquant::matrix<>::Zero(2, 3);
#if defined(REPQUANT_MUST_FAIL)
  return static_cast<int>(rows(a + a));
#else
  return static_cast<int>(rows(repquant::matrix<>(a + a)));
#endif
}
