// SPDX-License-Identifier: MIT
/// Runs a test on every register that the compiler's flags allow, from the narrowest to the widest.
#pragma once

#include <repquant/core/lane.hpp>

namespace architectures {

/// f.template operator()<Arch>() for every architecture of xsimd that the flags allow, and for scalar_arch.
template<class F>
void for_each(F&& f) {
  f.template operator()<repquant::scalar_arch>();
#if !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
  xsimd::supported_architectures::for_each([&f](auto arch) { f.template operator()<decltype(arch)>(); });
#endif
}

}  // namespace architectures
