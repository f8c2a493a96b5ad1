// SPDX-License-Identifier: MIT
/// gptq: rounds a weight column by column, and lets the columns still to come make up for the error.
#pragma once

#include <repquant/parallel/inline_executor.hpp>
#include <repquant/reconstruct/round_to_nearest.hpp>

namespace repquant {

namespace detail {
/// What a tile adds to the report: sums over its entries of (D R)_j^2, and of D_j^2.
struct tile_loss {
  double damped = 0;
  double square = 0;
};

/// Rounds the rows of one tile. Rows depend on nothing but themselves and the factor; they always run in
/// tiles of one size, so that neither threads nor neighbours can change a bit.
template<Codec C, Granularity G>
class gptq_tile {
 public:
  static constexpr index width = 64;

  gptq_tile(const gram_factor& f, index block)
      : factor_(f),
        block_(block),
        error_(matrix<double>::Zero(static_cast<index>(f.order.size()), width)),
        pending_(block, width) {}

  /// Writes the codes of rows tile * width and on.
  tile_loss round(const quantizer<C, G>& q, matrix_view w, index tile, matrix<code_type_t<C>>& codes) {
    const index n = error_.rows();
    const index first = tile * width;
    const index height = std::min(width, w.rows() - first);
    for (index start = 0; start < n; start += block_) {
      const index count = std::min(block_, n - start);
      auto pending = pending_.topRows(count);
      if (start > 0) {
        pending.noalias() = factor_.lower.block(start, 0, count, start) * error_.topRows(start);
      } else {
        pending.setZero();
      }
      for (index c = 0; c < count; ++c) {
        const index j = start + c;
        const double* row = factor_.lower.row(j).data();
        carried_ = pending.row(c).transpose();
        for (index k = start; k < j; ++k) carried_ += row[k] * error_.row(k).transpose();
        round_column(q, w, first, height, j, codes);
      }
    }
    tile_loss total;
    for (index r = 0; r < height; ++r) {
      total.damped += loss_(r);
      total.square += square_(r);
    }
    return total;
  }

 private:
  using per_row_of_tile = Eigen::Matrix<double, width, 1>;

  void round_column(const quantizer<C, G>& q, matrix_view w, index first, index height, index j,
                    matrix<code_type_t<C>>& codes) {
    const index col = factor_.order[static_cast<std::size_t>(j)];
    const double pivot = factor_.lower(j, j);
    for (index r = 0; r < height; ++r) {
      const double weight = static_cast<double>(w(first + r, col));
      const double adjusted = weight + carried_(r) / pivot;
      const std::int32_t code = q.encode(static_cast<float>(adjusted), first + r, col);
      const double value = static_cast<double>(q.decode(code, first + r, col));
      codes(first + r, col) = static_cast<code_type_t<C>>(code);
      error_(j, r) = weight - value;
      const double e = pivot * (adjusted - value);
      loss_(r) += e * e;
      square_(r) += error_(j, r) * error_(j, r);
    }
  }

  const gram_factor& factor_;
  index block_;
  matrix<double> error_;    // [live x width]: W - Q of the columns done, transposed
  matrix<double> pending_;  // [block x width]: what the columns before this block carry into it
  per_row_of_tile carried_ = per_row_of_tile::Zero();
  per_row_of_tile loss_ = per_row_of_tile::Zero();
  per_row_of_tile square_ = per_row_of_tile::Zero();
};
}  // namespace detail

/// Rounds every entry of a weight to a code, moving each rounding error into the columns not yet rounded.
///
///   H_d = H + damping * mean(live diagonal) * I = R R^T, R upper        (gram_factor.hpp)
///   for column j in order:  w'_j = w_j + (sum over k < j of D_k R_kj) / R_jj
///                           q_j = encode(w'_j),  D_j = w_j - decode(q_j)
///
/// This is GPTQ without an inverse: with H_d^-1 = U^T U, U = R^-1 is the factor that the paper uses and
/// w'_j are its updated weights. Hence the identity, with e_j = w'_j - decode(q_j):
///
///   sum of (e_j / U_jj)^2 = sum of (R_jj e_j)^2 = tr(D H_d D^T)         (report.damped_loss)
///
/// Parameters are those of the quantizer given, fixed beforehand: with per_group these are "static
/// groups", which the order of columns cannot disturb. Dead columns (no input ever) are rounded to nearest
/// and influence nothing. Where no damping makes H positive definite, all of w is rounded to nearest and
/// the report says so.
///
/// Shapes    w [out x in], h [in x in]: the sum of x^T x over calibration tokens
/// Units     damping is a fraction of the mean diagonal, usual 0.01
/// Requires  nothing beyond the shapes; any codec, any granularity
/// Errors    shape_mismatch, group_mismatch, bad_bits, bad_option (damping or block), empty, non_finite,
///           not_positive_definite (negative diagonal, not symmetric); each with its place
/// Cost      in^3 / 3 + out in^2 / 2 multiply-adds in double; 2 in^2 doubles, and 64 in for each thread;
///           the first part on one thread, the second on the executor's: the same bits for any number
/// Precision double; codes equal the textbook form with an explicit inverse (tests/oracle/gptq.hpp)
/// Source    GPTQ, arXiv 2210.17323; reference code: gptq.py, fasterquant(). docs/decisions/0009
/// Example   examples/03_own_codec.cpp
struct gptq {
  double damping = 0.01;
  column_order order = column_order::activation;
  index block = 128;  ///< columns between two matrix products; changes speed, and codes only by ties

  template<Codec C, Granularity G, Executor E = inline_executor>
  result<reconstruction<C, G>> operator()(const quantizer<C, G>& q, matrix_view w, const gram& h,
                                          const E& exec = {}) const {
    if (failure f = check_settings()) return f;
    if (failure f = detail::check_problem(q, w, h)) return f;
    return round(q, w, h, factor_of(h), exec);
  }

  /// What the other two calls make of a Gram matrix.
  ///
  /// Requires  check(h, ...) passed
  [[nodiscard]] gram_factor factor_of(const gram& h) const { return factor(h, damping, order); }

  /// The same with the factor_of(h) made before, for layers that share an input, or for several quantizers.
  template<Codec C, Granularity G, Executor E = inline_executor>
  result<reconstruction<C, G>> operator()(const quantizer<C, G>& q, matrix_view w, const gram& h,
                                          const gram_factor& shared, const E& exec = {}) const {
    if (failure f = check_settings()) return f;
    if (failure f = detail::check_problem(q, w, h)) return f;
    const auto live = static_cast<index>(shared.order.size());
    if (live + static_cast<index>(shared.dead.size()) != w.cols()) {
      return failure{errc::shape_mismatch, "gptq: factor", live + static_cast<index>(shared.dead.size()),
                     w.cols()};
    }
    return round(q, w, h, shared, exec);
  }

 private:
  /// All but the checks.
  template<Codec C, Granularity G, Executor E>
  result<reconstruction<C, G>> round(const quantizer<C, G>& q, matrix_view w, const gram& h,
                                     const gram_factor& shared, const E& exec) const {
    const auto live = static_cast<index>(shared.order.size());
    if (!shared.usable()) {
      result<reconstruction<C, G>> rounded = round_to_nearest{}(q, w, h);
      if (rounded) {
        rounded->report.rounded_to_nearest = true;
        rounded->report.notice = {errc::not_positive_definite, "gptq: gram: rounded to nearest instead", 0,
                                  live};
      }
      return rounded;
    }
    matrix<code_type_t<C>> codes(w.rows(), w.cols());
    for (const index j : shared.dead) {
      for (index i = 0; i < w.rows(); ++i) codes(i, j) = static_cast<code_type_t<C>>(q.encode(w(i, j), i, j));
    }
    reconstruction_report report;
    report.damping = shared.damping;
    report.dead_columns = static_cast<index>(shared.dead.size());
    if (h.tokens < live) {
      report.notice = {errc::not_positive_definite, "gptq: gram: fewer tokens than inputs", h.tokens, live};
    }
    const index tiles = (w.rows() + detail::gptq_tile<C, G>::width - 1) / detail::gptq_tile<C, G>::width;
    std::vector<detail::tile_loss> losses(static_cast<std::size_t>(tiles));
    exec(tiles, [&](index t) {
      losses[static_cast<std::size_t>(t)] = detail::gptq_tile<C, G>(shared, block).round(q, w, t, codes);
    });
    double square = 0;
    for (const detail::tile_loss& l : losses) {
      report.damped_loss += l.damped;
      square += l.square;
    }
    report.loss = std::fmax(report.damped_loss - shared.ridge * square, 0.0);
    return reconstruction<C, G>{quantized<C, G>(q, std::move(codes)), report};
  }

  static constexpr double largest_damping = 1e6;
  [[nodiscard]] failure check_settings() const noexcept {
    if (!(damping >= 0 && damping <= largest_damping)) {
      const double percent = std::fmin(std::fmax(100 * damping, -1e15), 1e15);  // NaN becomes the lower one
      return {errc::bad_option, "gptq: damping in percent", static_cast<std::int64_t>(percent),
              damping > largest_damping ? static_cast<std::int64_t>(100 * largest_damping) : 0};
    }
    if (block < 1) return {errc::bad_option, "gptq: block", block, 1};
    return {};
  }
};

}  // namespace repquant
