// SPDX-License-Identifier: MIT
#include <repquant/infer/integer_only/norm.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"
#include <random>

namespace rq = repquant;
namespace io = repquant::integer_only;

namespace {

/// A norm with output steps of `step`, and the row that it is given.
struct problem {
  std::vector<float> gamma, beta, scale;
  std::vector<std::int32_t> zero, gain, offset, x;
  io::norm_plan plan;

  problem(std::size_t n, unsigned seed, double spread, double mean, float step) : x(n) {
    std::mt19937 bits(seed);
    std::normal_distribution<double> normal;
    for (std::size_t i = 0; i < n; ++i) {
      gamma.push_back(static_cast<float>(1 + 0.3 * normal(bits)));
      beta.push_back(static_cast<float>(0.3 * normal(bits)));
      scale.push_back(step * static_cast<float>(std::exp(0.5 * normal(bits))));
      zero.push_back(static_cast<std::int32_t>(i % 16));
      x[i] = static_cast<std::int32_t>(mean + spread * normal(bits));
    }
    gain.resize(n);
    offset.resize(n);
    const rq::failure f = io::prepare(gamma, beta, scale, zero, gain, offset, plan);
    REQUIRE(!f);
  }
  std::vector<float> real_x() const { return {x.begin(), x.end()}; }
  template<class Arch = rq::default_arch>
  std::vector<std::int32_t> run() const {
    std::vector<std::int32_t> d(x.size());
    std::vector<std::int32_t> out(x.size());
    io::norm_row<Arch>(plan, x, d, out);
    return out;
  }
};

}  // namespace

TEST_CASE("integer norms are those of double") {
  for (std::size_t n : {1U, 2U, 3U, 16U, 64U, 100U, 384U, 768U, 1024U}) {
    for (double spread : {3.0, 200.0, 30000.0}) {
      for (double mean : {0.0, 1000.0}) {
        for (bool centred : {true, false}) {
          for (float step : {0.5F, 0.01F}) {
            problem p(n, static_cast<unsigned>(n), spread, mean, step);
            p.plan.centred = centred;
            p.plan.eps = centred ? 2 : 0;
            if (!centred && std::all_of(p.x.begin(), p.x.end(), [](std::int32_t v) { return v == 0; }))
              p.x[0] = 1;
            const std::vector<std::int32_t> out = p.run();
            CHECK(out == p.run<rq::scalar_arch>());
            const std::vector<float> one(n, 1.0F);
            const std::vector<float> none(n, 0.0F);
            const std::vector<double> y = centred ? oracle::layer_norm(p.real_x(), one, none, 2.0)
                                                  : oracle::rms_norm(p.real_x(), one, 0.0);
            double top = 0;
            for (double v : y) top = std::fmax(top, std::fabs(v));
            const double y_error =
                0x1p-13 * top + std::ldexp(1.0, -io::norm_fraction_bits(static_cast<rq::index>(n)));
            double worst = 0;
            for (std::size_t i = 0; i < n; ++i) {
              const double g = static_cast<double>(p.gamma[i]) / static_cast<double>(p.scale[i]);
              const double want =
                  g * y[i] + static_cast<double>(p.beta[i]) / static_cast<double>(p.scale[i]) + p.zero[i];
              // gain and offset are rounded: half a unit each, at the shift that they have
              const double rounding =
                  std::ldexp(0.5, -p.plan.shift) *
                  (1 + std::ldexp(top, io::norm_fraction_bits(static_cast<rq::index>(n))));
              worst = std::fmax(worst, std::fabs(out[i] - want) - 0.5 - std::fabs(g) * y_error - rounding);
            }
            INFO("n " << n << " spread " << spread << " mean " << mean << " centred " << centred << " step "
                      << step);
            CHECK(worst <= 1e-9);
          }
        }
      }
    }
  }
}

TEST_CASE("integer norm: the farthest values, a constant row, in place, codes") {
  problem p(64, 1, 100.0, 0.0, 0.1F);
  const std::vector<std::int32_t> usual = p.run();
  const std::int32_t far = (1 << 23) - 1;  // channels max|x| < 2^29
  for (std::size_t i = 0; i < p.x.size(); ++i) p.x[i] = i % 2 == 0 ? far : -far;
  for (std::int32_t v : p.run()) CHECK(std::abs(v) < 100);
  CHECK(p.run() == p.run<rq::scalar_arch>());

  for (std::int32_t& v : p.x) v = 12345;
  const std::vector<std::int32_t> flat = p.run();
  for (std::size_t i = 0; i < flat.size(); ++i) {
    const double want = static_cast<double>(p.beta[i]) / static_cast<double>(p.scale[i]) + p.zero[i];
    CHECK(std::fabs(flat[i] - want) <= 0.5 + 1e-3);
  }

  problem q(64, 1, 100.0, 0.0, 0.1F);
  io::norm_row(q.plan, q.x, q.x, q.x);
  CHECK(q.x == usual);
  problem r(64, 1, 100.0, 0.0, 0.1F);
  r.plan.lo = 0;
  r.plan.hi = 15;
  const std::vector<std::int32_t> codes = r.run();
  for (std::size_t i = 0; i < codes.size(); ++i) CHECK(codes[i] == std::clamp(usual[i], 0, 15));
}

TEST_CASE("integer norm: what it refuses") {
  std::vector<float> gamma(4, 1.0F);
  std::vector<float> scale(4, 0.1F);
  std::vector<std::int32_t> zero(4, 0);
  std::vector<std::int32_t> gain(4);
  std::vector<std::int32_t> offset(4);
  io::norm_plan plan;
  CHECK(!io::prepare(gamma, {}, scale, zero, gain, offset, plan));
  CHECK(io::prepare({}, {}, {}, {}, {}, {}, plan).code == rq::errc::empty);
  CHECK(io::prepare(gamma, {}, std::span(scale).first(3), zero, gain, offset, plan).code ==
        rq::errc::shape_mismatch);
  scale[2] = 0;
  CHECK(io::prepare(gamma, {}, scale, zero, gain, offset, plan).code == rq::errc::bad_option);
  scale[2] = 0.1F;
  gamma[1] = INFINITY;
  CHECK(io::prepare(gamma, {}, scale, zero, gain, offset, plan).code == rq::errc::non_finite);
  gamma[1] = 1e9F;
  CHECK(io::prepare(gamma, {}, scale, zero, gain, offset, plan).code == rq::errc::too_large);
}
