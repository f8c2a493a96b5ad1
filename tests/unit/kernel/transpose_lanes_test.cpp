// SPDX-License-Identifier: MIT
/// transpose_lanes: place j of register i becomes place i of register j, on every register.
#include <repquant/kernel/transpose_lanes.hpp>

#include "catch.hpp"
#include "unit/kernel/architectures.hpp"

namespace rq = repquant;

TEST_CASE("transpose_lanes exchanges rows and columns", "[kernel][transpose]") {
  architectures::for_each([]<class Arch>() {
    using V = rq::lane_of<Arch>;
    constexpr std::size_t width = rq::lane_width<V>;
    std::array<float, width * width> in{};
    std::array<float, width * width> out{};
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(7 * i + 2);
    std::array<V, width> square;
    for (std::size_t i = 0; i < width; ++i) square[i] = rq::lane::load<V>(in.data() + i * width);
    rq::transpose_lanes(square);
    for (std::size_t i = 0; i < width; ++i) rq::lane::store(out.data() + i * width, square[i]);
    int wrong = 0;
    for (std::size_t i = 0; i < width; ++i) {
      for (std::size_t j = 0; j < width; ++j) wrong += out[i * width + j] == in[j * width + i] ? 0 : 1;
    }
    CAPTURE(width);
    CHECK(wrong == 0);
  });
}
