// SPDX-License-Identifier: MIT
/// encode_with_feedback and move_by_feedback against their definition, every operation in double and rounded:
/// the same codes on every register, for all blocks, tails, strides and widths.
#include <repquant/kernel/encode.hpp>
#include <repquant/kernel/encode_with_feedback.hpp>

#include "catch.hpp"
#include "oracle/codec.hpp"
#include "oracle/feedback.hpp"
#include "oracle/samples.hpp"
#include "unit/kernel/architectures.hpp"
#include "unit/kernel/guarded.hpp"
#include <limits>
#include <numeric>

namespace rq = repquant;

namespace {

std::size_t size(rq::index n) { return static_cast<std::size_t>(n); }

/// Values, the parameters of their codes and a feedback with numbers of both signs.
struct fed_case {
  /// `factor`: about the largest share of an error that reaches another channel.
  fed_case(rq::index rows_in, rq::index cols_in, rq::index block_in, int bits, bool per_column,
           const char* kind = "outliers", double factor = 0.7)
      : rows(rows_in), cols(cols_in), block(block_in), codec{.bits = bits} {
    oracle::mixer m{size(rows * 1000 + cols * 10 + block)};
    x = oracle::draws(kind, size(rows * cols), m.next());
    const float step = 4 / static_cast<float>(codec.levels());  // of values that are about normal
    for (rq::index j = 0; j < (per_column ? cols : 1); ++j) {
      params.push_back({step * static_cast<float>(0.5 + m.unit()),
                        codec.levels() / 2 + static_cast<std::int32_t>(m.next() % 5) - 2});
    }
    for (rq::index left = 0; left < cols; left += block) {
      const rq::index n = std::min(block, cols - left);
      std::vector<std::uint8_t> channels(size(n));
      std::iota(channels.begin(), channels.end(), std::uint8_t{0});
      for (std::size_t i = channels.size(); i > 1; --i) std::swap(channels[i - 1], channels[m.next() % i]);
      order.insert(order.end(), channels.begin(), channels.end());
      for (rq::index k = 0; k < n * (n - 1) / 2; ++k)
        reach.push_back(static_cast<std::int8_t>(static_cast<int>(m.next() % 256) - 128));
    }
    for (rq::index i = 0; i < cols; ++i)
      unit.push_back(static_cast<float>(factor / 127 * (2 * m.unit() - 1)));
  }
  [[nodiscard]] rq::error_feedback feedback() const { return {block, order, unit, reach}; }

  /// The definition, row by row.
  [[nodiscard]] oracle::fed_row defined() const {
    oracle::fed_row all;
    const auto own = [this](std::ptrdiff_t j) { return params[params.size() > 1 ? size(j) : 0]; };
    for (rq::index i = 0; i < rows; ++i) {
      const std::vector<float> row(x.begin() + i * cols, x.begin() + (i + 1) * cols);
      const oracle::fed_row one = oracle::feed_back(
          {block, order.data(), unit.data(), reach.data()}, row,
          [&](float v, std::ptrdiff_t j) {
            return oracle::uniform_code(v, own(j).scale, own(j).zero_point, codec.bits);
          },
          [&](int q, std::ptrdiff_t j) { return oracle::uniform_value(q, own(j).scale, own(j).zero_point); });
      all.moved.insert(all.moved.end(), one.moved.begin(), one.moved.end());
      all.code.insert(all.code.end(), one.code.begin(), one.code.end());
    }
    return all;
  }

  rq::index rows;
  rq::index cols;
  rq::index block;
  rq::uniform codec;
  std::vector<float> x;
  std::vector<rq::affine> params;
  std::vector<std::uint8_t> order;
  std::vector<float> unit;
  std::vector<std::int8_t> reach;
};

/// The codes of the first `rows` rows.
template<class Arch>
std::vector<int> codes_of(const fed_case& c, rq::index rows) {
  std::vector<std::uint8_t> codes(size(rows * c.cols), 0xA5);
  rq::encode_with_feedback<Arch>(c.codec, c.params, c.feedback(), c.x.data(), rows, c.cols, c.cols,
                                 codes.data(), c.cols);
  return {codes.begin(), codes.end()};
}
template<class Arch>
std::vector<float> moved_of(const fed_case& c) {
  std::vector<float> moved(c.x.size(), -77);
  rq::move_by_feedback<Arch>(c.codec, c.params, c.feedback(), c.x.data(), c.rows, c.cols, moved.data());
  return moved;
}

/// Codes of each for itself.
std::vector<int> plain_codes(const fed_case& c, const std::vector<float>& x) {
  std::vector<std::uint8_t> codes(x.size());
  if (c.params.size() > 1) {
    rq::encode_columns(c.codec, c.params, x.data(), c.rows, c.cols, c.cols, codes.data(), c.cols);
  } else {
    rq::encode(c.codec, c.params[0], x, codes);
  }
  return {codes.begin(), codes.end()};
}

/// True where the first `rows` rows have the codes of the definition on every register.
bool as_defined(const fed_case& c, const std::vector<int>& want, std::initializer_list<rq::index> rows) {
  bool same = true;
  for (const rq::index n : rows) {
    architectures::for_each([&]<class Arch>() {
      const std::vector<int> got = codes_of<Arch>(c, n);
      same = same && std::equal(got.begin(), got.end(), want.begin());
    });
  }
  return same;
}

/// The same numbers, where every NaN is one.
bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return oracle::bits(x) == oracle::bits(y) || (std::isnan(x) && std::isnan(y));
  });
}

}  // namespace

TEST_CASE("encode_with_feedback has the codes of its definition on every register", "[kernel][feedback]") {
  for (const rq::index block : {1, 2, 3, 4, 5, 8, 64, 65, 100, 256}) {
    for (const rq::index cols : {rq::index{1}, rq::index{7}, block, block + 1, 2 * block + 3}) {
      for (const bool per_column : {false, true}) {
        const fed_case c(70, cols, block, 4, per_column);
        const std::vector<int> want = c.defined().code;
        CAPTURE(block, cols, per_column);
        CHECK(as_defined(c, want, {1, 4, 5, 16, 17, 33, 64, 65, 70}));
        // the feedback decides: that of each for itself would not pass
        if (block > 1 && cols > 2) CHECK(plain_codes(c, c.x) != want);
      }
    }
  }
}

TEST_CASE("encode_with_feedback: 1 to 70 rows", "[kernel][feedback]") {
  for (const fed_case& c : {fed_case(70, 19, 8, 4, true), fed_case(70, 67, 65, 3, false)}) {
    const std::vector<int> want = c.defined().code;
    for (rq::index rows = 1; rows <= c.rows; ++rows) {
      CAPTURE(c.block, rows);
      CHECK(as_defined(c, want, {rows}));
    }
  }
}

TEST_CASE("encode_with_feedback: 2 to 8 bits, values of every kind", "[kernel][feedback]") {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const char* kind : {"normal", "huge mean", "every octave", "subnormal", "few levels", "relu"}) {
      for (const bool per_column : {false, true}) {
        const fed_case c(37, 50, 16, bits, per_column, kind);
        CAPTURE(bits, kind, per_column);
        CHECK(as_defined(c, c.defined().code, {37}));
      }
    }
  }
}

TEST_CASE("move_by_feedback gives the values whose own codes are those", "[kernel][feedback]") {
  for (const rq::index block : {1, 3, 8, 64, 100}) {
    for (const rq::index rows : {1, 5, 16, 40, 70}) {
      for (const bool per_column : {false, true}) {
        const fed_case c(rows, 2 * block + 1, block, 4, per_column);
        const oracle::fed_row want = c.defined();
        CAPTURE(block, rows, per_column);
        architectures::for_each([&]<class Arch>() {
          const std::vector<float> moved = moved_of<Arch>(c);
          CHECK(oracle::same_bits(moved, want.moved));
          CHECK(plain_codes(c, moved) == want.code);
        });
      }
    }
  }
}

TEST_CASE("encode_with_feedback where no error is fed back is encode", "[kernel][feedback]") {
  for (const rq::index block : {1, 6, 64, 90}) {
    for (const bool per_column : {false, true}) {
      fed_case c(33, 91, block, 4, per_column);
      c.unit.assign(c.unit.size(), 0);
      CAPTURE(block, per_column);
      CHECK(as_defined(c, plain_codes(c, c.x), {33}));
      CHECK(oracle::same_bits(moved_of<rq::default_arch>(c), c.x));
    }
  }
}

TEST_CASE("encode_with_feedback: NaN, infinities, huge values and huge units", "[kernel][feedback]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float most = std::numeric_limits<float>::max();
  const float nan = std::bit_cast<float>(0xFFD12345U);
  for (const rq::index block : {1, 4, 7, 64, 80}) {
    for (const bool per_column : {false, true}) {
      // the last: errors of codes become infinite, and their differences NaN
      for (const double factor : {0.7, 100.0, 3e38}) {
        fed_case c(70, 83, block, 4, per_column, "outliers", factor);
        const float bad[] = {nan, inf, -inf, most, -most, 0x1p120F, 1e-42F, -0.0F};
        for (std::size_t k = 0; k < 400; ++k) c.x[(k * 131) % c.x.size()] = bad[k % 8];
        const oracle::fed_row want = c.defined();
        CAPTURE(block, per_column, factor);
        CHECK(as_defined(c, want.code, {1, 17, 70}));
        architectures::for_each([&]<class Arch>() {
          const std::vector<float> moved = moved_of<Arch>(c);
          CHECK(same_numbers(moved, want.moved));
          CHECK(plain_codes(c, moved) == want.code);
        });
        if (factor < 1)
          CHECK(std::all_of(want.moved.begin(), want.moved.end(), [](float v) { return std::isfinite(v); }));
      }
    }
  }
}

TEST_CASE("encode_with_feedback: wide zero points and the ends of the scales", "[kernel][feedback]") {
  for (const float scale : {rq::uniform::smallest_scale, 0x1p-60F, 1.0F, rq::uniform::largest_scale}) {
    for (const std::int32_t zero : {-(1 << 22), -20, 300, 1 << 22}) {
      fed_case c(21, 24, 9, 8, false);
      c.params[0] = {scale, zero};
      for (float& v : c.x) v = (128 * v - static_cast<float>(zero)) * scale;
      CAPTURE(scale, zero);
      CHECK(as_defined(c, c.defined().code, {21}));
    }
  }
}

TEST_CASE("the codes of a row do not depend on the rows beside it", "[kernel][feedback]") {
  for (const rq::index block : {5, 64, 70}) {
    const fed_case c(70, 72, block, 4, true);
    const std::vector<int> all = c.defined().code;
    for (const rq::index row : {0, 15, 16, 31, 63, 69}) {
      fed_case among = c;
      for (rq::index i = 0; i < c.rows * c.cols; ++i) {
        if (i / c.cols != row) among.x[size(i)] = i % 3 == 0 ? std::nanf("") : 1e38F;
      }
      architectures::for_each([&]<class Arch>() {
        const std::vector<int> got = codes_of<Arch>(among, c.rows);
        CAPTURE(block, row);
        CHECK(std::equal(got.begin() + row * c.cols, got.begin() + (row + 1) * c.cols,
                         all.begin() + row * c.cols));
      });
    }
  }
}

TEST_CASE("encode_with_feedback keeps to its rows and spans", "[kernel][feedback]") {
  for (const rq::index block : {1, 3, 4, 64, 66}) {
    for (const rq::index rows : {1, 3, 4, 16, 33, 65}) {
      const fed_case c(rows, 67, block, 4, true);
      const std::vector<int> want = c.defined().code;
      constexpr rq::index gap = 5;
      constexpr rq::index code_gap = 3;
      std::vector<float> spread(size((rows - 1) * (c.cols + gap) + c.cols), std::nanf(""));
      for (rq::index i = 0; i < rows * c.cols; ++i)
        spread[size(i / c.cols * (c.cols + gap) + i % c.cols)] = c.x[size(i)];
      for (const guarded::edge edge : {guarded::edge::front, guarded::edge::back}) {
        const guarded::memory<float> x(std::span<const float>(spread), edge);
        const guarded::memory<rq::affine> params(std::span<const rq::affine>(c.params), edge);
        const guarded::memory<std::uint8_t> order(std::span<const std::uint8_t>(c.order), edge);
        const guarded::memory<float> unit(std::span<const float>(c.unit), edge);
        const guarded::memory<std::int8_t> reach(std::span<const std::int8_t>(c.reach), edge);
        const guarded::memory<std::uint8_t> codes(size((rows - 1) * (c.cols + code_gap) + c.cols), edge);
        const rq::error_feedback f{block, order.span(), unit.span(), reach.span()};
        architectures::for_each([&]<class Arch>() {
          std::fill(codes.span().begin(), codes.span().end(), std::uint8_t{0xA5});
          rq::encode_with_feedback<Arch>(c.codec, params.span(), f, x.data(), rows, c.cols, c.cols + gap,
                                         codes.data(), c.cols + code_gap);
          int wrong = 0;
          for (rq::index k = 0; k < static_cast<rq::index>(codes.span().size()); ++k) {
            const rq::index i = k / (c.cols + code_gap);
            const rq::index j = k % (c.cols + code_gap);
            wrong += codes.span()[size(k)] == (j < c.cols ? want[size(i * c.cols + j)] : 0xA5) ? 0 : 1;
          }
          CAPTURE(block, rows);
          CHECK(wrong == 0);
        });
        const guarded::memory<float> dense(std::span<const float>(c.x), edge);
        const guarded::memory<float> moved(c.x.size(), edge);
        rq::move_by_feedback(c.codec, params.span(), f, dense.data(), rows, c.cols, moved.data());
        CHECK(plain_codes(c, {moved.span().begin(), moved.span().end()}) == want);
      }
    }
  }
}

TEST_CASE("encode_with_feedback: an example by hand", "[kernel][feedback]") {
  // steps of 1, the second channel first: 0.4 becomes 0, an error of -0.4 of which twice 0.5 is taken from
  // the first, 1.2 + 0.4 = 1.6, and once from the third, 2.4 + 0.2 = 2.6
  fed_case c(1, 3, 3, 4, false);
  c.x = {1.2F, 0.4F, 2.4F};
  c.params = {{1, 0}};
  c.order = {1, 0, 2};
  c.unit = {0.5F, 0.25F, 0};
  c.reach = {2, 1, 2};
  architectures::for_each([&]<class Arch>() {
    // 1.6 becomes 2, an error of 0.8: 2.6 - 2 * 0.25 * 0.8 = 2.2
    CHECK(codes_of<Arch>(c, 1) == std::vector<int>{2, 0, 2});
    CHECK(moved_of<Arch>(c)[0] == Approx(1.6));
    CHECK(moved_of<Arch>(c)[1] == 0.4F);
    CHECK(moved_of<Arch>(c)[2] == Approx(2.2));
  });
  CHECK(rq::error_feedback::reach_of(7, 3) == 6);  // 3 + 3 + 0
  CHECK(rq::error_feedback::reach_of(256, 256) == 32640);
}
