// SPDX-License-Identifier: MIT
/// What an edge build compiles: run.hpp alone, one C function per kind of work. symbols.cmake reads what the
/// object needs.
#include <repquant/run.hpp>

#include <cstdint>
#include <span>

namespace rq = repquant;

extern "C" {
std::int32_t device_encode(float x, float scale, std::int32_t zero_point) {
  return rq::uniform{}.encode(x, rq::affine{scale, zero_point});
}
float device_decode(std::int32_t q, float scale) { return rq::log_sqrt2{}.decode(q, rq::log_scale{scale}); }
void device_norm(const float* x, const float* gamma, const float* beta, float* y, std::size_t n) {
  rq::layer_norm_row({x, n}, {gamma, n}, {beta, n}, 1e-5F, {y, n});
}
}
