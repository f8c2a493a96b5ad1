// SPDX-License-Identifier: MIT
/// For the author of an inference engine: one header, one kernel call, codes in memory that you own.
/// No Eigen, no heap, no exceptions.
#include <repquant/run.hpp>

#include <array>
#include <cstdio>

namespace rq = repquant;

namespace {

template<std::size_t N>
void print(const char* name, const std::array<std::uint8_t, N>& codes) {
  static_cast<void>(std::printf("%-22s", name));
  for (const std::uint8_t q : codes) static_cast<void>(std::printf(" %3d", q));
  static_cast<void>(std::printf("\n"));
}

}  // namespace

int main() {
  const std::array<float, 8> activations{-1.5F, -0.75F, -0.1F, 0.0F, 0.2F, 0.8F, 1.6F, 2.5F};
  const std::array<float, 8> probabilities{0.5F,  0.25F, 0.12F, 0.06F,
                                           0.04F, 0.02F, 0.01F, 0.0F};  // a softmax row

  // [quote]
  const rq::uniform eight_bits{.bits = 8};
  const rq::affine scale = eight_bits.fit({-1.5F, 2.5F});  // the range that calibration found
  std::array<std::uint8_t, 8> activation_codes{};
  rq::encode(eight_bits, scale, activations, activation_codes);

  const rq::log2 four_bits{.bits = 4};
  const rq::log_scale one = four_bits.fit({0.0F, 1.0F});
  std::array<std::uint8_t, 8> probability_codes{};
  rq::encode(four_bits, one, probabilities, probability_codes);
  // [end]

  print("uniform, 8 bits:", activation_codes);
  print("log2, 4 bits (15 = 0):", probability_codes);
}
