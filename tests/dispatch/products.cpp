// SPDX-License-Identifier: MIT
/// The products of all instruction sets in one unit that is compiled without a flag for any: what
/// symbols.py reads.
#include <repquant/kernel/cpu.hpp>
#include <repquant/kernel/gemm.hpp>

namespace rq = repquant;

extern "C" void every_product(const rq::gemm_weights* w, const std::uint8_t* x, rq::index rows,
                              std::byte* scratch, std::int32_t* out) {
  rq::with_instruction_set(w->layout.set, [&]<rq::instruction_set Set>() {
    rq::gemm<Set>(*w, x, rows, w->layout.k, 0, w->layout.panels(),
                  {scratch, rq::gemm_scratch_bytes(w->layout)},
                  [&](rq::index row, rq::index column, const auto* sums, rq::index count) {
                    for (rq::index j = 0; j < count; ++j)
                      out[row * w->layout.n + column + j] = static_cast<std::int32_t>(sums[j]);
                  });
  });
}
