// SPDX-License-Identifier: MIT
/// find_feedback against an elimination in plain loops, and the error that it is made for.
#include <repquant/calibrate/find_feedback.hpp>
#include <repquant/kernel/decode.hpp>
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/encode_with_feedback.hpp>

#include "catch.hpp"
#include "oracle/samples.hpp"

namespace rq = repquant;

namespace {

using matrix = rq::matrix<double>;
using column = rq::column<double>;

matrix random_matrix(rq::index rows, rq::index cols, std::uint64_t seed) {
  oracle::mixer m{seed};
  matrix x(rows, cols);
  for (rq::index k = 0; k < x.size(); ++k) x.data()[k] = m.normal();
  return x;
}
/// The weights of readers that see some directions of `cols` channels far better than others.
matrix random_readers(rq::index rows, rq::index cols, std::uint64_t seed) {
  matrix w =
      random_matrix(rows, cols, seed) + 2 * random_matrix(rows, 1, seed + 1) * random_matrix(1, cols, 9);
  for (rq::index j = 0; j < cols; ++j) w.col(j) *= 1 + 0.1 * static_cast<double>(j % 7);
  return w;
}
/// Steps that differ by up to four times.
column random_steps(rq::index cols, std::uint64_t seed) {
  oracle::mixer m{seed};
  column s(cols);
  for (rq::index j = 0; j < cols; ++j) s(j) = 0.05 * std::exp2(2 * m.unit());
  return s;
}

/// G = L^T D L of one block, in the order of coding, over steps: from the last row of L upwards,
///
///   D_i = G_ii - sum over k > i of D_k L_ki^2,   L_ij = (G_ij - sum over k > i of D_k L_ki L_kj) / D_i
struct elimination {
  elimination(const matrix& g, const column& s, double added, rq::index first,
              std::span<const std::uint8_t> order)
      : n(static_cast<rq::index>(order.size())), l(matrix::Identity(n, n)), d(n) {
    const auto channel = [&](rq::index i) { return first + order[static_cast<std::size_t>(i)]; };
    const auto rest = [&](rq::index i, rq::index j, rq::index behind) {
      double x = g(channel(i), channel(j)) * s(channel(i)) * s(channel(j)) + (i == j ? added : 0);
      for (rq::index k = behind; k < n; ++k) x -= d(k) * l(k, i) * l(k, j);
      return x;
    };
    for (rq::index i = n - 1; i >= 0; --i) {
      d(i) = rest(i, i, i + 1);
      for (rq::index j = 0; j < i; ++j) {
        l(i, j) = rest(i, j, i + 1) / d(i);
        least_first = least_first && d(i) <= rest(j, j, i + 1) * (1 + 1e-9);
      }
    }
  }
  rq::index n;
  matrix l;
  column d;
  bool least_first = true;  ///< from the last on, each channel is that of the least that is left
};

double mean_importance(const matrix& g, const column& s) {
  return g.diagonal().cwiseProduct(s.cwiseAbs2()).mean();
}

bool finite(const rq::found_feedback& f) {
  return std::all_of(f.unit.begin(), f.unit.end(), [](float u) { return std::isfinite(u); });
}
/// The largest share of an error that reaches another channel.
double farthest(const rq::found_feedback& f) {
  double most = 0;
  for (float u : f.unit) most = std::fmax(most, 127 * static_cast<double>(u));
  return most;
}
bool same(const rq::found_feedback& a, const rq::found_feedback& b) {
  return a.block == b.block && a.order == b.order && a.unit == b.unit && a.reach == b.reach;
}

/// What W makes of the errors of 8-bit codes, each for itself and with feedback: means of squares.
struct two_errors {
  double plain = 0;
  double fed = 0;
};
two_errors errors_of(const matrix& w, const column& s, const rq::found_feedback& f, rq::index rows) {
  const rq::index cols = w.cols();
  const rq::uniform codec{.bits = 8};
  std::vector<rq::affine> params;
  for (rq::index j = 0; j < cols; ++j) params.push_back({static_cast<float>(s(j)), 128});
  // correlated values of some twenty steps: nothing is cut, and rounding errors are even
  const matrix mix = random_matrix(cols, cols, 77) / std::sqrt(static_cast<double>(cols));
  const rq::matrix<> x = (random_matrix(rows, cols, 78) * mix * 20 * s.asDiagonal()).cast<float>();
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(x.size()));
  rq::matrix<> back(rows, cols);
  const auto error = [&] {
    rq::decode(codec, rq::per_col{}, {rows, cols}, params, codes.data(), cols, back.data(), cols);
    return ((back - x).cast<double>() * w.transpose()).squaredNorm() / static_cast<double>(rows);
  };
  two_errors e;
  rq::encode_columns(codec, params, x.data(), rows, cols, cols, codes.data(), cols);
  e.plain = error();
  rq::encode_with_feedback(codec, params, f.view(), x.data(), rows, cols, cols, codes.data(), cols);
  e.fed = error();
  return e;
}

}  // namespace

TEST_CASE("find_feedback stores the factors of the importance, the least important channels last",
          "[calibrate][feedback]") {
  for (const rq::index block : {1, 2, 5, 16, 64}) {
    for (const rq::index cols : {rq::index{1}, block, block + 1, 3 * block - 1}) {
      for (const bool per_column : {false, true}) {
        const matrix w = random_readers(2 * cols + 3, cols, 5);
        const matrix g = w.transpose() * w;
        const column all = per_column ? random_steps(cols, 6) : column::Constant(cols, 0.3);
        constexpr double damping = 0.02;
        const column steps = per_column ? all : column::Constant(1, 0.3);
        const rq::found_feedback f = rq::find_feedback(g, steps, block, damping);
        CAPTURE(block, cols, per_column);
        REQUIRE(f.block == std::min(block, cols));
        REQUIRE(f.order.size() == static_cast<std::size_t>(cols));
        REQUIRE(f.unit.size() == f.order.size());
        REQUIRE(f.reach.size() == rq::error_feedback::reach_of(cols, f.block));
        std::size_t at = 0;
        bool least_first = true;
        double worst = 0;  // difference of a factor, over its row's largest
        for (rq::index first = 0; first < cols; first += f.block) {
          const rq::index n = std::min(f.block, cols - first);
          const auto order =
              std::span(f.order).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
          std::vector<bool> seen(static_cast<std::size_t>(n), false);
          for (std::uint8_t c : order) {
            REQUIRE(c < n);
            REQUIRE_FALSE(seen[c]);
            seen[c] = true;
          }
          const elimination e(g, all, damping * mean_importance(g, all), first, order);
          least_first = least_first && e.least_first;
          const auto s = [&](rq::index i) { return all(first + order[static_cast<std::size_t>(i)]); };
          for (rq::index j = 0; j < n; ++j) {
            const double unit = f.unit[static_cast<std::size_t>(first + j)];
            double largest = 1e-30;
            double off = 0;
            for (rq::index i = j + 1; i < n; ++i) {
              const double want = e.l(i, j) * s(i) / s(j);
              largest = std::fmax(largest, std::fabs(want));
              off = std::fmax(off, std::fabs(unit * f.reach[at++] - want));
            }
            worst = std::fmax(worst, off / largest);
          }
        }
        CHECK(at == f.reach.size());
        CHECK(least_first);
        // half a step of 127, the unit rounded to float
        CHECK(worst <= 1.0 / 254 + 1e-6);
        if (block >= 5 && cols >= 5) CHECK(farthest(f) > 0.05);
      }
    }
  }
}

TEST_CASE("codes with feedback err as the factors say", "[calibrate][feedback]") {
  // A value that is rounded alone errs by s^2 / 12, whatever the others: G_ii s_i^2 / 12 and D_i / 12. Of
  // 4000 rows the mean is off by 2 %; the integers of the factors add a thousandth
  for (const rq::index cols : {8, 32, 96}) {
    const matrix w = random_readers(2 * cols, cols, 15);
    const matrix g = w.transpose() * w;
    const column s = random_steps(cols, 16);
    for (const rq::index block : {rq::index{4}, rq::index{32}, cols}) {
      constexpr double damping = 1e-6;  // so that D is that of G itself
      const rq::found_feedback f = rq::find_feedback(g, s, block, damping);
      double plain = 0;
      double fed = 0;
      for (rq::index first = 0; first < cols; first += f.block) {
        const rq::index n = std::min(f.block, cols - first);
        const elimination e(
            g, s, 0, first,
            std::span(f.order).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n)));
        fed += e.d.sum() / 12;
        plain += g.diagonal().segment(first, n).cwiseProduct(s.segment(first, n).cwiseAbs2()).sum() / 12;
      }
      const two_errors found = errors_of(w, s, f, 4000);
      CAPTURE(cols, block, plain, fed, found.plain, found.fed);
      CHECK(found.plain == Approx(plain).epsilon(0.06));
      CHECK(found.fed == Approx(fed).epsilon(0.06));
      CHECK(found.fed < 0.8 * found.plain);
    }
  }
}

TEST_CASE("larger blocks leave less, and this order less than another", "[calibrate][feedback]") {
  const rq::index cols = 64;
  const matrix w = random_readers(80, cols, 25);
  const matrix g = w.transpose() * w;
  const column s = random_steps(cols, 26);
  const auto left = [&](std::span<const std::uint8_t> order) {
    return elimination(g, s, 0, 0, order).d.sum();
  };
  const rq::found_feedback f = rq::find_feedback(g, s, cols, 1e-6);
  const std::vector<std::uint8_t> backwards(f.order.rbegin(), f.order.rend());
  std::vector<std::uint8_t> as_they_come(f.order);
  std::sort(as_they_come.begin(), as_they_come.end());
  CHECK(left(f.order) < 0.97 * left(as_they_come));
  CHECK(left(f.order) < 0.97 * left(backwards));
  double before = HUGE_VAL;
  for (const rq::index block : {1, 4, 16, 64}) {
    const double now = errors_of(w, s, rq::find_feedback(g, s, block, 1e-3), 1000).fed;
    CAPTURE(block);
    CHECK(now < before);
    before = now;
  }
}

TEST_CASE("find_feedback of channels that readers see apart feeds nothing back", "[calibrate][feedback]") {
  matrix g = matrix::Zero(9, 9);
  for (rq::index j = 0; j < 9; ++j) g(j, j) = 1 + static_cast<double>(j * 4 % 9);
  for (const double importance : {1.0, 0.0}) {
    const rq::found_feedback f = rq::find_feedback(importance * g, column::Constant(1, 0.5), 9, 0.01);
    CHECK(f.unit == std::vector<float>(9, 0));
    CHECK(f.reach == std::vector<std::int8_t>(36, 0));
    if (importance > 0) {
      for (std::size_t i = 1; i < 9; ++i)
        CHECK(g.diagonal()(f.order[i]) < g.diagonal()(f.order[i - 1]));  // the least is the last
    }
  }
}

TEST_CASE("blocks of find_feedback do not see each other", "[calibrate][feedback]") {
  const matrix w = random_readers(30, 22, 35);
  const matrix g = w.transpose() * w;
  const column s = random_steps(22, 36);
  matrix apart = matrix::Zero(22, 22);
  for (const rq::index first : {0, 8, 16}) {
    const rq::index n = std::min<rq::index>(8, 22 - first);
    apart.block(first, first, n, n) = g.block(first, first, n, n);
  }
  const rq::found_feedback f = rq::find_feedback(g, s, 8, 0.01);
  CHECK(same(f, rq::find_feedback(apart, s, 8, 0.01)));
  CHECK(f.block == 8);
  // one block of all channels of `apart` finds nothing between them, either
  const rq::found_feedback whole = rq::find_feedback(apart, s, 256, 0.01);
  CHECK(whole.block == 22);
  std::size_t at = 0;
  for (std::size_t i = 0; i < 22; ++i) {
    for (std::size_t j = i + 1; j < 22; ++j, ++at) {
      if (whole.order[i] / 8 != whole.order[j] / 8) CHECK(whole.reach[at] == 0);
    }
  }
}

TEST_CASE("find_feedback: damping bounds what readers of few directions ask for", "[calibrate][feedback]") {
  const rq::index cols = 48;
  const column s = random_steps(cols, 46);
  for (const rq::index directions : {1, 3, 20}) {
    const matrix w = random_readers(directions, cols, 45);
    matrix g = w.transpose() * w;
    g.row(7).setZero();  // a channel that nobody reads
    g.col(7).setZero();
    double before = HUGE_VAL;
    for (const double damping : {1e-4, 1e-2, 1.0, 100.0}) {
      const rq::found_feedback f = rq::find_feedback(g, s, cols, damping);
      CAPTURE(directions, damping, farthest(f));
      REQUIRE(finite(f));
      CHECK(farthest(f) < before);
      before = farthest(f);
      // a factor g_ij / (g_ii + damping) is at most the largest g over the damping; steps differ by four
      // times
      const column sizes = g.diagonal().cwiseProduct(s.cwiseAbs2());
      CHECK(farthest(f) <= 4 * sizes.maxCoeff() / (damping * sizes.mean()));
      // nothing reaches the channel nobody reads, and nothing leaves it
      std::size_t at = 0;
      for (std::size_t i = 0; i < f.order.size(); ++i) {
        for (std::size_t j = i + 1; j < f.order.size(); ++j, ++at) {
          if (f.order[i] == 7 || f.order[j] == 7) CHECK(f.reach[at] == 0);
        }
      }
      if (damping <= 0.01) {
        matrix read = w;
        read.col(7).setZero();
        const two_errors e = errors_of(read, s, f, 500);
        CHECK(e.fed < 0.5 * e.plain);
      }
    }
  }
}
