// SPDX-License-Identifier: MIT
/// refine_parameters: what refine() changes. A model is its own parametrisation: codes become continuous, and
/// every scale, zero point and offset a number beside them.
///
/// Units. Codes of activations appear on the tape as c e^t: c the code less its zero point, t the logarithm
/// by which its scale has grown. Readers multiply by what the model had before, so that a scale that grows is
/// made good exactly: when writing back, its factor goes into the multipliers of all readers.
/// Where linear layers read a scale per column, which no multiplier of theirs can follow, it appears as c:
/// there the weights make good what a scale changes. A zero point that moves is made good by the readers'
/// zero points, or, where they have one number for all columns, by their offsets.
///
/// Length: how each kind of instruction is read.
#pragma once

#include <repquant/block/refine_flow.hpp>
#include <repquant/block/refine_options.hpp>
#include <repquant/infer/integer_products.hpp>
#include <repquant/train/adam.hpp>

#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

namespace repquant::detail {

/// Which learning rate a parameter has.
enum class refined : std::uint8_t { weight, scale, zero, offset };

/// A trained matrix.
struct refine_parameter {
  refined kind = refined::weight;
  matrix<> x;
  matrix<> gradient;
  matrix<> lowest;  ///< limits, [1 x 1] or as x
  matrix<> highest;
  adam_moments past;
  float unit = 1;  ///< what the rate is in units of
  std::vector<int> users;
};

/// An instruction and where its parameters are; -1 where it has none.
struct refine_unit {
  // linear: weight codes, log of the multiplier per row, offset; norm: gamma, beta; encode: log of the scale,
  // zero point; attention: log of the score factor per head, log of the scale of the probabilities
  int first = -1;
  int second = -1;
  int third = -1;
  matrix<> base;         ///< linear: m [out x 1]; encode: scales; attention: score multipliers [1 x heads]
  matrix<> zero;         ///< linear: of the weights [out x 1]
  matrix<> value_scale;  ///< attention [1 x kv_heads inner]
  matrix<double>
      shift;       ///< linear: sum_i w_i (z_i - z) m at first, z_i of what it reads, z what it subtracts
  matrix<> start;  ///< linear: the offset at first, without the shift
  bool counted = false;  ///< encode: readers get c, not c e^t
  matrix<> pinned;  ///< encode: zero points that may not move, because an attention subtracts others; or none
};

/// All parameters of a flow.
struct refine_parameters {
  std::vector<refine_parameter> all;
  std::vector<refine_unit> units;  ///< one per instruction

  [[nodiscard]] const matrix<>& at(int p) const { return all[static_cast<std::size_t>(p)].x; }
  [[nodiscard]] refine_parameter& operator[](int p) { return all[static_cast<std::size_t>(p)]; }

  int add(refined kind, matrix<> x, float lowest, float highest, int user) {
    refine_parameter p;
    p.kind = kind;
    p.x = std::move(x);
    p.lowest = matrix<>::Constant(1, 1, lowest);
    p.highest = matrix<>::Constant(1, 1, highest);
    p.users.push_back(user);
    all.push_back(std::move(p));
    return static_cast<int>(all.size()) - 1;
  }
  /// e^t of each column of an encode; 1 where readers get c.
  [[nodiscard]] float growth(int encode, index col, index cols) const {
    const refine_unit& u = units[static_cast<std::size_t>(encode)];
    if (u.counted) return 1;
    const matrix<>& t = at(u.first);
    return std::exp(t(0, col / (cols / t.cols())));
  }
};

/// Numbers of the constants as a matrix.
template<class T>
matrix<> read_matrix(const model_view& m, std::uint64_t offset, index rows, index cols) {
  const auto x = m.numbers<T>(offset, static_cast<std::size_t>(rows * cols));
  return Eigen::Map<const matrix<T>>(x.data(), rows, cols).template cast<float>();
}

/// Whether the readers of an encode subtract its own zero points, and how finely its scale may change: groups
/// of columns that grow together.
struct encode_readers {
  bool same_zero = true;  ///< among linear layers
  bool pinned = false;    ///< an attention subtracts other zero points
  bool linear = false;
  index groups = 0;  ///< 0: as many as scales
};
inline encode_readers readers_of(const model_view& m, const refine_flow& f, int i, const matrix<>& zero) {
  encode_readers r;
  const auto differs = [&](float z, index col) { return zero(0, zero.cols() > 1 ? col : 0) != z; };
  for (const instruction& s : f.code) {
    if (s.kind == opcode::linear && s.a == i + 1) {
      r.linear = true;
      for (index j = 0; j < s.inner; ++j)
        r.same_zero = r.same_zero && !differs(static_cast<float>(s.zero_a), j);
    }
    if (s.kind != opcode::attention) continue;
    const auto compare = [&](std::uint64_t offset, index cols) {
      const matrix<> z = read_matrix<std::int32_t>(m, offset, 1, cols);
      for (index j = 0; j < cols; ++j) r.pinned = r.pinned || differs(z(0, j), j);
    };
    if (s.a == i + 1) {
      r.groups = s.heads;
      compare(s.data[1], s.cols);
    }
    if (s.b == i + 1) r.groups = r.groups == 0 ? s.kv_heads : std::min<index>(r.groups, s.kv_heads);
    if (s.c == i + 1) compare(s.data[2], static_cast<index>(s.kv_heads) * s.inner);
  }
  return r;
}

inline void read_encode(const model_view& m, const refine_flow& f, int i, refine_parameters& p) {
  const instruction& s = f.code[static_cast<std::size_t>(i)];
  refine_unit& u = p.units[static_cast<std::size_t>(i)];
  const index sets = s.per_column != 0 ? s.cols : 1;
  const auto affines = m.numbers<affine>(s.data[0], static_cast<std::size_t>(sets));
  u.base.resize(1, sets);
  matrix<> zero(1, sets);
  for (index j = 0; j < sets; ++j) {
    u.base(0, j) = affines[static_cast<std::size_t>(j)].scale;
    zero(0, j) = static_cast<float>(affines[static_cast<std::size_t>(j)].zero_point);
  }
  const encode_readers r = readers_of(m, f, i, zero);
  u.counted = r.pinned || !r.same_zero || (r.linear && sets > 1);
  if (r.pinned) u.pinned = zero;
  const index groups = sets == 1 || r.groups == 0 || u.counted ? sets : r.groups;
  u.first = p.add(refined::scale, matrix<>::Zero(1, groups), -3, 3, i);
  u.second = p.add(refined::zero, zero, 0, 0, i);
  // a zero point keeps to the codes, or to where it was outside of them: sums stay in what was proved
  const auto last = static_cast<float>((1 << s.bits) - 1);
  p[u.second].lowest = r.pinned ? zero : matrix<>(zero.cwiseMin(0.0F));
  p[u.second].highest = r.pinned ? zero : matrix<>(zero.cwiseMax(last));
}

/// A code is rounded half to even, as an encode rounds.
inline matrix<> rounded(const matrix<>& x) {
  return x.unaryExpr([](float v) { return std::nearbyint(v); });
}

/// What the outputs of linear instruction i gain from zero points of its input that are not the number it
/// subtracts: sum_i w_i (z_i - z) m. Nothing where its input's zero point is that number.
inline matrix<double> shift_of(const instruction& s, const refine_unit& u, const refine_parameters& p) {
  const refine_unit& input = p.units[static_cast<std::size_t>(s.a - 1)];
  if (!input.counted) return matrix<double>::Zero(1, s.cols);
  matrix<double> z(1, s.inner);
  const matrix<>& zero = p.at(input.second);
  for (index j = 0; j < s.inner; ++j)
    z(0, j) = std::nearbyint(static_cast<double>(zero(0, zero.cols() > 1 ? j : 0))) - s.zero_a;
  matrix<double> w = rounded(p.at(u.first)).cast<double>();
  w.colwise() -= u.zero.col(0).cast<double>();
  return (z * w.transpose()).array() *
         (u.base.col(0).array() * p.at(u.second).col(0).array().exp()).cast<double>().transpose();
}

inline void read_linear(const model_view& m, const instruction& s, int i, refine_parameters& p,
                        std::map<std::tuple<std::uint64_t, int, int>, int>& known) {
  refine_unit& u = p.units[static_cast<std::size_t>(i)];
  const auto [place, added] = known.try_emplace({s.data[0], s.cols, s.inner}, -1);
  if (added) {
    place->second = p.add(refined::weight, read_matrix<std::uint8_t>(m, s.data[0], s.cols, s.inner), 0,
                          static_cast<float>((1 << s.bits) - 1), i);
  } else {
    p[place->second].users.push_back(i);
  }
  u.first = place->second;
  u.zero = read_matrix<std::int32_t>(m, s.data[1], s.cols, 1);
  u.base = read_matrix<float>(m, s.data[2], s.cols, 1);
  u.second = p.add(refined::scale, matrix<>::Zero(s.cols, 1), -3, 3, i);
  u.start = read_matrix<float>(m, s.data[3], 1, s.cols);
  u.shift = shift_of(s, u, p);
  u.third = p.add(refined::offset, (u.start.cast<double>() + u.shift).cast<float>(), -1e30F, 1e30F, i);
}

inline void read_norm(const model_view& m, const instruction& s, int i, refine_parameters& p) {
  refine_unit& u = p.units[static_cast<std::size_t>(i)];
  const auto add = [&](std::uint64_t offset) {
    return p.add(refined::offset, read_matrix<float>(m, offset, 1, s.cols), -1e30F, 1e30F, i);
  };
  u.first = add(s.data[0]);
  const float size = std::sqrt(p.at(u.first).squaredNorm() / static_cast<float>(s.cols));
  p[u.first].unit = size;
  if (s.flag != 0) return;
  u.second = add(s.data[1]);
  p[u.second].unit = size;
}

inline void read_attention(const model_view& m, const instruction& s, int i, refine_parameters& p) {
  refine_unit& u = p.units[static_cast<std::size_t>(i)];
  u.base = read_matrix<float>(m, s.data[0], 1, s.heads);
  u.value_scale = read_matrix<float>(m, s.data[3], 1, static_cast<index>(s.kv_heads) * s.inner);
  u.first = p.add(refined::scale, matrix<>::Zero(1, s.heads), -3, 3, i);
  u.second = p.add(refined::scale, matrix<>::Zero(1, 1), -3, 3, i);
}

/// The parameters of a model, so that it would be written back as it is.
///
/// Errors  shape_mismatch where continuous weights do not fit the linear instructions, non_finite
inline failure read_parameters(const model_view& m, const refine_flow& f, const refinement& options,
                               refine_parameters& p) {
  p.units.resize(f.code.size());
  std::map<std::tuple<std::uint64_t, int, int>, int> known;
  std::size_t linear = 0;
  for (std::size_t at = 0; at < f.code.size(); ++at) {
    const auto i = static_cast<int>(at);
    const instruction& s = f.code[at];
    if (s.kind == opcode::encode) read_encode(m, f, i, p);
    if (s.kind == opcode::norm) read_norm(m, s, i, p);
    if (s.kind == opcode::attention) read_attention(m, s, i, p);
    if (s.kind != opcode::linear) continue;
    read_linear(m, s, i, p, known);
    if (options.weights.empty()) continue;
    if (linear++ >= options.weights.size()) continue;
    const matrix<>& start = options.weights[linear - 1];
    if (failure bad = check_finite(start, "refine: weights")) return bad;
    matrix<>& x = p[p.units[at].first].x;
    if (start.rows() != x.rows() || start.cols() != x.cols())
      return {errc::shape_mismatch, "refine: weights", start.size(), x.size()};
    const matrix<> codes = x.array().round();
    x = start.cwiseMax((codes.array() - 0.499F).matrix()).cwiseMin((codes.array() + 0.499F).matrix());
  }
  if (linear != options.weights.size()) {
    return {errc::shape_mismatch, "refine: weights", static_cast<std::int64_t>(options.weights.size()),
            static_cast<std::int64_t>(linear)};
  }
  return {};
}

}  // namespace repquant::detail
