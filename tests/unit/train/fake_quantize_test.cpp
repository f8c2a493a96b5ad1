// SPDX-License-Identifier: MIT
#include <repquant/codec/log2.hpp>
#include <repquant/codec/log_sqrt2.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/train/attention.hpp>
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

TEST_CASE("fake quantization: growth and count are the value in other units", "[train]") {
  const rq::matrix<> x = noise(6, 40, 1);
  const rq::matrix<> g = noise(6, 40, 2);
  const rq::index cols = GENERATE(1, 40);
  const rq::matrix<> scale = (noise(1, cols, 3).cwiseAbs() * 0.1F).array() + 0.1F;
  const rq::matrix<> first = (noise(1, cols, 5).cwiseAbs() * 0.1F).array() + 0.1F;
  const rq::matrix<> zero = noise(1, cols, 4, 3).array() + 7.3F;
  struct outcome {
    rq::matrix<> y, x, scale, zero;
  };
  const auto run = [&](const auto& make) {
    rq::tape t;
    const rq::node nx = t.variable(x);
    const rq::node ns = t.variable(scale);
    const rq::node nz = t.variable(zero);
    const rq::node y = make(t, nx, ns, nz);
    const rq::node loss = t.result(1, 1, {y});
    t.value_of(loss).setZero();
    t.on_backward(loss, [y, &g](rq::tape& u) { u.add_gradient(y, g); });
    t.backward(loss);
    return outcome{t.value(y), t.gradient(nx), t.gradient(ns), t.gradient(nz)};
  };
  const bool counted = GENERATE(false, true);
  const outcome have = run([&](rq::tape& t, rq::node nx, rq::node ns, rq::node nz) {
    return counted ? d::fake_quantize(t, nx, ns, nz, {.unit = d::fake_unit::count})
                   : d::fake_quantize(t, nx, ns, nz, {.unit = d::fake_unit::growth}, t.constant(first));
  });
  // the value, then in double times 1 / s0, or 1 / s with its own share of the scale's gradient
  const outcome value = run(
      [](rq::tape& t, rq::node nx, rq::node ns, rq::node nz) { return d::fake_quantize(t, nx, ns, nz, {}); });
  const auto of = [&](const rq::matrix<>& m, rq::index j) {
    return static_cast<double>(m(0, m.cols() > 1 ? j : 0));
  };
  rq::matrix<double> y(6, 40);
  rq::matrix<double> dx(6, 40);
  rq::matrix<double> ds = rq::matrix<double>::Zero(1, cols);
  rq::matrix<double> dz = rq::matrix<double>::Zero(1, cols);
  for (rq::index i = 0; i < 6; ++i) {
    for (rq::index j = 0; j < 40; ++j) {
      const double s = of(scale, j);
      const double unit = 1 / (counted ? s : of(first, j));
      const double slope = static_cast<double>(g(i, j));
      const double code = std::nearbyint(static_cast<double>(value.y(i, j)) / s);
      const bool inside = std::abs(static_cast<double>(x(i, j)) / s - code) <= 0.5;
      y(i, j) = code * s * unit;
      dx(i, j) = inside ? slope * unit : 0;
      const double of_value = inside ? code - static_cast<double>(x(i, j)) / s : code;
      ds(0, cols > 1 ? j : 0) += slope * unit * (of_value - (counted ? code : 0));
      dz(0, cols > 1 ? j : 0) -= inside ? 0 : slope * s * unit;
    }
  }
  CHECK(worst(have.y, y) <= 1e-5);
  CHECK(worst(have.x, dx) <= 1e-5);
  CHECK(worst(have.scale, ds) <= 1e-5);
  CHECK(worst(have.zero, dz) <= 1e-5);
}

TEST_CASE("fake quantization: what is dropped stays as it is and passes its gradient", "[train]") {
  const rq::matrix<> x = noise(50, 40, 1);
  const rq::matrix<> scale = rq::matrix<>::Constant(1, 1, 0.3F);
  const rq::matrix<> zero = rq::matrix<>::Constant(1, 1, 3);
  const auto run = [&](float drop, std::uint64_t seed, rq::matrix<>& slope) {
    rq::tape t;
    const rq::node nx = t.variable(x);
    const rq::node y = d::fake_quantize(t, nx, t.constant(scale), t.constant(zero),
                                        {.levels = 8, .drop = drop, .seed = seed});
    t.backward(d::sum(t, y));
    slope = t.gradient(nx);
    return t.value(y);
  };
  rq::matrix<> slope;
  const rq::matrix<> whole = run(0, 1, slope);
  const rq::matrix<> some = run(0.5F, 1, slope);
  CHECK(some == run(0.5F, 1, slope));
  CHECK(some != run(0.5F, 2, slope));
  CHECK(some == run(0.5F, 1, slope));
  double left = 0;
  for (rq::index k = 0; k < x.size(); ++k) {
    const bool same = some.data()[k] == whole.data()[k];
    if (same) continue;
    CHECK(some.data()[k] == Approx(x.data()[k]).epsilon(1e-6));
    CHECK(slope.data()[k] == 1.0F);
    ++left;
  }
  CHECK(left > 0.45 * static_cast<double>(x.size()));
  CHECK(left < 0.55 * static_cast<double>(x.size()));
}

TEST_CASE("fake quantization: rows that are dropped whole", "[train]") {
  const rq::matrix<> x = noise(200, 7, 1);
  const auto run = [&](float drop) {
    rq::tape t;
    const d::fake_uniform q{.levels = 8, .drop = drop, .seed = 5, .drop_rows = true};
    return t.value(d::fake_quantize(t, t.constant(x), t.constant(rq::matrix<>::Constant(1, 1, 0.3F)),
                                    t.constant(rq::matrix<>::Constant(1, 1, 3)), q));
  };
  const rq::matrix<> whole = run(0);
  const rq::matrix<> some = run(0.5F);
  int left = 0;
  for (rq::index i = 0; i < x.rows(); ++i) {
    const bool dropped = d::drops_row(0.5F, 5, i);
    left += dropped ? 1 : 0;
    for (rq::index j = 0; j < x.cols(); ++j) {
      if (dropped) CHECK(some(i, j) == Approx(x(i, j)).epsilon(1e-6));
      if (!dropped) CHECK(some(i, j) == whole(i, j));
    }
  }
  CHECK(left > 70);
  CHECK(left < 130);
  CHECK_FALSE(d::drops_row(0, 5, 0));
}

TEST_CASE("fake quantization: probabilities inside of an attention", "[train]") {
  const auto kind = GENERATE(rq::probability_kind::as_uniform, rq::probability_kind::as_log2,
                             rq::probability_kind::as_log_sqrt2);
  // one head, scores that are the queries' first channel times the keys': p is the softmax of a known matrix
  const rq::index tokens = 6;
  const rq::index keys = 9;
  const rq::matrix<> q = noise(tokens, 2, 1);
  const rq::matrix<> k = noise(keys, 2, 2, 2);
  const rq::matrix<> v = noise(keys, 3, 3);
  const rq::matrix<> g = noise(tokens, 3, 4);
  const rq::matrix<> factor = rq::matrix<>::Constant(1, 1, 1.3F);
  const rq::matrix<> scale =
      rq::matrix<>::Constant(1, 1, kind == rq::probability_kind::as_uniform ? 0.05F : 0.7F);
  const d::fake_probabilities codes{.coded = true, .code = {.kind = kind, .bits = 3, .depth = 7}};
  rq::tape t;
  const rq::node nq = t.variable(q);
  const rq::node nk = t.variable(k);
  const rq::node nv = t.variable(v);
  const rq::node nf = t.variable(factor);
  const rq::node ns = t.variable(scale);
  const rq::node y = d::attention(t, nq, nk, nv, nf, ns, {}, codes);
  const rq::node loss = t.result(1, 1, {y});
  t.value_of(loss).setZero();
  t.on_backward(loss, [y, &g](rq::tape& u) { u.add_gradient(y, g); });
  t.backward(loss);
  rq::probability_code code = codes.code;
  code.scale = scale(0, 0);
  using real = rq::matrix<double>;
  const real qd = q.cast<double>();
  const real kd = k.cast<double>();
  const real vd = v.cast<double>();
  const real gd = g.cast<double>();
  const double f = static_cast<double>(factor(0, 0));
  const double s = static_cast<double>(scale(0, 0));
  const real e = (f * (qd * kd.transpose())).array().exp();
  const real p = e.array().colwise() / e.rowwise().sum().array();
  real c(tokens, keys);
  real inside(tokens, keys);
  for (rq::index i = 0; i < c.size(); ++i) {
    const float x = static_cast<float>(p.data()[i]);
    const float value = code.visit([&](const auto& codec, const auto& parameters) {
      return codec.decode(codec.encode(x, parameters), parameters);
    });
    c.data()[i] = static_cast<double>(value);
    const bool in = kind == rq::probability_kind::as_uniform ? std::abs(c.data()[i] - p.data()[i]) <= s / 2
                                                             : value != 0.0F && x <= scale(0, 0);
    inside.data()[i] = in ? 1 : 0;
  }
  CHECK(inside.minCoeff() == 0);
  CHECK(inside.maxCoeff() == 1);
  const real of_codes = gd * vd.transpose();
  const real dp = of_codes.cwiseProduct(inside);
  const real dx = p.array() * (dp.array().colwise() - dp.cwiseProduct(p).rowwise().sum().array());
  CHECK(worst(t.value(y), c * vd) <= 1e-5);
  CHECK(worst(t.gradient(nv), c.transpose() * gd) <= 1e-5);
  CHECK(worst(t.gradient(nq), f * dx * kd) <= 1e-5);
  CHECK(worst(t.gradient(nk), f * dx.transpose() * qd) <= 1e-5);
  CHECK(worst(t.gradient(nf), real::Constant(1, 1, dx.cwiseProduct(qd * kd.transpose()).sum())) <= 1e-5);
  const double slope = of_codes.cwiseProduct(c - inside.cwiseProduct(p)).sum() / s;
  CHECK(worst(t.gradient(ns), real::Constant(1, 1, slope)) <= 1e-5);
}
