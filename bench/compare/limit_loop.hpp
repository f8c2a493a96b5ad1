// SPDX-License-Identifier: MIT
/// Loops that measure a CPU. The files that define them are compiled for more than this program may use, so
/// what stands here is plain data: no function of the standard library that the rest could be given theirs
/// of.
#pragma once

namespace compare {

/// A loop and how many multiply-adds a call of it makes.
struct limit_loop {
  const char* name;
  void (*run)();
  double multiply_adds;
};
struct limit_loops {
  const limit_loop* first;
  int count;
};

/// Loops of AVX2 with FMA, of AVX-VNNI, and of AVX-512; each to be run where the CPU has the instructions.
limit_loops avx2_loops();
limit_loops avx_vnni_loops();
limit_loops avx512_loops();

}  // namespace compare
