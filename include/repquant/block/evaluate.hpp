// SPDX-License-Identifier: MIT
/// Runs a program in float, one step at a time or whole: the reference that quantization is measured
/// against, and the target it aims at.
#pragma once

#include <repquant/block/program.hpp>
#include <repquant/infer/rotate.hpp>
#include <repquant/infer/softmax.hpp>
#include <repquant/kernel/hadamard.hpp>
#include <repquant/kernel/mix_heads.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace repquant {

/// The values of one sample while a program runs; entry v is empty where value v is not computed yet or
/// no longer needed.
using activations = std::vector<matrix<>>;

/// Nothing, or why an input of this shape cannot run: columns, no rows, more tokens than a table has rows.
inline failure check_input(const program& p, shape input, std::string_view place) {
  if (input.cols != p.input_cols()) {
    return {errc::shape_mismatch, std::string(place) + ": columns", input.cols, p.input_cols()};
  }
  if (input.rows < 1) return {errc::empty, std::string(place) + ": rows", input.rows, 1};
  std::vector<index> rows(p.value_cols.size(), input.rows);
  for (const step& s : p.steps) {
    index& r = rows[static_cast<std::size_t>(s.out)];
    r = rows[static_cast<std::size_t>(s.a)];
    if (s.kind == step_kind::prepend_row) ++r;
    if (s.kind == step_kind::select_row && (s.row >= r || s.row < -r)) {
      return {errc::shape_mismatch, std::string(place) + ": tokens for the selected row", r,
              s.row < 0 ? -s.row : s.row + 1};
    }
    if (s.kind == step_kind::select_row || s.kind == step_kind::mean_rows) r = 1;
    if ((s.kind == step_kind::add_rows || s.kind == step_kind::rotate) &&
        r > p.constants[static_cast<std::size_t>(s.layer)].rows()) {
      return {errc::shape_mismatch, s.path + ": tokens", r,
              p.constants[static_cast<std::size_t>(s.layer)].rows()};
    }
    if ((s.kind == step_kind::add || s.kind == step_kind::multiply) &&
        r != rows[static_cast<std::size_t>(s.b)]) {
      return {errc::shape_mismatch, std::string(place) + ": tokens of a sum", r,
              rows[static_cast<std::size_t>(s.b)]};
    }
    if (s.kind == step_kind::attention &&
        rows[static_cast<std::size_t>(s.b)] != rows[static_cast<std::size_t>(s.c)]) {
      return {errc::shape_mismatch, s.path + ".v: tokens", rows[static_cast<std::size_t>(s.c)],
              rows[static_cast<std::size_t>(s.b)]};
    }
  }
  return {};
}

namespace detail {
/// Nothing, or what is wrong with calibration samples: none, or for each ("calibration sample 3") what
/// check_input and check_finite find.
inline failure check_samples(const program& p, std::span<const matrix<>> samples) {
  if (samples.empty()) return {errc::empty, "calibration samples", 0, 1};
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::string place = "calibration sample " + std::to_string(i);
    if (failure f = check_input(p, {samples[i].rows(), samples[i].cols()}, place)) return f;
    if (failure f = check_finite(samples[i], place)) return f;
  }
  return {};
}
}  // namespace detail

/// softmax(q k^T scale) v in float.
///
/// Shapes    q [tokens x heads d], k and v [keys x kv_heads d], result as q; a token that sees no key
/// (causal,
///           fewer keys than tokens) gives 0
inline matrix<> attend(const attention_options& o, matrix_view q, matrix_view k, matrix_view v) {
  const index d = q.cols() / o.heads;
  matrix<> out(q.rows(), q.cols());
  for (index h = 0; h < o.heads; ++h) {
    const index g = h / (o.heads / o.kv_heads);
    matrix<> s =
        q.eigen().middleCols(h * d, d) * k.eigen().middleCols(g * d, d).transpose();  // [tokens x keys]
    s *= o.scale;
    for (index i = 0; i < s.rows(); ++i) {
      const index keys = o.causal ? std::clamp(i + 1 + s.cols() - s.rows(), index{0}, s.cols()) : s.cols();
      const auto n = static_cast<std::size_t>(keys);
      softmax_row(std::span<const float>{s.row(i).data(), n}, std::span<float>{s.row(i).data(), n});
      s.row(i).tail(s.cols() - keys).setZero();
    }
    out.middleCols(h * d, d).noalias() = s * v.eigen().middleCols(g * d, d);
  }
  return out;
}

/// The result of one step, from the values it reads.
inline matrix<> evaluate(const program& p, const step& s, const activations& x) {
  const auto at = [&](int v) -> const matrix<>& { return x[static_cast<std::size_t>(v)]; };
  const auto layer = static_cast<std::size_t>(s.layer);
  const matrix<>& a = at(s.a);
  switch (s.kind) {
    case step_kind::linear:
      return apply(p.linears[layer], a);
    case step_kind::norm:
      return std::visit([&](const auto& n) { return apply(n, a); }, p.norms[layer]);
    case step_kind::attention:
      return attend(s.attention, a, at(s.b), at(s.c));
    case step_kind::add:
      return a + at(s.b);
    case step_kind::multiply:
      return a.cwiseProduct(at(s.b));
    case step_kind::activate: {
      matrix<> y(a.rows(), a.cols());
      const auto n = static_cast<std::size_t>(a.size());
      activate(s.function, std::span<const float>{a.data(), n}, std::span<float>{y.data(), n});
      return y;
    }
    case step_kind::prepend_row: {
      matrix<> y(a.rows() + 1, a.cols());
      y << p.constants[layer], a;
      return y;
    }
    case step_kind::add_rows:
      return a + p.constants[layer].topRows(a.rows());
    case step_kind::select_row:
      return a.row(s.row < 0 ? a.rows() + s.row : s.row);
    case step_kind::mean_rows:
      return a.colwise().mean();
    case step_kind::rotate: {
      matrix<> y(a.rows(), a.cols());
      const auto n = static_cast<std::size_t>(a.cols());
      const matrix_view cosines = p.constants[layer];
      const matrix_view sines = p.constants[layer + 1];
      for (index t = 0; t < a.rows(); ++t)
        rotate_row({a.row(t).data(), n}, cosines.row(t), sines.row(t), {y.row(t).data(), n});
      return y;
    }
    case step_kind::hadamard:
    case step_kind::mix_heads: {
      matrix<> y(a.rows(), a.cols());
      const auto n = static_cast<std::size_t>(a.cols());
      const matrix<>& m = p.constants[layer];
      const std::span<const float> numbers(m.data(), static_cast<std::size_t>(m.size()));
      for (index t = 0; t < a.rows(); ++t) {
        const std::span<const float> from(a.row(t).data(), n);
        const std::span<float> to(y.row(t).data(), n);
        if (s.kind == step_kind::hadamard) {
          hadamard_row(from, numbers, to);
        } else {
          mix_heads_row(from, numbers, static_cast<std::size_t>(m.cols()), to);
        }
      }
      return y;
    }
  }
  return {};
}

/// Frees the values that no step after step `i` reads.
inline void free_unused(const program& p, std::size_t i, activations& x) {
  const step& s = p.steps[i];
  for (int v : {s.a, s.b, s.c}) {
    if (v < 0 || v == p.output) continue;
    bool later = false;
    for (std::size_t k = i + 1; k < p.steps.size() && !later; ++k) {
      later = p.steps[k].a == v || p.steps[k].b == v || p.steps[k].c == v;
    }
    if (!later) x[static_cast<std::size_t>(v)].resize(0, 0);
  }
}

/// Runs the whole program in float.
///
/// Shapes  input [tokens x input_cols], result [tokens' x output_cols]
/// Errors  as check_input, at the place "input"
inline result<matrix<>> evaluate(const program& p, matrix_view input) {
  if (failure f = check_input(p, input.size(), "input")) return f;
  activations x(p.value_cols.size());
  x[0] = input.eigen();
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    x[static_cast<std::size_t>(p.steps[i].out)] = evaluate(p, p.steps[i], x);
    free_unused(p, i, x);
  }
  return std::move(x[static_cast<std::size_t>(p.output)]);
}

}  // namespace repquant
