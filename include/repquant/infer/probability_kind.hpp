// SPDX-License-Identifier: MIT
/// The codecs that softmax outputs may have at run time.
#pragma once

#include <cstdint>

namespace repquant {

/// What stands for the probabilities of an attention. The numbers are part of the saved format.
enum class probability_kind : std::uint8_t { as_uniform = 0, as_log2 = 1, as_log_sqrt2 = 2 };

}  // namespace repquant
