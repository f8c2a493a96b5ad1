// SPDX-License-Identifier: MIT
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/train/fake_logarithmic.hpp>
#include <repquant/train/fake_quantize.hpp>

#include "gradients.hpp"

namespace rq = repquant;
namespace d = repquant::differentiable;
using gradients::noise;

namespace {

struct parameters {
  rq::matrix<> scale;
  rq::matrix<> zero;
  float s(rq::index i, rq::index j) const { return at(scale, i, j); }
  int z(rq::index i, rq::index j) const { return static_cast<int>(std::nearbyint(at(zero, i, j))); }
  static float at(const rq::matrix<>& m, rq::index i, rq::index j) {
    return m(m.rows() > 1 ? i : 0, m.cols() > 1 ? j : 0);
  }
};

/// The gradients by the documented formula, in double, entry by entry.
struct expected {
  rq::matrix<double> x, scale, zero;
};
expected formula(const rq::matrix<>& x, const parameters& p, const rq::matrix<>& g, int levels) {
  expected e{rq::matrix<double>::Zero(x.rows(), x.cols()),
             rq::matrix<double>::Zero(p.scale.rows(), p.scale.cols()),
             rq::matrix<double>::Zero(p.zero.rows(), p.zero.cols())};
  for (rq::index i = 0; i < x.rows(); ++i) {
    for (rq::index j = 0; j < x.cols(); ++j) {
      const double u = static_cast<double>(x(i, j)) / static_cast<double>(p.s(i, j));
      const double lo = -p.z(i, j);
      const double hi = levels - 1 + lo;
      const double slope = static_cast<double>(g(i, j));
      double& scale = e.scale(p.scale.rows() > 1 ? i : 0, p.scale.cols() > 1 ? j : 0);
      double& zero = e.zero(p.zero.rows() > 1 ? i : 0, p.zero.cols() > 1 ? j : 0);
      const double r = std::nearbyint(u);
      if (r < lo || r > hi) {
        scale += slope * (r < lo ? lo : hi);
        zero -= slope * static_cast<double>(p.s(i, j));
      } else {
        e.x(i, j) = slope;
        scale += slope * (r - u);
      }
    }
  }
  return e;
}

double worst(const rq::matrix<>& have, const rq::matrix<double>& want) {
  return (have.cast<double>() - want).cwiseAbs().maxCoeff() / std::max(1.0, want.cwiseAbs().maxCoeff());
}

}  // namespace

TEST_CASE("fake quantization: values are those of the codec, gradients those of the formula", "[train]") {
  const rq::matrix<> x = noise(6, 40, 1);
  const rq::matrix<> g = noise(6, 40, 2);
  rq::matrix<> positive = noise(6, 40, 3).cwiseAbs() * 0.1F;
  positive.array() += 0.1F;
  const rq::matrix<> zeros = noise(6, 40, 4, 3).array() + 7.3F;
  const auto [rows, cols] = GENERATE(table<rq::index, rq::index>({{1, 1}, {6, 1}, {1, 40}}));
  const parameters p{positive.topLeftCorner(rows, cols), zeros.topLeftCorner(rows, cols)};
  rq::tape t;
  const rq::node nx = t.variable(x);
  const rq::node ns = t.variable(p.scale);
  const rq::node nz = t.variable(p.zero);
  const float factor = d::step_size_factor(x.size(), 16);
  CHECK(factor == Approx(1 / std::sqrt(240.0 * 15.0)));
  const rq::node y = d::fake_quantize(t, nx, ns, nz, {.levels = 16, .scale_gradient = factor});
  const rq::uniform codec{.bits = 4};
  for (rq::index i = 0; i < x.rows(); ++i) {
    for (rq::index j = 0; j < x.cols(); ++j) {
      const rq::affine a{p.s(i, j), p.z(i, j)};
      CHECK(t.value(y)(i, j) == codec.decode(codec.encode(x(i, j), a), a));
    }
  }
  const rq::node loss = t.result(1, 1, {y});
  t.value_of(loss).setZero();
  t.on_backward(loss, [y, &g](rq::tape& u) { u.add_gradient(y, g); });
  t.backward(loss);
  expected e = formula(x, p, g, 16);
  e.scale *= static_cast<double>(factor);
  CHECK(t.gradient(nx).cwiseAbs().minCoeff() == 0.0F);  // some are clamped
  CHECK(worst(t.gradient(nx), e.x) == 0);
  CHECK(worst(t.gradient(ns), e.scale) <= 1e-5);  // sums of up to 240 floats
  CHECK(worst(t.gradient(nz), e.zero) <= 1e-5);
}

TEMPLATE_TEST_CASE("fake quantization: logarithmic codes", "[train]", rq::log2, rq::log_sqrt2) {
  rq::matrix<> x = noise(5, 30, 1).cwiseAbs() * 0.3F;
  x(0, 0) = 0;
  x(0, 1) = 1;
  x(0, 2) = 1e-6F;
  rq::matrix<> s(1, 1);
  s << 0.7F;
  const TestType codec{.bits = 3};
  rq::tape t;
  const rq::node nx = t.variable(x);
  const rq::node ns = t.variable(s);
  const rq::node y = d::fake_quantize(t, nx, ns, codec);
  t.backward(d::sum(t, y));
  double scale = 0;
  for (rq::index i = 0; i < x.size(); ++i) {
    const float v = x.data()[i];
    const float want = codec.decode(codec.encode(v, {s(0, 0)}), {s(0, 0)});
    CHECK(t.value(y).data()[i] == want);
    const bool inside = want != 0.0F && v <= s(0, 0);
    CHECK(t.gradient(nx).data()[i] == (inside ? 1.0F : 0.0F));
    if (want == 0.0F) continue;
    scale += static_cast<double>(inside ? want - v : want) / static_cast<double>(s(0, 0));
  }
  CHECK(t.gradient(nx).data()[1] == 0.0F);
  CHECK(t.gradient(nx).data()[2] == 0.0F);
  CHECK(t.gradient(ns)(0, 0) == Approx(scale).margin(1e-4));
}
