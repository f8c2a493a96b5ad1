// SPDX-License-Identifier: MIT
/// Doors 2 to 4 without exceptions and RTTI.
#include <repquant/repquant.hpp>

#include "check.hpp"
#include <limits>
#include <vector>

namespace rq = repquant;

int host_checks();
int host_checks() {
  checks c{"host"};
  rq::matrix<> m = rq::matrix<>::Constant(2, 3, 0.5F);
  c.that(!rq::check_finite(m, "m"), "a finite matrix has no failure");
  m(1, 2) = std::numeric_limits<float>::quiet_NaN();
  const rq::failure f = rq::check_finite(m, "m");
  c.that(f.code == rq::errc::non_finite && f.got == 1, "one NaN is counted");
  const auto q = rq::uniform_quantizer::make({}, {}, {2, 3}, std::vector<rq::affine>(2));
  c.that(!q && q.error().code == rq::errc::shape_mismatch, "two parameter sets for one group are refused");
  return c.failed();
}
