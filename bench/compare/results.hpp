// SPDX-License-Identifier: MIT
/// The rows of the comparison: a table on the terminal and objects in the report.
#pragma once

#include "race.hpp"
#include "support/report.hpp"
#include "support/table.hpp"
#include <array>
#include <limits>
#include <string>
#include <string_view>

namespace compare {

/// What is counted: work per second, or microseconds where `work` is 0.
struct quantity {
  std::string unit = "us";
  double work = 0;  ///< of one call, in what the unit counts

  [[nodiscard]] double of(double seconds) const { return work > 0 ? work / seconds : seconds * 1e6; }
  /// How many times faster ours is.
  [[nodiscard]] double ratio(double ours, double peer) const { return work > 0 ? ours / peer : peer / ours; }
};
inline quantity gops(double operations) { return {"GOPS", operations * 1e-9}; }

/// The least ratio that a case is to reach, on an x86-64 with AVX2 and no VNNI.
struct goal {
  std::string_view case_name;
  std::string_view peer_name;
  double ratio;
};
inline constexpr std::array goals = {goal{"gemm_u8s7", "openblas_f32", 2.2},
                                     goal{"gemm_u8s7", "onednn_u8s8", 1.03},
                                     goal{"gemm_u8s8", "xnnpack_qs8", 1.6},
                                     goal{"gemm_u8s8", "openblas_f32", 1.8},
                                     goal{"gemm_u8s6", "openblas_f32", 2.7},
                                     goal{"gemm_u4s4", "openblas_f32", 2.7},
                                     goal{"gemm_u4s4", "onednn_u8s8", 1.25},
                                     goal{"gemm_u8s4", "openblas_f32", 2.7},
                                     goal{"gemm_u8s4", "onednn_u8s8", 1.25},
                                     goal{"gemm_s8s4_g32", "openblas_f32", 2.2},
                                     goal{"gemv_s8_cold", "xnnpack_qs8", 1.2},
                                     goal{"gemv_s4_cold", "xnnpack_qs8", 2.2},
                                     goal{"gemv_small", "xnnpack_qs8", 1.8},
                                     goal{"pv_log2", "onednn_f32", 1.6},
                                     goal{"pv_log_sqrt2", "onednn_f32", 1.3},
                                     goal{"pv_log2_adversarial", "onednn_f32", 0.95},
                                     goal{"pv_log_sqrt2_adversarial", "onednn_f32", 0.95},
                                     goal{"attention", "onednn_f32", 1.6},
                                     goal{"softmax_to_codes", "onednn_f32", 1.6},
                                     goal{"gemm_two_threads", "one_thread", 1.85},
                                     goal{"vit_w8a8", "eigen_f32", 2.0},
                                     goal{"vit_w4a4", "eigen_f32", 2.5}};
/// NaN where there is none.
inline double goal_of(std::string_view case_name, std::string_view peer_name) {
  for (const goal& g : goals) {
    if (g.case_name == case_name && g.peer_name == peer_name) return g.ratio;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

/// A limit of the machine that a case runs up against, in the unit of the case.
struct limit {
  std::string name;
  double value = std::numeric_limits<double>::quiet_NaN();
};

class results {
 public:
  /// One comparison: times of ours and of a peer. The note says what a reader of the row must know.
  void add(const std::string& case_name, const std::string& shape, const std::string& peer_name,
           const quantity& what, const timing& ours, const timing& peer, const limit& most = {},
           const std::string& note = {}) {
    const double a = what.of(ours.median);
    const double b = what.of(peer.median);
    const double ratio = what.ratio(a, b);
    const double least = goal_of(case_name, peer_name);
    const double share = 100 * a / most.value;
    if (case_name != last_) table_.rule();
    last_ = case_name;
    const auto number = [](double v) {
      return v >= 1000 ? examples::fixed(v, 0) : examples::significant(v, 4);
    };
    table_.row({case_name, shape, peer_name, number(a), number(b), what.unit, examples::fixed(ratio, 2),
                examples::significant(least, 3), examples::fixed(share, 0), most.name, note});
    report_.row({{"case", case_name},
                 {"shape", shape},
                 {"peer_name", peer_name},
                 {"ours", a},
                 {"peer", b},
                 {"unit", what.unit},
                 {"ratio", ratio},
                 {"goal", least},
                 {"limit", most.value},
                 {"limit_name", most.name},
                 {"spread_ours", ours.spread},
                 {"spread_peer", peer.spread},
                 {"note", note}});
  }
  void set(const std::string& key, examples::report::object value) { report_.set(key, std::move(value)); }
  void print() const { table_.print(stdout); }
  [[nodiscard]] repquant::failure write(const std::string& path) const { return report_.write(path); }

 private:
  examples::table table_{{{"case", examples::align::left},
                          {"shape", examples::align::left},
                          {"peer", examples::align::left},
                          {"ours"},
                          {"peer's"},
                          {"unit", examples::align::left},
                          {"ratio"},
                          {"goal"},
                          {"% of limit"},
                          {"limit", examples::align::left},
                          {"note", examples::align::left}}};
  examples::report report_;
  std::string last_;
};

}  // namespace compare
