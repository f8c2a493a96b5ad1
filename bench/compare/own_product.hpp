// SPDX-License-Identifier: MIT
/// Our product of codes by packed weights as a contender, in each of the forms in which a peer gives its
/// result.
#pragma once

#include <repquant/kernel/panel_layout.hpp>

#include "memory.hpp"
#include "settings.hpp"
#include "team.hpp"
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace compare {

/// The instruction set of integer products that this build may use.
inline constexpr repquant::instruction_set own_set = repquant::instruction_set_of<repquant::default_arch>;

/// Codes of activations with packed weights, run by the threads of a team.
class own_product {
 public:
  /// What distinguishes one product from another besides its operands.
  struct form {
    int x_bits = 8;
    int w_bits = 8;
    repquant::packing_goal goal = repquant::packing_goal::speed;
    /// With groups of weights along k, each with a scale of its own: how many in one. x then has zero point
    /// 128.
    index group = 0;
  };
  /// x [m x k] below 2^x_bits, which must outlive this; w [n x k] signed, of w_bits; threads of exec.
  own_product(const extent& size, std::span<const std::uint8_t> x, std::span<const std::int8_t> w,
              const form& f, const team& exec, int threads);

  [[nodiscard]] repquant::panel_layout layout() const;

  /// The sums; without groups.
  void to_int32(std::int32_t* y);
  /// Sums times a scale per output, plus a bias; with groups, sums times the scales of their groups.
  void to_float(float* y);
  /// Codes of 8 bits of sums times a scale per output, plus a bias; without groups.
  void to_codes(std::uint8_t* y);
  /// The scale of group g of output j.
  [[nodiscard]] static float group_scale(index j, index g) {
    return 1e-3F * static_cast<float>(1 + (7 * j + 3 * g) % 11);
  }

 private:
  [[nodiscard]] std::size_t scratch_bytes() const;
  template<class Epilogue>
  void run(const Epilogue& epilogue);

  extent size_;
  std::span<const std::uint8_t> x_;
  team exec_;
  index threads_;
  buffer<std::byte> packed_;
  buffer<std::byte> scratch_;
  std::vector<float> multiplier_;
  std::vector<float> offset_;
};

/// The name of the limit of the instructions that a layout is computed with; empty where none is measured.
std::string limit_of(const repquant::panel_layout& l);

}  // namespace compare
