// SPDX-License-Identifier: MIT
/// The log-sqrt2 codec: levels are half-powers of two below a scale. What softmax outputs are
/// calibrated with; reparam/log_sqrt2_to_log2.hpp gives its exact base-2 form.
#pragma once

#include <repquant/codec/logarithmic.hpp>

namespace repquant {

/// Half-powers of two.
///
///   encode  q = round(-2 log2(x / s))        code 0 for x > s; the last code for x <= 0, NaN, and below
///   decode  x^ = s 2^(-q/2)                  0 for the last code (zero_rule::last_code)
///
/// Even codes are powers of two, odd codes are powers of two times the float nearest to sqrt 2.
/// At 4 bits with a zero: codes 0 .. 14, largest shift 7.
///
/// Units     s in the unit of the data (1 for probabilities); q counts half octaves
/// Requires  bits in 2 .. 8, s in [2^-100, 2^100], depth in 0 .. 30
/// Source    RepQ-ViT (arXiv 2212.08254) eq. 9-11; zero rule and depth: docs/decisions/0003
using log_sqrt2 = logarithmic<2>;

}  // namespace repquant
