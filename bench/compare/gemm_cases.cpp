// SPDX-License-Identifier: MIT
#include "cases.hpp"
namespace compare {
repquant::failure gemm_cases(const session&) { return {}; }
}  // namespace compare
