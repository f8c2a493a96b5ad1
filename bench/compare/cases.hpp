// SPDX-License-Identifier: MIT
/// The families of cases. Each runs those of its cases that are wanted and adds their rows; a failure says
/// what could not be run, or that our integers are not the reference's.
#pragma once

#include <repquant/core/failure.hpp>

#include "limits.hpp"
#include "results.hpp"
#include "settings.hpp"

namespace compare {

struct session {
  const settings& options;
  const std::vector<machine_limit>& limits;
  results& rows;

  /// A measured limit; that of several threads is theirs together.
  [[nodiscard]] limit limit_of(const std::string& name, int threads = 1) const {
    return {name, threads * limit_named(limits, name)};
  }
};

repquant::failure gemm_cases(const session& s);
repquant::failure gemv_cases(const session& s);
repquant::failure attention_cases(const session& s);
repquant::failure encode_cases(const session& s);
repquant::failure vit_cases(const session& s);

/// The names of all cases.
inline const std::vector<std::string> all_cases = {"gemm_u8s7",
                                                   "gemm_u8s8",
                                                   "gemm_u8s8_laplace",
                                                   "gemm_u8s6",
                                                   "gemm_u4s4",
                                                   "gemm_u8s4",
                                                   "gemm_s8s4_g32",
                                                   "gemm_two_threads",
                                                   "gemv_s8_cold",
                                                   "gemv_s4_cold",
                                                   "gemv_small",
                                                   "pv_log2",
                                                   "pv_log_sqrt2",
                                                   "pv_log2_adversarial",
                                                   "pv_log_sqrt2_adversarial",
                                                   "pv_log2_relative",
                                                   "pv_log_sqrt2_relative",
                                                   "softmax_to_codes",
                                                   "softmax_to_codes_relative",
                                                   "attention",
                                                   "attention_relative",
                                                   "vit_w8a8",
                                                   "vit_w4a4",
                                                   "vit_w4a4_feedback",
                                                   "encode_u8",
                                                   "decode_u8"};

}  // namespace compare
