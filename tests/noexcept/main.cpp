// SPDX-License-Identifier: MIT
/// The doors without exceptions and RTTI, in a program of its own: no test framework hides a throw.
#include <cstdio>

int device_checks();
int host_checks();

int main() {
  const int failed = device_checks() + host_checks();
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}
