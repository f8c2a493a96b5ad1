// SPDX-License-Identifier: MIT
/// layer_evidence: what calibration says about one linear layer: the Gram matrix of the quantized inputs
/// that it will get, and how far its float weights, on those inputs, miss the float target.
#pragma once

#include <repquant/parallel/in_order.hpp>
#include <repquant/reconstruct/gram.hpp>

#include <Eigen/Cholesky>

#include <algorithm>
#include <array>
#include <utility>

namespace repquant {

/// Weighted sums over tokens t of a layer's quantized input x^ and of its error e = target - (W x^ + b).
/// Everything is taken from the means, because the bias can absorb them exactly.
///
///   inputs  sum w (x^ - m)^T (x^ - m)     [in x in]
///   errors  sum w (e - c)^T (x^ - m)      [out x in]
///   m, c    the means of x^ and e
///
/// kept for samples of even and of odd number apart, so that what one half suggests can be tried on the
/// other.
struct layer_evidence {
  struct half {
    matrix<double> inputs;  ///< sum w x^^T x^, not centred
    matrix<double> errors;  ///< sum w e^T x^, not centred
    column<double> input_sum;
    column<double> error_sum;
    double weight = 0;
    std::int64_t tokens = 0;

    void add(const half& other) {
      inputs += other.inputs;
      errors += other.errors;
      input_sum += other.input_sum;
      error_sum += other.error_sum;
      weight += other.weight;
      tokens += other.tokens;
    }
  };
  std::array<half, 2> halves;

  layer_evidence() = default;
  layer_evidence(index out, index in) {
    for (half& h : halves) {
      h = {matrix<double>::Zero(in, in), matrix<double>::Zero(out, in), column<double>::Zero(in),
           column<double>::Zero(out)};
    }
  }
  [[nodiscard]] bool empty() const noexcept { return halves[0].tokens + halves[1].tokens == 0; }
  [[nodiscard]] double weight() const noexcept { return halves[0].weight + halves[1].weight; }
  [[nodiscard]] column<double> input_mean() const {
    return (halves[0].input_sum + halves[1].input_sum) / weight();
  }
  [[nodiscard]] column<double> error_mean() const {
    return (halves[0].error_sum + halves[1].error_sum) / weight();
  }
  /// Adds what another layer with the same weights has seen.
  void add(const layer_evidence& other) {
    for (std::size_t i = 0; i < 2; ++i) halves[i].add(other.halves[i]);
  }
};

/// The Gram matrix of one half about `mean`.
inline gram centred_inputs(const layer_evidence::half& h, const column<double>& mean) {
  gram g{h.inputs, std::max<std::int64_t>(h.tokens, 1)};
  g.sum -=
      h.input_sum * mean.transpose() + mean * h.input_sum.transpose() - h.weight * (mean * mean.transpose());
  g.sum = (0.5 * (g.sum + g.sum.transpose())).eval();
  for (index i = 0; i < g.size(); ++i) g.sum(i, i) = std::fmax(g.sum(i, i), 0.0);
  return g;
}
/// The error products about `mean` and `error_mean`.
inline matrix<double> centred_errors(const layer_evidence::half& h, const column<double>& mean,
                                     const column<double>& error_mean) {
  return h.errors - h.error_sum * mean.transpose() - error_mean * h.input_sum.transpose() +
         h.weight * (error_mean * mean.transpose());
}

/// The same about the means, which become zero: for calls of one layer whose biases are their own.
inline layer_evidence about_means(const layer_evidence& e) {
  layer_evidence centred = e;
  const column<double> mean = e.input_mean();
  const column<double> error_mean = e.error_mean();
  for (layer_evidence::half& h : centred.halves) {
    const layer_evidence::half original = h;
    h.inputs = centred_inputs(original, mean).sum;
    h.errors = centred_errors(original, mean, error_mean);
    h.input_sum.setZero();
    h.error_sum.setZero();
  }
  return centred;
}

/// A change of the weights that answers the errors of the inputs, and how much of it to take.
struct target_correction {
  matrix<double> change;  ///< [out x in]: alpha times the least-squares change
  double alpha = 0;
};

/// The least-squares change of W that makes up for what the quantization before the layer did to its inputs:
///
///   D = errors (inputs + damping mean(diagonal) I)^-1,   change = alpha D
///
/// alpha in 0 .. largest is chosen on samples held back: of each half's D, the factor that is best for the
/// other half is tr(D errors^T) / tr(D inputs D^T); the mean of the two, clamped.
///
/// Shapes  as the evidence
/// Cost    three Cholesky factorizations of in x in
/// Source  min |(W + D) x^ - y|^2; ERQ (Aqer) and GPTAQ solve the same; alpha is ours
inline target_correction correct_target(const layer_evidence& e, double damping, double largest) {
  target_correction c;
  const index in = e.halves[0].inputs.rows();
  const index out = e.halves[0].errors.rows();
  c.change = matrix<double>::Zero(out, in);
  if (!(largest > 0) || e.empty()) return c;
  const column<double> mean = e.input_mean();
  const column<double> error_mean = e.error_mean();
  std::array<matrix<double>, 2> h;
  std::array<matrix<double>, 2> b;
  for (std::size_t i = 0; i < 2; ++i) {
    h[i] = centred_inputs(e.halves[i], mean).sum;
    b[i] = centred_errors(e.halves[i], mean, error_mean);
  }
  const auto solve = [&](matrix<double> inputs, const matrix<double>& errors) -> matrix<double> {
    const double diagonal = inputs.diagonal().sum() / static_cast<double>(in);
    inputs.diagonal().array() += std::fmax(damping * diagonal, 1e-30);
    const Eigen::LLT<matrix<double>> factor(inputs);
    if (factor.info() != Eigen::Success) return matrix<double>::Zero(out, in);
    return factor.solve(errors.transpose()).transpose();
  };
  double sum = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const matrix<double> d = solve(h[i], b[i]);
    const double gain = d.cwiseProduct(b[1 - i]).sum();
    const double size = (d * h[1 - i]).cwiseProduct(d).sum();
    sum += size > 0 ? std::clamp(gain / size, 0.0, largest) : 0.0;
  }
  c.alpha = sum / 2;
  if (c.alpha > 0) c.change = c.alpha * solve(h[0] + h[1], b[0] + b[1]);
  return c;
}

/// Collects evidence from samples, whatever the executor: sample i gives x^ [tokens x in] and e [tokens x
/// out] through `sample(i, x, e)`, and weights of its tokens through `weight(i, token)`; summed in sample
/// order.
template<Executor E, class Sample, class Weight>
layer_evidence collect_evidence(index samples, index out, index in, const E& exec, const Sample& sample,
                                const Weight& weight) {
  layer_evidence total(out, in);
  const auto see = [&](index i, layer_evidence::half& p) {
    matrix<double> x;
    matrix<double> e;
    sample(i, x, e);
    column<double> w(x.rows());
    for (index t = 0; t < x.rows(); ++t) w(t) = weight(i, t, x.rows());
    const matrix<double> wx = w.asDiagonal() * x;
    p.inputs = x.transpose() * wx;
    p.errors = e.transpose() * wx;
    p.input_sum = wx.colwise().sum().transpose();
    p.error_sum = (w.asDiagonal() * e).colwise().sum().transpose();
    p.weight = w.sum();
    p.tokens = x.rows();
  };
  in_order<layer_evidence::half>(samples, exec, see, [&](index i, const layer_evidence::half& p) {
    total.halves[static_cast<std::size_t>(i % 2)].add(p);
  });
  return total;
}

}  // namespace repquant
