// SPDX-License-Identifier: MIT
#include <repquant/kernel/center.hpp>

#include "catch.hpp"
#include <vector>

namespace rq = repquant;

TEST_CASE("center_largest is the largest centred magnitude") {
  STATIC_REQUIRE(rq::center_largest(0) == 255);
  STATIC_REQUIRE(rq::center_largest(128) == 128);
  STATIC_REQUIRE(rq::center_largest(-100, 16) == 115);
  STATIC_REQUIRE(rq::center_largest(300, 16) == 300);
}

TEST_CASE("center subtracts the zero point from every code") {
  std::vector<std::uint8_t> codes(256 + 19);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
  for (std::int32_t z : {0, 7, 128, 255, -1, -32512, 32767}) {
    REQUIRE(rq::center_fits(z));
    for (std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{31}, std::size_t{256}, codes.size()}) {
      std::vector<std::int16_t> wide(n + 1, 99);
      std::vector<std::int16_t> scalar(n + 1, 99);
      rq::center(std::span(codes).first(n), z, std::span(wide).first(n));
      rq::center<rq::scalar_arch>(std::span(codes).first(n), z, std::span(scalar).first(n));
      bool good = wide[n] == 99 && scalar == wide;
      for (std::size_t i = 0; i < n; ++i) good = good && wide[i] == static_cast<int>(codes[i]) - z;
      CHECK(good);
    }
  }
  CHECK_FALSE(rq::center_fits(-32513));
  CHECK_FALSE(rq::center_fits(32768));
}

TEST_CASE("center subtracts every column's own zero point") {
  for (std::size_t n : {std::size_t{1}, std::size_t{15}, std::size_t{64}, std::size_t{101}}) {
    std::vector<std::uint8_t> codes(n);
    std::vector<std::int16_t> zero(n);
    for (std::size_t i = 0; i < n; ++i) {
      codes[i] = static_cast<std::uint8_t>(i * 37);
      zero[i] = static_cast<std::int16_t>(i % 3 == 0 ? -32512 : i % 3 == 1 ? 32767 : static_cast<int>(i));
    }
    std::vector<std::int16_t> wide(n + 1, 99);
    std::vector<std::int16_t> scalar(n + 1, 99);
    const std::span<const std::int16_t> zeros(zero);
    rq::center(codes, zeros, std::span(wide).first(n));
    rq::center<rq::scalar_arch>(codes, zeros, std::span(scalar).first(n));
    bool good = wide[n] == 99 && scalar == wide;
    for (std::size_t i = 0; i < n; ++i) good = good && wide[i] == static_cast<int>(codes[i]) - zero[i];
    CHECK(good);
  }
}

TEST_CASE("center_transposed turns rows into columns") {
  for (rq::index rows : {1, 5, 33}) {
    for (rq::index cols : {1, 16, 37}) {
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * (cols + 2)));
      for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i * 7);
      std::vector<std::int16_t> out(static_cast<std::size_t>(cols * (rows + 1)), 99);
      std::vector<std::int32_t> zero(static_cast<std::size_t>(cols));
      for (std::size_t j = 0; j < zero.size(); ++j) zero[j] = 9 - 50 * static_cast<std::int32_t>(j);
      rq::center_transposed(codes.data(), rows, cols, cols + 2, zero, out.data(), rows + 1);
      bool good = true;
      for (rq::index j = 0; j < cols; ++j) {
        for (rq::index i = 0; i < rows; ++i) {
          good = good &&
                 out[static_cast<std::size_t>(j * (rows + 1) + i)] ==
                     codes[static_cast<std::size_t>(i * (cols + 2) + j)] - zero[static_cast<std::size_t>(j)];
        }
        good = good && out[static_cast<std::size_t>(j * (rows + 1) + rows)] == 99;
      }
      CHECK(good);
    }
  }
}
