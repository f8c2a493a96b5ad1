// SPDX-License-Identifier: MIT
/// Our product, packed and run.
#include "own_product.hpp"

#include <repquant/infer/epilogue.hpp>
#include <repquant/kernel/packed_weights.hpp>

namespace compare {

namespace rq = repquant;

own_product::own_product(const extent& size, std::span<const std::uint8_t> x, std::span<const std::int8_t> w,
                         const form& f, const team& exec, int threads)
    : size_(size), x_(x), exec_(exec), threads_(threads) {
  const int middle = 1 << (f.w_bits - 1);
  buffer<std::uint8_t> codes(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) codes[i] = static_cast<std::uint8_t>(w[i] + middle);
  const index groups = f.group == 0 ? 1 : (size.k + f.group - 1) / f.group;
  const std::vector<std::int32_t> zero(static_cast<std::size_t>(size.n * groups), middle);
  std::vector<float> scale;
  for (index j = 0; f.group > 0 && j < size.n; ++j) {
    for (index g = 0; g < groups; ++g) scale.push_back(group_scale(j, g));
  }
  const std::int32_t x_zero = f.group > 0 ? 128 : 0;
  const rq::weight_codes weights{
      {codes.data(), size.k, 1}, size.k, size.n, f.x_bits, f.w_bits, x_zero, zero, f.group, scale};
  const rq::packing_plan plan = rq::plan_packing(own_set, weights, f.goal);
  packed_.resize(plan.bytes());
  rq::pack_weights(plan, weights, packed_);
  scratch_.resize(static_cast<std::size_t>(threads) * scratch_bytes());
  multiplier_.assign(static_cast<std::size_t>(size.n), 1e-4F);
  offset_.assign(multiplier_.size(), 0.5F);
}

rq::panel_layout own_product::layout() const { return rq::view_weights(packed_).layout; }
std::size_t own_product::scratch_bytes() const { return (rq::gemm_scratch_bytes(layout()) + 127) / 64 * 64; }

/// The panels in as many pieces as there are threads.
template<class Epilogue>
void own_product::run(const Epilogue& epilogue) {
  const rq::gemm_weights w = rq::view_weights(packed_);
  const index panels = w.layout.panels();
  const std::size_t room = scratch_bytes();
  exec_(threads_, [&](index t) {
    const index first = panels * t / threads_;
    const index last = panels * (t + 1) / threads_;
    const std::span scratch = std::span(scratch_).subspan(static_cast<std::size_t>(t) * room, room);
    if constexpr (std::is_invocable_v<const Epilogue&, index, index, const float*, index>) {
      rq::gemm_groups<own_set>(w, x_.data(), size_.m, size_.k, first, last, scratch, epilogue);
    } else {
      rq::gemm<own_set>(w, x_.data(), size_.m, size_.k, first, last, scratch, epilogue);
    }
  });
}
void own_product::to_int32(std::int32_t* y) { run(rq::sum_rows{y, size_.n}); }
void own_product::to_float(float* y) {
  if (layout().group == 0) return run(rq::real_rows<>{multiplier_, offset_, y, size_.n});
  run([y, n = size_.n](index row, index column, const float* sums, index count) {
    std::copy(sums, sums + count, y + row * n + column);
  });
}
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
