// SPDX-License-Identifier: MIT
/// transpose_bytes: every entry where it belongs, nothing beside it, for all shapes around squares of 8.
#include <repquant/kernel/transpose_bytes.hpp>

#include "catch.hpp"
#include "unit/kernel/guarded.hpp"
#include <algorithm>
#include <random>

namespace rq = repquant;

TEST_CASE("transpose_bytes exchanges rows and columns and touches nothing else", "[kernel][transpose]") {
  std::mt19937 random(3);
  for (const rq::index rows : {0, 1, 3, 7, 8, 9, 15, 16, 17, 64, 67}) {
    for (const rq::index cols : {0, 1, 2, 7, 8, 9, 16, 23, 64, 65}) {
      for (const rq::index gap : {0, 1, 5}) {
        const rq::index from_stride = cols + gap;
        const rq::index to_stride = rows + 2 * gap;
        const auto bytes = [](rq::index lines, rq::index stride, rq::index line) {
          return lines == 0 ? std::size_t{0} : static_cast<std::size_t>((lines - 1) * stride + line);
        };
        for (const guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
          const guarded::memory<std::uint8_t> from(bytes(rows, from_stride, cols), edge);
          const guarded::memory<std::uint8_t> to(bytes(cols, to_stride, rows), edge);
          for (std::uint8_t& b : from.span()) b = static_cast<std::uint8_t>(random());
          std::fill(to.span().begin(), to.span().end(), std::uint8_t{0xA5});
          rq::transpose_bytes(from.data(), from_stride, rows, cols, to.data(), to_stride);
          int wrong = 0;
          for (rq::index k = 0; k < static_cast<rq::index>(to.span().size()); ++k) {
            const rq::index i = k % to_stride;
            const rq::index j = k / to_stride;
            const std::uint8_t want =
                i < rows ? from.span()[static_cast<std::size_t>(i * from_stride + j)] : std::uint8_t{0xA5};
            wrong += to.span()[static_cast<std::size_t>(k)] == want ? 0 : 1;
          }
          CAPTURE(rows, cols, gap);
          CHECK(wrong == 0);
        }
      }
    }
  }
}
