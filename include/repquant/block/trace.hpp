// SPDX-License-Identifier: MIT
/// trace: what a block's one float function talks to. It records each operation under a scoped path
/// and computes nothing; finish() gives the recorded list (docs/decisions/0007).
///
/// Length: one function per kind of step, each with its checks.
#pragma once

#include <repquant/block/program.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace repquant {

/// Records a block.
///
///   struct mlp {
///     rq::layer_norm ln;
///     rq::linear fc1, fc2;
///     rq::value forward(rq::trace& t, rq::value x) const {
///       rq::value h = t.norm("ln", ln, x);
///       h = t.activate(rq::activation::gelu_erf, t.linear("fc1", fc1, h));
///       return t.add(x, t.linear("fc2", fc2, h));
///     }
///   };
///
/// Paths     a step is named by the scopes around it and its own name: "block.3.fc1". One path may be
///           visited once only; a layer that is called again gets another scope and with it activation
///           parameters of its own.
/// Errors    the first one is kept and returned by finish(): shape_mismatch (columns that do not fit a
///           layer), duplicate_site, bad_option (also a value that this trace did not give), and what check()
///           of a layer finds. Operations after an
///           error are recorded as if nothing had happened, so that a block needs no error handling.
/// Lifetime  layers are copied; a block may go away after the trace.
class trace {
 public:
  explicit trace(index input_cols) {
    program_.value_cols.push_back(input_cols);
    if (input_cols < 1) fail({errc::shape_mismatch, "trace: input columns", input_cols, 1});
  }

  /// The input of the block.
  [[nodiscard]] value input() const { return {0, program_.value_cols.front()}; }

  /// Puts a name, and a number where one is given, in front of the paths recorded while it lives.
  class [[nodiscard]] scope_guard {
   public:
    scope_guard(trace& t, std::string_view name, index i) : trace_(&t), length_(t.prefix_.size()) {
      t.prefix_ += name;
      if (i >= 0) t.prefix_ += '.' + std::to_string(i);
      t.prefix_ += '.';
    }
    scope_guard(const scope_guard&) = delete;
    scope_guard& operator=(const scope_guard&) = delete;
    ~scope_guard() { trace_->prefix_.resize(length_); }

   private:
    trace* trace_;
    std::size_t length_;
  };
  scope_guard scope(std::string_view name, index i = -1) { return {*this, name, i}; }

  /// y = x W^T + b.
  value linear(std::string_view name, const repquant::linear& layer, value x) {
    step& s = record(step_kind::linear, name, layer.out(), x);
    if (failure f = check(layer, s.path)) fail(f);
    want_cols(s.path, x, layer.in());
    s.layer = static_cast<int>(program_.linears.size());
    program_.linears.push_back(layer);
    return last();
  }
  /// Layer norm or RMS norm of every row.
  value norm(std::string_view name, const any_norm& layer, value x) {
    step& s = record(step_kind::norm, name, x.cols, x);
    std::visit(
        [&](const auto& n) {
          if (failure f = check(n, s.path)) fail(f);
          want_cols(s.path, x, n.gamma.size());
        },
        layer);
    s.layer = static_cast<int>(program_.norms.size());
    program_.norms.push_back(layer);
    return last();
  }
  /// softmax(q k^T scale) v per head. q [tokens x heads d], k and v [tokens x kv_heads d].
  value attention(std::string_view name, attention_options o, value q, value k, value v) {
    step& s = record(step_kind::attention, name, q.cols, q, k, v);
    if (o.kv_heads == 0) o.kv_heads = o.heads;
    if (o.heads < 1 || q.cols % o.heads != 0) {
      fail({errc::shape_mismatch, s.path + ": columns of q over heads", q.cols, o.heads});
      o.heads = 1;
    }
    if (o.kv_heads < 1 || o.heads % o.kv_heads != 0) {
      fail({errc::bad_option, s.path + ": heads over kv_heads", o.heads, o.kv_heads});
      o.kv_heads = o.heads;
    }
    const index d = q.cols / o.heads;
    want_cols(s.path + ".k", k, d * o.kv_heads);
    want_cols(s.path + ".v", v, d * o.kv_heads);
    if (o.scale == 0) o.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
    s.attention = o;
    return last();
  }
  value add(value x, value y) {
    want_cols("add", y, x.cols);
    record(step_kind::add, {}, x.cols, x, y);
    return last();
  }
  value multiply(value x, value y) {
    want_cols("multiply", y, x.cols);
    record(step_kind::multiply, {}, x.cols, x, y);
    return last();
  }
  value activate(activation f, value x) {
    record(step_kind::activate, {}, x.cols, x).function = f;
    return last();
  }
  /// Puts a row (a class token) in front of the tokens.
  value prepend_row(std::string_view name, matrix_view row, value x) {
    step& s = record(step_kind::prepend_row, name, x.cols, x);
    if (row.rows() != 1) fail({errc::shape_mismatch, s.path + ": rows", row.rows(), 1});
    keep_constant(s, row, x);
    return last();
  }
  /// Adds row t of a table to token t. Runs with at most as many tokens as the table has rows.
  value add_rows(std::string_view name, matrix_view table, value x) {
    keep_constant(record(step_kind::add_rows, name, x.cols, x), table, x);
    return last();
  }
  /// Rotary positions: turns each pair of neighbours (2i, 2i + 1) of each head of token t by an angle,
  /// (x, y) -> (x c - y s, x s + y c), with c and s from row t and column i of the tables. Runs with at most
  /// as many tokens as the tables have rows.
  ///
  /// Shapes  x [tokens x heads head_dim]; cosines, sines [positions x head_dim / 2]
  value rotate(std::string_view name, matrix_view cosines, matrix_view sines, index heads, value x) {
    step& s = record(step_kind::rotate, name, x.cols, x);
    if (heads < 1 || x.cols % (2 * heads) != 0) {
      fail({errc::shape_mismatch, s.path + ": columns over twice the heads", x.cols, 2 * heads});
      heads = 1;
    }
    s.attention.heads = heads;
    for (const matrix_view& m : {cosines, sines}) {
      if (failure f = check_finite(m, s.path)) fail(f);
      if (2 * heads * m.cols() != x.cols)
        fail({errc::shape_mismatch, s.path + ": columns of a table", m.cols(), x.cols / (2 * heads)});
    }
    if (sines.rows() != cosines.rows())
      fail({errc::shape_mismatch, s.path + ": rows of the sines", sines.rows(), cosines.rows()});
    s.layer = static_cast<int>(program_.constants.size());
    program_.constants.emplace_back(cosines.eigen());
    program_.constants.emplace_back(sines.eigen());
    return last();
  }
  /// One token: 0 the first, -1 the last.
  value select_row(index row, value x) {
    record(step_kind::select_row, {}, x.cols, x).row = row;
    return last();
  }
  /// The mean over the tokens.
  value mean_rows(value x) {
    record(step_kind::mean_rows, {}, x.cols, x);
    return last();
  }

  /// The recorded program that ends in `output`, or the first error.
  result<program> finish(value output) && {
    if (failure_) return failure_;
    if (output.id == 0) return failure{errc::empty, "trace: the block recorded no step", output.id, 1};
    if (failure f = check_value(output)) return f;
    program_.output = output.id;
    return std::move(program_);
  }

 private:
  step& record(step_kind kind, std::string_view name, index cols, value a, value b = {}, value c = {}) {
    step s;
    s.kind = kind;
    if (!name.empty()) {
      s.path = prefix_ + std::string(name);
      const bool seen = std::any_of(program_.steps.begin(), program_.steps.end(),
                                    [&](const step& other) { return other.path == s.path; });
      if (seen) fail({errc::duplicate_site, s.path, 2, 1});
    }
    const bool two = kind == step_kind::add || kind == step_kind::multiply || kind == step_kind::attention;
    fail(check_value(a));
    if (two) fail(check_value(b));
    if (kind == step_kind::attention) fail(check_value(c));
    s.out = static_cast<int>(program_.value_cols.size());
    s.a = a.id;
    s.b = b.id;
    s.c = c.id;
    program_.value_cols.push_back(cols);
    program_.steps.push_back(std::move(s));
    return program_.steps.back();
  }
  /// Nothing, or that a value is not one of this trace.
  [[nodiscard]] failure check_value(value v) const {
    const auto n = static_cast<int>(program_.value_cols.size());
    const bool known = v.id >= 0 && v.id < n && v.cols == program_.value_cols[static_cast<std::size_t>(v.id)];
    return known ? failure{} : failure{errc::bad_option, "trace: a value of another trace, or none", v.id, n};
  }
  value last() const {
    return {static_cast<int>(program_.value_cols.size()) - 1, program_.value_cols.back()};
  }
  void want_cols(std::string_view place, value v, index cols) {
    if (v.cols != cols) fail({errc::shape_mismatch, std::string(place) + ": columns", v.cols, cols});
  }
  void keep_constant(step& s, matrix_view m, value x) {
    if (failure f = check_finite(m, s.path)) return fail(f);
    want_cols(s.path, x, m.cols());
    s.layer = static_cast<int>(program_.constants.size());
    program_.constants.emplace_back(m.eigen());
  }
  void fail(const failure& f) {
    if (!failure_) failure_ = f;
  }

  program program_;
  std::string prefix_;
  failure failure_;
};

}  // namespace repquant
