// SPDX-License-Identifier: MIT
/// The log2 codec: levels are powers of two below a scale. What softmax outputs look like at inference.
#pragma once

#include <repquant/codec/logarithmic.hpp>

namespace repquant {

/// Powers of two.
///
///   encode  q = round(-log2(x / s))          code 0 for x > s; the last code for x <= 0, NaN, and below
///   decode  x^ = s 2^-q                      0 for the last code (zero_rule::last_code)
///
/// No call to log: the exponent bits and one mantissa threshold decide, so every device agrees.
///
/// Units     s in the unit of the data (1 for probabilities); q counts octaves
/// Requires  bits in 2 .. 8, s in [2^-100, 2^100], depth in 0 .. 30
/// Source    FQ-ViT (arXiv 2111.13824) eq. 11; zero rule and depth: docs/decisions/0003
using log2 = logarithmic<1>;

}  // namespace repquant
