// SPDX-License-Identifier: MIT
/// choose_probabilities: the codec of an attention's softmax outputs, and its scale.
#pragma once

#include <repquant/block/calibration_stream.hpp>
#include <repquant/block/recipe.hpp>
#include <repquant/calibrate/calibrator.hpp>
#include <repquant/infer/probability.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace repquant {

/// What a report calls a codec of probabilities.
constexpr const char* name(probability_kind kind, bool relative = false) noexcept {
  switch (kind) {
    case probability_kind::as_uniform:
      return relative ? "uniform, relative" : "uniform";
    case probability_kind::as_log2:
      return relative ? "log2, relative" : "log2";
    case probability_kind::as_log_sqrt2:
      return relative ? "log_sqrt2, relative" : "log_sqrt2";
  }
  return "";
}

namespace detail {

/// Calls f(head, p, visible) with the softmax outputs [tokens x keys] of every head of a sample, computed
/// from the codes as the engine does: exact sums, then the float steps of infer/probability.hpp.
template<class F>
void for_each_head(const instruction& s, std::span<const std::byte> constants, const matrix<std::uint8_t>& q,
                   const matrix<std::uint8_t>& k, F&& f) {
  const index d = s.inner;
  for (index h = 0; h < s.heads; ++h) {
    const index g = h / (s.heads / s.kv_heads);
    const attention_head head = head_of(s, constants, h, q.rows(), k.rows());
    matrix<double> a = q.middleCols(h * d, d).template cast<double>();
    for (index c = 0; c < d; ++c) a.col(c).array() -= head.q_zero[static_cast<std::size_t>(c)];
    const matrix<double> b = k.middleCols(g * d, d).template cast<double>().array() - s.zero_b;
    const matrix<double> sums = a * b.transpose();  // [tokens x keys], exact integers
    matrix<> p(sums.rows(), sums.cols());
    std::vector<float> row(static_cast<std::size_t>(padded_scores(sums.cols())));
    for (index i = 0; i < p.rows(); ++i) {
      softmax_of_sums(std::span<const double>(sums.row(i).data(), static_cast<std::size_t>(sums.cols())),
                      head.score_multiplier, head.visible(i), std::span<float>(row));
      std::copy_n(row.data(), p.cols(), p.row(i).data());
    }
    f(h, head, p);
  }
}

/// Shows an observer all probabilities that a query gives to the keys that it sees.
template<class Observer, Executor E>
void observe_probabilities(const instruction& s, std::span<const std::byte> constants,
                           const calibration_stream<E>& stream, Observer& seen) {
  std::vector<Observer> parts(static_cast<std::size_t>(stream.samples()), seen);
  stream.executor()(stream.samples(), [&](index i) {
    const auto observe = [&](index, const attention_head& head, const matrix<>& p) {
      for (index r = 0; r < p.rows(); ++r) {
        parts[static_cast<std::size_t>(i)].observe(
            {p.row(r).data(), static_cast<std::size_t>(head.visible(r))});
      }
    };
    for_each_head(s, constants, stream.codes(i, s.a), stream.codes(i, s.b), observe);
  });
  for (const Observer& part : parts) seen.merge(part);
}

/// Squared error of the attention's output when its probabilities become codes, summed over some samples.
template<Executor E>
double probability_error(const instruction& s, std::span<const std::byte> constants,
                         const probability_code& code, const calibration_stream<E>& stream) {
  const index count = std::min<index>(stream.samples(), 16);
  std::vector<double> errors(static_cast<std::size_t>(count));
  stream.executor()(count, [&](index n) {
    const index i = n * stream.samples() / count;
    const matrix<std::uint8_t>& v = stream.codes(i, s.c);
    double sum = 0;
    const auto add = [&](index h, const attention_head& head, const matrix<>& p) {
      const index g = h / (s.heads / s.kv_heads);
      matrix<double> values = v.middleCols(g * s.inner, s.inner).template cast<double>();
      for (index c = 0; c < values.cols(); ++c) {
        const auto d = static_cast<std::size_t>(c);
        values.col(c).array() -= head.v_zero[d];
        values.col(c) *= static_cast<double>(head.value_scale[d]);
      }
      matrix<double> coded = matrix<double>::Zero(p.rows(), p.cols());
      code.visit([&](const auto& codec, const auto& params) {
        for (index r = 0; r < p.rows(); ++r) {
          const index visible = head.visible(r);
          if (visible == 0) continue;
          const float largest = code.relative ? p.row(r).head(visible).maxCoeff() : 1.0F;
          for (index c = 0; c < visible; ++c)
            coded(r, c) = static_cast<double>(codec.decode(codec.encode(p(r, c) / largest, params), params));
          if (code.relative) coded.row(r) /= coded.row(r).sum();
        }
      });
      sum += ((coded - p.cast<double>()) * values).squaredNorm();
    };
    for_each_head(s, constants, stream.codes(i, s.a), stream.codes(i, s.b), add);
    errors[static_cast<std::size_t>(n)] = sum;
  });
  double total = 0;
  for (double e : errors) total += e;
  return total;
}

}  // namespace detail

/// The attention instruction with the codec of its probabilities filled in. Each allowed codec gets the range
/// that the observer chooses for it, or is relative and needs none; of several, the one with the smallest
/// squared error of P V is taken, the first of equal ones in the order uniform, log2, log_sqrt2.
///
/// Requires  scores: codes of q, k, v in its operands' registers, all other fields set, its data in constants
/// Errors    what the observer says, at the site
/// Cost      a float attention per sample, and per codec one for up to 16 samples
template<class Observer, Executor E>
result<instruction> choose_probabilities(const instruction& scores, std::span<const std::byte> constants,
                                         const std::string& path, const probability_codecs& allowed,
                                         int depth, const Observer& observer,
                                         const calibration_stream<E>& stream) {
  Observer seen = observer;
  if (!allowed.relative) detail::observe_probabilities(scores, constants, stream, seen);
  const int bits = scores.probability_bits;
  std::vector<probability_code> candidates;
  const auto consider = [&](bool wanted, probability_kind kind) -> failure {
    if (!wanted) return {};
    probability_code code{.kind = kind, .bits = bits, .depth = depth, .relative = allowed.relative};
    code.scale = code.relative_scale();
    failure f;
    if (!code.relative) {
      code.visit([&](const auto& codec, const auto&) {
        const result<range> r = seen.choose(codec);
        if (!r) {
          f = r.error().within(path);
          return;
        }
        const auto params = codec.fit(*r);
        code.scale = params.scale;
        if constexpr (requires { params.zero_point; }) code.zero_point = params.zero_point;
      });
    }
    candidates.push_back(code);
    return f;
  };
  if (failure f = consider(allowed.uniform, probability_kind::as_uniform)) return f;
  if (failure f = consider(allowed.log2, probability_kind::as_log2)) return f;
  if (failure f = consider(allowed.log_sqrt2, probability_kind::as_log_sqrt2)) return f;

  std::size_t best = 0;
  if (candidates.size() > 1) {
    double least = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const double e = detail::probability_error(scores, constants, candidates[i], stream);
      if (i > 0 && e >= least) continue;
      least = e;
      best = i;
    }
  }
  const probability_code& code = candidates[best];
  instruction s = scores;
  s.probability = code.kind;
  s.probability_scale = code.scale;
  s.probability_zero = code.zero_point;
  s.probability_zero_rule = static_cast<std::uint8_t>(code.zero);
  s.probability_depth = static_cast<std::uint8_t>(depth);
  s.probability_relative = code.relative ? 1 : 0;
  return s;
}

}  // namespace repquant
