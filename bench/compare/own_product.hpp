// SPDX-License-Identifier: MIT
/// Our product of codes by packed weights as a contender: in each of the forms in which a peer gives its result.
#pragma once

#include "memory.hpp"
#include "race.hpp"
#include "settings.hpp"
#include "team.hpp"
#include <repquant/codec/uniform.hpp>
#include <repquant/infer/requantize.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/packed_weights.hpp>

#include <memory>
#include <span>

namespace compare {

/// The instruction set of integer products that this build may use.
inline constexpr repquant::instruction_set own_set = repquant::instruction_set::avx2;  // TODO

/// Codes of activations, packed weights, and the results.
class own_product {
 public:
  /// x [m x k] below 2^x_bits; w [n x k] signed of w_bits.
  own_product(const extent& size, std::span<const std::uint8_t> x, int x_bits, std::span<const std::int8_t> w,
              int w_bits, const team& exec, int threads,
              repquant::packing_goal goal = repquant::packing_goal::speed)
      : size_(size), x_(x), exec_(exec), threads_(threads) {
    const int middle = 1 << (w_bits - 1);
    buffer<std::uint8_t> codes(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) codes[i] = static_cast<std::uint8_t>(w[i] + middle);
    const std::vector<std::int32_t> zero(static_cast<std::size_t>(size.n), middle);
    const repquant::weight_codes weights{{codes.data(), size.k, 1}, size.k, size.n, x_bits, w_bits, 0, zero};
    const repquant::packing_plan plan = repquant::plan_packing(own_set, weights, goal);
    packed_.resize(plan.bytes());
    repquant::pack_weights(plan, weights, packed_);
    scratch_.resize(static_cast<std::size_t>(threads) * scratch_bytes());
    multiplier_.assign(static_cast<std::size_t>(size.n), 1e-4F);
    offset_.assign(multiplier_.size(), 0.5F);
  }

  [[nodiscard]] const repquant::panel_layout& layout() const { return weights_().layout; }
  [[nodiscard]] const extent& size() const { return size_; }
  [[nodiscard]] index packed_bytes() const { return layout().bytes(); }

  void to_int32(std::int32_t* y) {
    run([&](index row, index column, const auto* sums, index count) {
      for (index j = 0; j < count; ++j) y[row * size_.n + column + j] = static_cast<std::int32_t>(sums[j]);
    });
  }
  void to_float(float* y) {
    run([&](index row, index column, const auto* sums, index count) {
      scaled(column, sums, count, y + row * size_.n + column);
    });
  }
  void to_codes(std::uint8_t* y) {
    constexpr repquant::uniform codec{.bits = 8};
    run([&](index row, index column, const auto* sums, index count) {
      float values[256];
      scaled(column, sums, count, values);
      const auto n = static_cast<std::size_t>(count);
      repquant::encode(codec, repquant::affine{0.02F, 128}, std::span<const float>(values, n),
                       std::span<std::uint8_t>(y + row * size_.n + column, n));
    });
  }

 private:
  [[nodiscard]] repquant::gemm_weights weights_() const { return repquant::view_weights(packed_); }
  [[nodiscard]] std::size_t scratch_bytes() const { return repquant::gemm_scratch_bytes(layout()) + 64; }

  template<class Sum>
  void scaled(index column, const Sum* sums, index count, float* y) const {
    const auto at = static_cast<std::size_t>(column);
    const auto n = static_cast<std::size_t>(count);
    repquant::requantize_row(std::span<const Sum>(sums, n), std::span<const float>(multiplier_).subspan(at, n),
                             std::span<const float>(offset_).subspan(at, n), std::span<float>(y, n));
  }
  /// The panels in as many pieces as there are threads.
  template<class Epilogue>
  void run(const Epilogue& epilogue) {
    const repquant::gemm_weights w = weights_();
    const index panels = w.layout.panels();
    exec_(threads_, [&](index t) {
      repquant::gemm<own_set>(w, x_.data(), size_.m, size_.k, panels * t / threads_, panels * (t + 1) / threads_,
                              std::span(scratch_).subspan(static_cast<std::size_t>(t) * scratch_bytes(),
                                                          scratch_bytes()),
                              epilogue);
    });
  }

  extent size_;
  std::span<const std::uint8_t> x_;
  team exec_;
  index threads_;
  buffer<std::byte> packed_;
  buffer<std::byte> scratch_;
  std::vector<float> multiplier_;
  std::vector<float> offset_;
};

/// The limit of the instructions that a layout is computed with.
inline std::string limit_of(const repquant::panel_layout& l) {
  using enum repquant::instruction_set;
  const bool wide = l.set == avx512 || l.set == avx512_vnni;
  const std::string bits = wide ? ", 512 bits" : ", 256 bits";
  if (l.set != avx2 && l.set != avx_vnni && !wide) return "";
  if (l.storage == repquant::panel_storage::pairs) return "int16 madd" + bits;
  if (repquant::sums_bytes_exactly(l.set)) return "int8 dpbusd" + bits;
  if (l.products < 2) return "int16 madd" + bits;
  if (l.products < 4) return "int8 maddubs+madd" + bits;
  return (l.products < 8 ? "int8 2 maddubs+madd" : "int8 maddubs") + bits;
}

}  // namespace compare
