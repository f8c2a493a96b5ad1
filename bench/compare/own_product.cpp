// SPDX-License-Identifier: MIT
#include "own_product.hpp"

#include <repquant/infer/epilogue.hpp>
#include <repquant/kernel/packed_weights.hpp>

namespace compare {

namespace rq = repquant;

own_product::own_product(const extent& size, std::span<const std::uint8_t> x, int x_bits,
                         std::span<const std::int8_t> w, int w_bits, const team& exec, int threads,
                         rq::packing_goal goal)
    : size_(size), x_(x), exec_(exec), threads_(threads) {
  const int middle = 1 << (w_bits - 1);
  buffer<std::uint8_t> codes(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) codes[i] = static_cast<std::uint8_t>(w[i] + middle);
  const std::vector<std::int32_t> zero(static_cast<std::size_t>(size.n), middle);
  const rq::weight_codes weights{{codes.data(), size.k, 1}, size.k, size.n, x_bits, w_bits, 0, zero};
  const rq::packing_plan plan = rq::plan_packing(own_set, weights, goal);
  packed_.resize(plan.bytes());
  rq::pack_weights(plan, weights, packed_);
  scratch_.resize(static_cast<std::size_t>(threads) * scratch_bytes());
  multiplier_.assign(static_cast<std::size_t>(size.n), 1e-4F);
  offset_.assign(multiplier_.size(), 0.5F);
}

rq::panel_layout own_product::layout() const { return rq::view_weights(packed_).layout; }
std::size_t own_product::scratch_bytes() const { return rq::gemm_scratch_bytes(layout()) + 64; }

/// The panels in as many pieces as there are threads.
template<class Epilogue>
void own_product::run(const Epilogue& epilogue) {
  const rq::gemm_weights w = rq::view_weights(packed_);
  const index panels = w.layout.panels();
  const std::size_t room = rq::gemm_scratch_bytes(w.layout) + 64;
  exec_(threads_, [&](index t) {
    rq::gemm<own_set>(w, x_.data(), size_.m, size_.k, panels * t / threads_, panels * (t + 1) / threads_,
                      std::span(scratch_).subspan(static_cast<std::size_t>(t) * room, room), epilogue);
  });
}
void own_product::to_int32(std::int32_t* y) { run(rq::sum_rows{y, size_.n}); }
void own_product::to_float(float* y) { run(rq::real_rows<>{multiplier_, offset_, y, size_.n}); }
void own_product::to_codes(std::uint8_t* y) {
  const rq::encode_rows<> encode{{.bits = 8}, {0.02F, 128}, y, size_.n};
  run(rq::requantized<rq::encode_rows<>>{multiplier_, offset_, encode});
}

std::string limit_of(const rq::panel_layout& l) {
  using enum rq::instruction_set;
  const bool wide = l.set == avx512 || l.set == avx512_vnni;
  const std::string bits = wide ? ", 512 bits" : ", 256 bits";
  if (l.set != avx2 && l.set != avx_vnni && !wide) return "";
  if (rq::sums_bytes_exactly(l.set)) return "int8 dpbusd" + bits;
  if (l.storage == rq::panel_storage::pairs || l.products < 2) return "int16 madd" + bits;
  if (l.products < 4) return "int8 maddubs+madd" + bits;
  return (l.products < 8 ? "int8 2 maddubs+madd" : "int8 maddubs") + bits;
}

}  // namespace compare
