// SPDX-License-Identifier: MIT
/// Door 1 without exceptions and RTTI.
#include <repquant/run.hpp>

#include "check.hpp"

namespace rq = repquant;

int device_checks();
int device_checks() {
  checks c{"device"};
  const rq::uniform codec{4, false};
  const rq::affine params = codec.fit({-1, 2});
  c.that(codec.encode(2.0F, params) == 15, "uniform: the upper end is the last code");
  c.that(codec.decode(codec.encode(0.0F, params), params) == 0.0F, "uniform: zero is exact");
  const rq::log_sqrt2 log_codec{4};
  c.that(log_codec.encode(0.5F, rq::log_scale{1.0F}) == 2, "log_sqrt2: a half is code 2");
  return c.failed();
}
