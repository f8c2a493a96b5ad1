// SPDX-License-Identifier: MIT
/// The codecs that softmax outputs may have at run time.
#pragma once

#include <cstdint>

namespace repquant {

/// What stands for the probabilities of an attention. The numbers are part of the saved format.
enum class probability_kind : std::uint8_t { uniform = 0, log2 = 1, log_sqrt2 = 2 };

}  // namespace repquant
