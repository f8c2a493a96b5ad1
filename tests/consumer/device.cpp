// SPDX-License-Identifier: MIT
/// A device program: it sees run.hpp and cannot see Eigen.
#include <repquant/run.hpp>

#include <cstdio>

#if __has_include(<Eigen/Core>)
#error "repquant::run shows Eigen"
#endif

int main() {
  const repquant::uniform codec{4, false};
  const repquant::affine params = codec.fit({-1, 2});
  const std::int32_t code = codec.encode(2.0F, params);
  std::printf("the largest 4-bit code is %d\n", code);
  return code == 15 ? 0 : 1;
}
