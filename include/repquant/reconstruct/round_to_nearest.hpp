// SPDX-License-Identifier: MIT
/// round_to_nearest: every weight to its nearest level, on its own.
#pragma once

#include <repquant/reconstruct/concept.hpp>

namespace repquant {

/// Rounds every entry of a weight to its nearest code; the Gram matrix only serves the report.
///
/// Shapes    w [out x in], h [in x in]
/// Errors    shape_mismatch, group_mismatch, bad_bits, empty, non_finite, not_positive_definite (h has a
///           negative diagonal or is not symmetric); each with its place
/// Cost      out * in codes, and out in^2 multiply-adds for the loss in the report
struct round_to_nearest {
  template<Codec C, Granularity G>
  result<reconstruction<C, G>> operator()(const quantizer<C, G>& q, matrix_view w, const gram& h) const {
    if (failure f = detail::check_problem(q, w, h)) return f;
    result<quantized<C, G>> codes = quantize(q, w);
    if (!codes) return codes.error();
    reconstruction_report report;
    report.loss = report.damped_loss = output_error(*codes, w, h);
    report.dead_columns = h.dead();
    return reconstruction<C, G>{*std::move(codes), report};
  }
};

}  // namespace repquant
