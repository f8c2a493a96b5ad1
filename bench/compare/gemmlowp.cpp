// SPDX-License-Identifier: MIT
/// gemmlowp as a contender.
#include "peers.hpp"
#include <memory>
#include <public/gemmlowp.h>
#include <tuple>

namespace compare {

contender gemmlowp_gemm(const code_product& p, int threads) {
  using namespace gemmlowp;
  const auto context = std::make_shared<GemmContext>();
  context->set_max_num_threads(threads);
  return {"gemmlowp", [p, context] {
            const auto m = static_cast<int>(p.size.m);
            const auto n = static_cast<int>(p.size.n);
            const auto k = static_cast<int>(p.size.k);
            const MatrixMap<const std::uint8_t, MapOrder::RowMajor> a(p.a, m, k, k);
            const MatrixMap<const std::uint8_t, MapOrder::ColMajor> w(p.w_unsigned, k, n, k);
            MatrixMap<std::int32_t, MapOrder::RowMajor> c(p.c, m, n, n);
            GemmWithOutputPipeline<std::uint8_t, std::int32_t, DefaultL8R8BitDepthParams>(
                context.get(), a, w, &c, 0, -128, std::make_tuple());
          }};
}

}  // namespace compare
