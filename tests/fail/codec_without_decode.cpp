// SPDX-License-Identifier: MIT
/// A codec that lacks a function is refused by the name of what it lacks.
// expect: HasDecode
#include <repquant/codec/concept.hpp>

namespace {
struct half_a_codec {
  struct params {
    float scale;
  };
  [[nodiscard]] static int levels() { return 2; }
  [[nodiscard]] static params fit(repquant::range r) { return {r.hi}; }
  [[nodiscard]] static std::int32_t encode(float x, const params& p) { return x > p.scale ? 1 : 0; }
#if !defined(REPQUANT_MUST_FAIL)
  [[nodiscard]] static float decode(std::int32_t q, const params& p) {
    return static_cast<float>(q) * p.scale;
  }
#endif
};

template<repquant::Codec C>
int levels(const C& codec) {
  return codec.levels();
}
}  // namespace

int main() { return levels(half_a_codec{}); }
