// SPDX-License-Identifier: MIT
/// What a transformer does to whole rows, on a tape: class tokens, position tables, pooling, rotary
/// positions, and the mixing of columns in front of codes.
#pragma once

#include <repquant/kernel/hadamard.hpp>
#include <repquant/kernel/mix_heads.hpp>
#include <repquant/train/tape.hpp>

#include <span>

namespace repquant::differentiable {

/// out = row `row` of a; a negative one counts from the last.
///
/// Shapes  a [rows x cols], result [1 x cols]
inline node select_row(tape& t, node a, index row) {
  const index from = row < 0 ? t.value(a).rows() + row : row;
  const node out = t.result(1, t.value(a).cols(), {a});
  t.value_of(out) = t.value(a).row(from);
  t.on_backward(out, [a, out, from](tape& u) { u.gradient_of(a).row(from) += u.gradient(out); });
  return out;
}

/// out = the mean of the rows of a.
///
/// Shapes  a [rows x cols], result [1 x cols]
inline node mean_rows(tape& t, node a) {
  const node out = t.result(1, t.value(a).cols(), {a});
  t.value_of(out) = t.value(a).colwise().mean();
  t.on_backward(out, [a, out](tape& u) {
    const float share = 1.0F / static_cast<float>(u.value(a).rows());
    u.gradient_of(a).rowwise() += u.gradient(out).row(0) * share;
  });
  return out;
}

/// out = [row; a].
///
/// Shapes  row [1 x cols], a [rows x cols], result [rows + 1 x cols]
inline node prepend_row(tape& t, node row, node a) {
  const index rows = t.value(a).rows();
  const node out = t.result(rows + 1, t.value(a).cols(), {row, a});
  t.value_of(out).row(0) = t.value(row).row(0);
  t.value_of(out).bottomRows(rows) = t.value(a);
  t.on_backward(out, [row, a, out, rows](tape& u) {
    u.add_gradient(row, u.gradient(out).row(0));
    u.add_gradient(a, u.gradient(out).bottomRows(rows));
  });
  return out;
}

/// out = a + the first rows of the table.
///
/// Shapes  a, result [rows x cols], table [at least rows x cols]
inline node add_rows(tape& t, node a, node table) {
  const index rows = t.value(a).rows();
  REPQUANT_ASSERT(t.value(table).rows() >= rows);
  const node out = t.result(rows, t.value(a).cols(), {a, table});
  t.value_of(out) = t.value(a) + t.value(table).topRows(rows);
  t.on_backward(out, [a, table, out, rows](tape& u) {
    u.add_gradient(a, u.gradient(out));
    if (u.wanted(table)) u.gradient_of(table).topRows(rows) += u.gradient(out);
  });
  return out;
}

/// Rotary positions: every pair of neighbours of every head is turned by the angle of its token,
///
///   out[2i] = x[2i] c[i] - x[2i + 1] s[i],   out[2i + 1] = x[2i] s[i] + x[2i + 1] c[i];
///
/// the gradient is turned back.
///
/// Shapes    x, result [tokens x heads d], cosines, sines [at least tokens x d / 2]
/// Requires  cosines and sines live until the tape is cleared
inline node rotate(tape& t, node x, matrix_view cosines, matrix_view sines) {
  const index half = cosines.cols();
  REPQUANT_ASSERT(t.value(x).cols() % (2 * half) == 0 && cosines.rows() >= t.value(x).rows());
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x});
  matrix<>& y = t.value_of(out);
  const matrix<>& in = t.value(x);
  for (index i = 0; i < in.rows(); ++i) {
    for (index j = 0; j < in.cols() / 2; ++j) {
      const float c = cosines(i, j % half);
      const float s = sines(i, j % half);
      y(i, 2 * j) = in(i, 2 * j) * c - in(i, 2 * j + 1) * s;
      y(i, 2 * j + 1) = in(i, 2 * j) * s + in(i, 2 * j + 1) * c;
    }
  }
  t.on_backward(out, [x, out, cosines, sines, half](tape& u) {
    const matrix<>& g = u.gradient(out);
    matrix<>& dx = u.gradient_of(x);
    for (index i = 0; i < g.rows(); ++i) {
      for (index j = 0; j < g.cols() / 2; ++j) {
        const float c = cosines(i, j % half);
        const float s = sines(i, j % half);
        dx(i, 2 * j) += g(i, 2 * j) * c + g(i, 2 * j + 1) * s;
        dx(i, 2 * j + 1) += g(i, 2 * j + 1) * c - g(i, 2 * j) * s;
      }
    }
  });
  return out;
}

/// hadamard_row of every row. Its matrices are symmetric, so the gradient goes through them in the opposite
/// order, and through the factors last.
///
/// Shapes    x, result [rows x d], factors [d]
/// Requires  factors live until the tape is cleared
inline node hadamard(tape& t, node x, std::span<const float> factors) {
  const auto n = factors.size();
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x});
  matrix<>& y = t.value_of(out);
  for (index i = 0; i < y.rows(); ++i) {
    hadamard_row({t.value(x).row(i).data(), n}, factors, {y.row(i).data(), n});
  }
  t.on_backward(out, [x, out, factors, n](tape& u) {
    matrix<> g = u.gradient(out);
    const std::size_t block = hadamard_block_size(n);
    for (index i = 0; i < g.rows(); ++i) {
      const std::span<float> row(g.row(i).data(), n);
      if (block < n) {
        repquant::detail::hadamard_block<default_arch>(row.last(block));
        for (std::size_t j = n - block; j < block; ++j) row[j] = hadamard_negates(j) ? -row[j] : row[j];
      }
      repquant::detail::hadamard_block<default_arch>(row.first(block));
      for (std::size_t j = 0; j < n; ++j) row[j] *= factors[j];
    }
    u.gradient_of(x) += g;
  });
  return out;
}

/// Each head of each row times its own matrix (mix_heads_row).
///
/// Shapes    x, result [rows x heads d], matrices [heads d x d]
/// Requires  matrices live until the tape is cleared
inline node mix_heads(tape& t, node x, matrix_view matrices) {
  const index d = matrices.cols();
  const node out = t.result(t.value(x).rows(), t.value(x).cols(), {x});
  for (index h = 0; h < matrices.rows(); h += d) {
    t.value_of(out).middleCols(h, d).noalias() =
        t.value(x).middleCols(h, d) * matrices.eigen().middleRows(h, d);
  }
  t.on_backward(out, [x, out, matrices, d](tape& u) {
    for (index h = 0; h < matrices.rows(); h += d) {
      u.gradient_of(x).middleCols(h, d).noalias() +=
          u.gradient(out).middleCols(h, d) * matrices.eigen().middleRows(h, d).transpose();
    }
  });
  return out;
}

}  // namespace repquant::differentiable
