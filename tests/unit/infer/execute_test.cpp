// SPDX-License-Identifier: MIT
/// Single instructions: what their float steps make of NaN and infinity, and sums that a double does not
/// hold.
#include <repquant/infer/simulated_products.hpp>

#include "catch.hpp"
#include <bit>
#include <limits>

namespace rq = repquant;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

/// The bits of what an instruction makes of two registers of equal rows, and of a table.
template<class Arch>
std::vector<std::uint32_t> bits_of(rq::opcode kind, std::vector<float> a, std::vector<float> b,
                                   rq::index rows, const std::vector<float>& table = {}) {
  std::vector<float> out(a.size());
  rq::instruction s;
  s.kind = kind;
  s.a = 0;
  s.b = 1;
  s.out = 2;
  s.cols = static_cast<std::int32_t>(static_cast<rq::index>(a.size()) / rows);
  s.inner = static_cast<std::int32_t>(rows);
  rq::activation_register file[] = {{reinterpret_cast<std::byte*>(a.data()), rows},
                                    {reinterpret_cast<std::byte*>(b.data()), rows},
                                    {reinterpret_cast<std::byte*>(out.data()), 0}};
  rq::simulated_products products;
  rq::execute<Arch>(s, std::as_bytes(std::span(table)), file, products);
  std::vector<std::uint32_t> bits;
  for (rq::index i = 0; i < file[2].rows * s.cols; ++i)
    bits.push_back(std::bit_cast<std::uint32_t>(out[static_cast<std::size_t>(i)]));
  return bits;
}

template<class Arch>
void makes_one_nan() {
  constexpr std::uint32_t one = 0x7FC00000;
  const auto odd = std::bit_cast<float>(0xFFC12345U);  // of another sign, with a payload
  for (const rq::index cols : {1, 7, 16, 37}) {
    const auto n = static_cast<std::size_t>(cols);
    const auto row = [n](float x) { return std::vector<float>(n, x); };
    const std::vector<std::uint32_t> want(n, one);
    CHECK(bits_of<Arch>(rq::opcode::add, row(inf), row(-inf), 1) == want);
    CHECK(bits_of<Arch>(rq::opcode::add, row(odd), row(1), 1) == want);
    CHECK(bits_of<Arch>(rq::opcode::add, row(1), row(odd), 1) == want);
    CHECK(bits_of<Arch>(rq::opcode::multiply, row(inf), row(0), 1) == want);
    CHECK(bits_of<Arch>(rq::opcode::multiply, row(-0.0F), row(inf), 1) == want);
    CHECK(bits_of<Arch>(rq::opcode::add_rows, row(-inf), {}, 1, row(inf)) == want);
    std::vector<float> two = row(inf);
    two.insert(two.end(), n, -inf);
    CHECK(bits_of<Arch>(rq::opcode::mean_rows, two, {}, 2) == want);
    two.assign(2 * n, odd);
    CHECK(bits_of<Arch>(rq::opcode::mean_rows, two, {}, 2) == want);
    // what is no NaN stays what it is
    const std::vector<std::uint32_t> infinite(n, std::bit_cast<std::uint32_t>(-inf));
    CHECK(bits_of<Arch>(rq::opcode::add, row(-inf), row(1), 1) == infinite);
    CHECK(bits_of<Arch>(rq::opcode::multiply, row(inf), row(-1), 1) == infinite);
  }
}

/// One token through a linear layer whose inputs and weights have zero points of 2^22.
template<class Products>
float far_layer(const std::vector<std::uint8_t>& x, const std::vector<std::uint8_t>& w) {
  rq::instruction s;
  s.kind = rq::opcode::linear;
  s.cols = 1;
  s.inner = static_cast<std::int32_t>(x.size());
  s.bits = s.bits_a = 8;
  s.zero_a = 1 << 22;
  std::vector<std::byte> constants(x.size() + 12);
  std::memcpy(constants.data(), w.data(), w.size());
  const std::int32_t zero = 1 << 22;
  const float scale[] = {1, 0};
  s.data[1] = w.size();
  s.data[2] = w.size() + 4;
  s.data[3] = w.size() + 8;
  std::memcpy(constants.data() + s.data[1], &zero, sizeof zero);
  std::memcpy(constants.data() + s.data[2], scale, sizeof scale);
  std::vector<std::uint64_t> packed(rq::packed_bytes(s, constants) / 8 + 1);
  const std::span<std::byte> weights =
      std::as_writable_bytes(std::span(packed)).first(rq::packed_bytes(s, constants));
  rq::pack_products(s, constants, weights);
  std::vector<std::uint64_t> scratch(Products::scratch_bytes(s, 1, 1) / 8 + 1);
  Products products{weights, std::as_writable_bytes(std::span(scratch))};
  float y = 0;
  products.template linear<rq::default_arch>(s, constants, x.data(), 1, &y);
  return y;
}

}  // namespace

TEST_CASE("every NaN of a float step has one bit pattern", "[infer][execute]") {
  makes_one_nan<rq::scalar_arch>();
  makes_one_nan<rq::default_arch>();
}

TEST_CASE("linear sums beyond what a double holds are exact in both products", "[infer][execute]") {
  // 608 products of about 2^44. Those of x = 0 are multiples of 2^22, the last one is 2^44 - 2^23 + 1: with
  // weights that add up to 382 the sum is one more than the middle of two floats of which the lower is even
  std::vector<std::uint8_t> x(608, 0);
  std::vector<std::uint8_t> w(608, 0);
  w[0] = w[1] = 191;
  x[607] = w[607] = 1;
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    sum += (std::int64_t{x[k]} - (1 << 22)) * (std::int64_t{w[k]} - (1 << 22));
  }
  REQUIRE(sum > std::int64_t{1} << 53);
  REQUIRE(static_cast<float>(sum) != static_cast<float>(sum - 1));
  CHECK(far_layer<rq::integer_products>(x, w) == static_cast<float>(sum));
  CHECK(far_layer<rq::simulated_products>(x, w) == static_cast<float>(sum));
}
