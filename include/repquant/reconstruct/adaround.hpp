// SPDX-License-Identifier: MIT
/// adaround: learns for each weight whether to round up or down.
#pragma once

#include <repquant/core/check_fraction.hpp>
#include <repquant/reconstruct/coordinate_descent.hpp>
#include <repquant/reconstruct/relaxed_rounding.hpp>

#include <limits>
#include <utility>

namespace repquant {

/// How adaround learns.
struct adaround_options {
  int steps = 1000;       ///< of Adam; rate * steps of about 20 lets every weight change its mind
  double rate = 0.02;     ///< of Adam, with the usual 0.9 and 0.999
  double lambda = 0.5;    ///< weight of the term that forces a decision, in units of one step's output error
  double warm_up = 0.2;   ///< the fraction of the steps without that term
  double beta_from = 20;  ///< annealed along a cosine
  double beta_to = 2;
  double lean = 0.5;      ///< where V starts: 0 at the weight itself, 1 at the start's codes
  double damping = 0.01;  ///< fraction of the mean live diagonal added to H
};

namespace detail {
inline failure check(const adaround_options& o) noexcept {
  if (o.steps < 0) return {errc::bad_option, "adaround: steps", o.steps, 0};
  constexpr double most = std::numeric_limits<double>::max();
  if (failure f = check_fraction(o.rate, above_zero, most, "adaround: rate (millionths)")) return f;
  if (failure f = check_fraction(o.lambda, 0, most, "adaround: lambda (millionths)")) return f;
  if (failure f = check_fraction(o.beta_to, 1 + 0x1p-52, most, "adaround: beta_to (millionths)")) return f;
  if (failure f = check_fraction(o.beta_from, o.beta_to, most, "adaround: beta_from (millionths)")) return f;
  if (failure f = check_fraction(o.warm_up, 0, 1, "adaround: warm_up (millionths)")) return f;
  if (failure f = check_fraction(o.lean, 0, 1, "adaround: lean (millionths)")) return f;
  if (failure f = check_fraction(o.damping, 0, 1e6, "adaround: damping (millionths)")) return f;
  return {};
}

/// Adam from v to wherever the steps lead.
inline void learn_rounding(const relaxed_rounding& problem, const adaround_options& o, matrix<double>& v) {
  matrix<double> g(v.rows(), v.cols());
  matrix<double> mean = matrix<double>::Zero(v.rows(), v.cols());
  matrix<double> square = mean;
  double decay1 = 1;
  double decay2 = 1;
  for (int step = 0; step < o.steps; ++step) {
    const double done = step / static_cast<double>(o.steps);
    const bool pull = done >= o.warm_up && o.lambda > 0;
    const double since = pull ? (done - o.warm_up) / (1 - o.warm_up) : 0;
    const double beta =
        o.beta_to + 0.5 * (o.beta_from - o.beta_to) * (1 + std::cos(3.14159265358979323846 * since));
    problem.gradient(v, beta, pull, g);
    decay1 *= 0.9;
    decay2 *= 0.999;
    mean = 0.9 * mean + 0.1 * g;
    square = 0.999 * square + 0.001 * g.cwiseAbs2();
    v.array() -= o.rate / (1 - decay1) * mean.array() / ((square.array() / (1 - decay2)).sqrt() + 1e-8);
  }
}

/// The rows first .. of one tile: the relaxed problem, and which codes its two ends stand for.
template<Codec C, Granularity G>
struct rounding_tile {
  relaxed_rounding problem;
  matrix<double> v;
  matrix<std::int32_t> low_code;
  matrix<std::int32_t> high_code;

  rounding_tile(const quantized<C, G>& start, matrix_view w, const gram& h, index first, index height,
                const matrix<double>& curvature, const adaround_options& o)
      : v(height, w.cols()), low_code(height, w.cols()), high_code(height, w.cols()) {
    problem.weight = w.eigen().middleRows(first, height).template cast<double>();
    problem.low.resize(height, w.cols());
    problem.width.resize(height, w.cols());
    problem.curvature = curvature;
    problem.lambda = o.lambda;
    for (index r = 0; r < height; ++r) {
      const row_levels<C, G> levels(start.quantizer(), first + r, w.size());
      for (index j = 0; j < w.cols(); ++j) place(levels, start, h, first + r, r, j, o.lean);
    }
    problem.measure_unit();
  }

 private:
  /// Between the start's level and its neighbour on the weight's side.
  void place(const row_levels<C, G>& levels, const quantized<C, G>& start, const gram& h, index i, index r,
             index j, double lean) {
    const std::span<const level> all = levels.of(j);
    const auto code = static_cast<std::int32_t>(start.codes()(i, j));
    const std::size_t at = levels.nearest(j, static_cast<double>(start.quantizer().decode(code, i, j)));
    const double weight = problem.weight(r, j);
    std::size_t low = at;
    std::size_t high = at;
    if (h.sum(j, j) > 0 && weight > all[at].value && at + 1 < all.size()) high = at + 1;
    if (h.sum(j, j) > 0 && weight < all[at].value && at > 0) low = at - 1;
    problem.low(r, j) = all[low].value;
    problem.width(r, j) = all[high].value - all[low].value;
    low_code(r, j) = low == high ? code : all[low].code;
    high_code(r, j) = low == high ? code : all[high].code;
    const double taken = high > at ? 0 : 1;
    const double between = problem.width(r, j) > 0 ? (weight - all[low].value) / problem.width(r, j) : 0;
    v(r, j) = relaxed_rounding::position((1 - lean) * std::clamp(between, 0.0, 1.0) + lean * taken);
  }
};

/// Copies the codes of the rows whose loss is lower, damped and plain, into `codes`; the losses of what is
/// then there.
template<Codec C, Granularity G>
reconstruction_report take_better_rows(const quantizer<C, G>& q, matrix_view w, const gram& h, double damping,
                                       const matrix<code_type_t<C>>& offered, matrix<code_type_t<C>>& codes) {
  const double ridge = ridge_of(h, damping);
  const matrix<double> now = rounding_error(quantized<C, G>(q, codes), w);
  const matrix<double> other = rounding_error(quantized<C, G>(q, offered), w);
  const matrix<double> now_product = now * h.sum;
  const matrix<double> other_product = other * h.sum;
  reconstruction_report report;
  report.damping = damping;
  for (index i = 0; i < w.rows(); ++i) {
    const double plain = now_product.row(i).dot(now.row(i));
    const double damped = plain + ridge * now.row(i).squaredNorm();
    const double new_plain = other_product.row(i).dot(other.row(i));
    const double new_damped = new_plain + ridge * other.row(i).squaredNorm();
    const bool better = new_damped < damped && new_plain <= plain;
    if (better) codes.row(i) = offered.row(i);
    report.loss += std::fmax(better ? new_plain : plain, 0.0);
    report.damped_loss += better ? new_damped : damped;
  }
  report.dead_columns = h.dead();
  return report;
}
}  // namespace detail

/// Rounds every weight up or down so that the layer's output suffers least: Adam on relaxed_rounding, a hard
/// decision at h >= 1/2 at the end. Rows whose loss is not below the start's (with H and with H damped) keep
/// the start's codes.
///
/// Started from rounding to nearest it is AdaRound; started from another reconstructor it decides between
/// that one's code and the next on the weight's side, adaround<gptq>{} for one. Dead columns keep their
/// codes.
///
/// Shapes    w [out x in], h [in x in]
/// Errors    as the start; bad_option (any setting)
/// Cost      out in^2 multiply-adds a step, in double; tiles of 64 rows run on the executor, the same bits
/// for
///           any number of threads
/// Source    AdaRound (arXiv 2004.10568); here through the Gram matrix, whose gradient is 2 (Q - W) H
/// Example   const auto r = adaround<gptq>{}(q, w, h);
template<class Start = round_to_nearest>
struct adaround {
  Start start = {};
  adaround_options options = {};

  template<Codec C, Granularity G, Executor E = inline_executor>
  result<reconstruction<C, G>> operator()(const quantizer<C, G>& q, matrix_view w, const gram& h,
                                          const E& exec = {}) const {
    if (failure f = detail::check(options)) return f;
    result<reconstruction<C, G>> first = detail::run_solver(start, q, w, h, exec);
    if (!first) return first;
    matrix<double> curvature = h.sum;
    curvature.diagonal().array() += detail::ridge_of(h, options.damping);
    matrix<code_type_t<C>> learned = first->weights.codes();
    constexpr index width = 64;
    exec((w.rows() + width - 1) / width, [&](index t) {
      const index from = t * width;
      const index height = std::min(width, w.rows() - from);
      detail::rounding_tile<C, G> tile(first->weights, w, h, from, height, curvature, options);
      detail::learn_rounding(tile.problem, options, tile.v);
      for (index r = 0; r < height; ++r) {
        for (index j = 0; j < w.cols(); ++j) {
          const bool up = relaxed_rounding::share(tile.v(r, j)) >= 0.5;
          learned(from + r, j) = static_cast<code_type_t<C>>(up ? tile.high_code(r, j) : tile.low_code(r, j));
        }
      }
    });
    matrix<code_type_t<C>> codes = first->weights.codes();
    reconstruction_report report = detail::take_better_rows(q, w, h, options.damping, learned, codes);
    report.start_from(first->report);
    return reconstruction<C, G>{quantized<C, G>(q, std::move(codes)), report};
  }
};

}  // namespace repquant
