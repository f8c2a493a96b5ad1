// SPDX-License-Identifier: MIT
/// Our product of codes by packed weights as a contender, in each of the forms in which a peer gives its result.
#pragma once

#include "memory.hpp"
#include "settings.hpp"
#include "team.hpp"
#include <repquant/kernel/panel_layout.hpp>

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
  /// x [m x k] below 2^x_bits, which must outlive this; w [n x k] signed, of w_bits.
  own_product(const extent& size, std::span<const std::uint8_t> x, int x_bits, std::span<const std::int8_t> w,
              int w_bits, const team& exec, int threads,
              repquant::packing_goal goal = repquant::packing_goal::speed);

  [[nodiscard]] repquant::panel_layout layout() const;

  /// The sums.
  void to_int32(std::int32_t* y);
  /// Sums times a scale per output, plus a bias.
  void to_float(float* y);
  /// The same as codes of 8 bits.
  void to_codes(std::uint8_t* y);

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
