// SPDX-License-Identifier: MIT
/// The attention instruction, whose heads and columns all differ: both kinds of products and every
/// architecture give the same bits, which are those of an independent model in double within its bounds.
#include <repquant/block/model_writer.hpp>
#include <repquant/infer/engine.hpp>
#include <repquant/infer/simulated_products.hpp>

#include "catch.hpp"
#include "oracle/model.hpp"
#include <optional>
#include <random>

namespace rq = repquant;

namespace {

constexpr std::int32_t wide_zero = 1 << 22;

/// What an attention is made of.
struct settings {
  std::int32_t heads = 4;
  std::int32_t kv_heads = 2;
  std::int32_t inner = 6;
  bool causal = false;
  int bits = 4;
  rq::probability_code code;
  std::int32_t wide_query = 0;  ///< zero point of one column of each head, where not 0
  std::int32_t wide_value = 0;
  std::int32_t key_zero = 8;
  std::int32_t select_first = 0;  ///< 1: select_row before the queries, 2: behind the attention
  std::int32_t row = -1;
};

/// A model of one attention: queries by a linear layer, keys and values the input under codes of their own.
class attention_model {
 public:
  explicit attention_model(const settings& of, unsigned seed) : random_(seed) {
    const std::int32_t kv_cols = of.kv_heads * of.inner;
    const std::int32_t cols = of.heads * of.inner;
    std::int32_t from = 0;
    if (of.select_first == 1) from = select(0, kv_cols, of.row);
    const std::int32_t codes = encode(from, kv_cols, of.bits, 0);
    rq::instruction s = make(rq::opcode::linear, cols, codes);
    s.inner = kv_cols;
    s.bits = 4;
    s.bits_a = of.bits;
    s.zero_a = 1 << (of.bits - 1);
    std::vector<std::uint8_t> w(static_cast<std::size_t>(cols * kv_cols));
    for (std::uint8_t& c : w) c = static_cast<std::uint8_t>(random_() % 16);
    s.data[0] = constants(w);
    s.data[1] = constants(std::vector<std::int32_t>(static_cast<std::size_t>(cols), 8));
    s.data[2] = constants(std::vector<float>(static_cast<std::size_t>(cols), 0.01F));
    s.data[3] = constants(std::vector<float>(static_cast<std::size_t>(cols), 0.02F));
    const std::int32_t q = encode(add(s), cols, of.bits, 1);
    const std::int32_t k = encode(0, kv_cols, of.bits, 1);
    const std::int32_t v = encode(0, kv_cols, of.bits, 1);

    s = make(rq::opcode::attention, cols, q);
    s.b = k;
    s.c = v;
    s.inner = of.inner;
    s.heads = of.heads;
    s.kv_heads = of.kv_heads;
    s.flag = of.causal ? 1 : 0;
    s.bits_a = of.bits;
    s.zero_b = of.key_zero;
    // scores of a few units, whatever the zero points
    const double size = std::max(8.0, std::fabs(static_cast<double>(of.wide_query))) *
                        std::max(8.0, std::fabs(static_cast<double>(of.key_zero) - 8)) * of.inner;
    s.data[0] = constants(numbers(of.heads, [&](std::int32_t) { return real(1, 8) / size; }));
    s.data[1] = constants(zeros(of.heads, of.inner, of.wide_query));
    s.data[2] = constants(zeros(of.kv_heads, of.inner, of.wide_value));
    s.data[3] = constants(numbers(kv_cols, [&](std::int32_t) { return real(0.01, 0.3); }));
    s.probability = of.code.kind;
    s.probability_bits = static_cast<std::uint8_t>(of.code.bits);
    s.probability_zero_rule = static_cast<std::uint8_t>(of.code.zero);
    s.probability_depth = static_cast<std::uint8_t>(of.code.depth);
    s.probability_scale = of.code.scale;
    s.probability_zero = of.code.zero_point;
    s.probability_relative = of.code.relative ? 1 : 0;
    s.site = w_.site("probabilities", of.code.bits, rq::site_role::probabilities);
    std::int32_t out = add(s);
    if (of.select_first == 2) out = select(out, cols, of.row);
    const std::vector<std::byte> bytes = w_.finish(0, kv_cols, out, cols).value();
    words_.resize(bytes.size() / 8);
    std::memcpy(words_.data(), bytes.data(), bytes.size());
    REQUIRE_FALSE(rq::model_view::open(bytes_of(words_), view_));
    while (view_.instructions()[at_].kind != rq::opcode::attention) ++at_;
  }
  attention_model(const attention_model&) = delete;
  attention_model& operator=(const attention_model&) = delete;

  [[nodiscard]] const rq::model_view& view() const { return view_; }
  [[nodiscard]] std::size_t at() const { return at_; }  ///< the number of the attention
  [[nodiscard]] const rq::instruction& attention() const { return view_.instructions()[at_]; }

  /// Runs the whole model.
  template<class Arch, class Products>
  std::vector<float> run(const std::vector<float>& x, rq::index rows) const {
    std::vector<std::uint64_t> storage(rq::engine::storage_bytes(view_) / 8 + 1);
    rq::engine e;
    REQUIRE_FALSE(e.prepare(view_, std::as_writable_bytes(std::span(storage))));
    REQUIRE_FALSE(e.check_rows(rows));
    std::vector<std::uint64_t> workspace(e.workspace_bytes<Products>(rows) / 8 + 1);
    std::vector<float> y(static_cast<std::size_t>(e.output_rows(rows) * view_.header().output_cols));
    e.run<Arch, Products>(x.data(), rows, y, std::as_writable_bytes(std::span(workspace)));
    return y;
  }

 private:
  static std::span<const std::byte> bytes_of(const std::vector<std::uint64_t>& words) {
    return std::as_bytes(std::span(words));
  }
  static rq::instruction make(rq::opcode kind, std::int32_t cols, std::int32_t a) {
    rq::instruction s;
    s.kind = kind;
    s.cols = cols;
    s.a = a;
    return s;
  }
  std::int32_t add(rq::instruction s) {
    s.out = registers_++;
    w_.add(s);
    return s.out;
  }
  std::int32_t select(std::int32_t a, std::int32_t cols, std::int32_t row) {
    rq::instruction s = make(rq::opcode::select_row, cols, a);
    s.row = row;
    return add(s);
  }
  std::int32_t encode(std::int32_t a, std::int32_t cols, int bits, std::uint8_t per_column) {
    rq::instruction s = make(rq::opcode::encode, cols, a);
    s.bits = bits;
    s.per_column = per_column;
    std::vector<rq::affine> params(per_column != 0 ? static_cast<std::size_t>(cols) : 1,
                                   {0.2F, 1 << (bits - 1)});
    for (rq::affine& p : params)
      p.zero_point += per_column != 0 ? static_cast<std::int32_t>(random_() % 5) : 0;
    s.data[0] = constants(params);
    s.site = w_.site("codes", bits, rq::site_role::linear_input);
    return add(s);
  }
  template<class T>
  std::uint64_t constants(const std::vector<T>& x) {
    return w_.constants(std::span<const T>(x));
  }
  double real(double low, double high) {
    return low + (high - low) * static_cast<double>(random_() % 4096) / 4096;
  }
  template<class F>
  std::vector<float> numbers(std::int32_t n, F&& f) {
    std::vector<float> x;
    for (std::int32_t i = 0; i < n; ++i) x.push_back(static_cast<float>(f(i)));
    return x;
  }
  /// Zero points among the codes and a little beyond, and a wide one in every head.
  std::vector<std::int32_t> zeros(std::int32_t heads, std::int32_t inner, std::int32_t wide) {
    std::vector<std::int32_t> z;
    for (std::int32_t i = 0; i < heads * inner; ++i) {
      z.push_back(static_cast<std::int32_t>(random_() % 24) - 4);
      if (wide != 0 && i % inner == i / inner % inner) z.back() = wide;
    }
    return z;
  }

  std::mt19937 random_;
  rq::model_writer w_;
  std::int32_t registers_ = 1;
  std::vector<std::uint64_t> words_;
  rq::model_view view_;
  std::size_t at_ = 0;
};

/// What an attention gave: its floats and the codes of its probabilities.
struct outcome {
  std::vector<float> out;
  std::vector<int> codes;
};

oracle::table random_codes(rq::index rows, rq::index cols, int bits, std::mt19937& random) {
  oracle::table t{rows, cols, {}, {}, std::vector<int>(static_cast<std::size_t>(rows * cols))};
  for (int& c : t.code) c = static_cast<int>(random() % (1U << bits));
  return t;
}

/// Runs the attention; with `kept_for`, its keys and values kept for that instruction set, in two pieces and
/// among bytes that nobody wrote, and read from nowhere else; with an architecture Prepared, its heads
/// prepared for that one.
template<class Arch, class Products, class Prepared = void>
outcome attend(const attention_model& m, const oracle::table& q, const oracle::table& k,
               const oracle::table& v, std::optional<rq::instruction_set> kept_for = {}) {
  const rq::instruction& s = m.attention();
  const std::span<const std::byte> constants = m.view().constants();
  std::vector<std::byte> scratch(Products::scratch_bytes(s, q.rows, k.rows));
  std::vector<std::uint64_t> heads;
  Products products{{}, scratch};
  if constexpr (!std::same_as<Prepared, void>) {
    heads.resize((rq::packed_bytes<Prepared>(s, constants) + 7) / 8, 0xA5A5A5A5A5A5A5A5U);
    const auto packed =
        std::as_writable_bytes(std::span(heads)).first(rq::packed_bytes<Prepared>(s, constants));
    rq::pack_products<Prepared>(s, constants, packed);
    products.weights = packed;
  }
  const auto bytes = [](const oracle::table& t) {
    return std::vector<std::uint8_t>(t.code.begin(), t.code.end());
  };
  const std::vector<std::uint8_t> keys = bytes(k);
  const std::vector<std::uint8_t> values = bytes(v);
  std::vector<std::byte> memory;
  if (kept_for) {
    const rq::index capacity = rq::kept_capacity(k.rows);
    memory.assign(static_cast<std::size_t>(capacity * rq::kept_bytes(s, constants, *kept_for)),
                  std::byte{0xA5});
    products.kept = {memory.data(), capacity, *kept_for};
    const rq::index first = k.rows / 3;
    rq::keep_rows(s, constants, products.kept, 0, first, keys.data(), values.data());
    rq::keep_rows(s, constants, products.kept, first, k.rows - first, keys.data() + first * k.cols,
                  values.data() + first * v.cols);
  }
  outcome r;
  r.out.resize(static_cast<std::size_t>(q.rows * s.cols));
  products.template attend<Arch>(
      s, constants, bytes(q).data(), kept_for ? nullptr : keys.data(), kept_for ? nullptr : values.data(),
      q.rows, k.rows, r.out.data(),
      [&](std::int32_t, const std::uint8_t* codes, rq::index rows, rq::index cols) {
        r.codes.insert(r.codes.end(), codes, codes + rows * cols);
      });
  return r;
}

/// The instruction on random codes against the oracle; returns how many codes were not the oracle's.
std::size_t require_explained(const attention_model& m, rq::index queries, rq::index keys, unsigned seed) {
  const rq::instruction& s = m.attention();
  REQUIRE_FALSE(rq::check_products(s, m.view().constants()));
  std::mt19937 random(seed);
  const oracle::table q = random_codes(queries, s.cols, s.bits_a, random);
  const oracle::table k = random_codes(keys, s.kv_heads * s.inner, s.bits_a, random);
  const oracle::table v = random_codes(keys, s.kv_heads * s.inner, s.bits_a, random);
  const outcome got = attend<rq::default_arch, rq::integer_products>(m, q, k, v);
  constexpr rq::instruction_set widest = rq::instruction_set_of<rq::default_arch>;
  for (const outcome& other :
       {attend<rq::scalar_arch, rq::integer_products>(m, q, k, v),
        attend<rq::default_arch, rq::simulated_products>(m, q, k, v),
        attend<rq::scalar_arch, rq::simulated_products>(m, q, k, v),
        attend<rq::default_arch, rq::integer_products>(m, q, k, v, widest),
        attend<rq::default_arch, rq::integer_products>(m, q, k, v, rq::instruction_set::sse2),
        attend<rq::scalar_arch, rq::integer_products>(m, q, k, v, widest),
        attend<rq::scalar_arch, rq::integer_products>(m, q, k, v, rq::instruction_set::scalar),
        attend<rq::default_arch, rq::integer_products, rq::default_arch>(m, q, k, v),
        attend<rq::default_arch, rq::integer_products, rq::default_arch>(m, q, k, v, widest),
        attend<rq::default_arch, rq::integer_products, rq::scalar_arch>(m, q, k, v, widest),
        attend<rq::scalar_arch, rq::integer_products, rq::default_arch>(m, q, k, v, widest),
        attend<rq::default_arch, rq::simulated_products>(m, q, k, v, widest)}) {
    CHECK(other.codes == got.codes);
    CHECK(oracle::same_bits(other.out, got.out));
  }
  std::vector<oracle::coded> expected;
  const oracle::table want = oracle::model(m.view()).execute(m.at(), q, &k, &v, &expected, &got.codes);
  REQUIRE(expected.size() == got.codes.size());
  std::size_t differ = 0;
  std::size_t broken = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    differ += got.codes[i] == expected[i].code ? 0 : 1;
    broken += got.codes[i] == expected[i].code || expected[i].from_tie <= expected[i].band ? 0 : 1;
  }
  CHECK(broken == 0);
  std::size_t off = 0;
  for (std::size_t i = 0; i < got.out.size(); ++i) {
    off += std::fabs(static_cast<double>(got.out[i]) - want.value[i]) <= want.error[i] + 1e-37 ? 0 : 1;
  }
  CHECK(off == 0);
  return differ;
}

std::vector<rq::probability_code> codes_to_try() {
  using kind = rq::probability_kind;
  std::vector<rq::probability_code> all{
      {.kind = kind::as_uniform, .bits = 4, .scale = 0.06F},
      {.kind = kind::as_uniform, .bits = 8, .scale = 0.004F, .zero_point = 2}};
  for (const kind k : {kind::as_log2, kind::as_log_sqrt2}) {
    all.push_back({.kind = k, .bits = 4, .depth = 14, .scale = 0.9F});
    all.push_back({.kind = k, .bits = 4, .zero = rq::zero_rule::none, .depth = 7, .scale = 1});
    all.push_back({.kind = k, .bits = 8, .depth = 30, .scale = 0.9F});
  }
  for (const kind k : {kind::as_uniform, kind::as_log2, kind::as_log_sqrt2}) {
    for (const int bits : {4, 8}) {
      rq::probability_code code{.kind = k, .bits = bits, .depth = 14, .relative = true};
      code.scale = code.relative_scale();
      all.push_back(code);
    }
  }
  return all;
}

std::vector<float> random_input(rq::index rows, rq::index cols, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  for (float& v : x) v = static_cast<float>(random() % 4001) / 1000.0F - 2;
  return x;
}

}  // namespace

TEST_CASE("an attention whose heads and columns all differ is the oracle's", "[infer][attention]") {
  unsigned seed = 0;
  std::size_t differ = 0;
  for (const rq::probability_code& code : codes_to_try()) {
    for (const std::int32_t kv_heads : {1, 2, 4}) {  // shared by all, by two, by none
      for (const bool causal : {false, true}) {
        for (const int bits : {4, 8}) {
          settings of{.kv_heads = kv_heads, .causal = causal, .bits = bits, .code = code};
          of.key_zero = 1 << (bits - 1);
          const attention_model m(of, ++seed);
          for (const rq::shape s : {rq::shape{7, 7}, rq::shape{1, 9}, rq::shape{3, 40}, rq::shape{9, 4}}) {
            CAPTURE(static_cast<int>(code.kind), code.bits, kv_heads, causal, bits, s.rows, s.cols);
            differ += require_explained(m, s.rows, s.cols, ++seed);
          }
        }
      }
    }
  }
  CHECK(differ < 20);  // codes at ties, and nothing else
}

TEST_CASE("zero points far beyond the codes stay exact", "[infer][attention]") {
  unsigned seed = 1000;
  for (const rq::probability_code& code : codes_to_try()) {
    for (const std::int32_t wide : {-900, 5000, 32767, -32512, 32768, -wide_zero, wide_zero}) {
      for (int where = 0; where < 4; ++where) {
        settings of{.causal = seed % 2 == 0, .code = code};
        if (where == 0 || where == 3) of.wide_query = wide;
        if (where == 1 || where == 3) of.wide_value = wide;
        if (where == 2) of.key_zero = wide;
        const attention_model m(of, ++seed);
        CAPTURE(static_cast<int>(code.kind), code.bits, wide, where);
        require_explained(m, 6, 9, ++seed);
      }
    }
  }
  // uniform probabilities that are all the same get a zero point as wide
  settings of{.causal = true, .code = {.kind = rq::probability_kind::as_uniform, .bits = 4}};
  of.code.scale = 1.0F / wide_zero;
  of.code.zero_point = -wide_zero;
  require_explained(attention_model(of, 3), 5, 8, 4);
}

TEST_CASE("the zero point of the keys changes scores by the same number for all keys", "[infer][attention]") {
  // whole numbers below 2^24 times a power of two, so that no score is rounded, and the softmax sees only
  // the differences: the same bits for every zero point
  settings of{.code = {.kind = rq::probability_kind::as_log_sqrt2, .bits = 6}};
  const attention_model m(of, 5);
  std::vector<std::byte> constants(m.view().constants().begin(), m.view().constants().end());
  rq::instruction s = m.attention();
  for (std::int32_t h = 0; h < s.heads; ++h) {
    const float power = h % 2 == 0 ? 0x1p-6F : 0x1p-8F;
    std::memcpy(constants.data() + s.data[0] + 4 * h, &power, 4);
  }
  std::mt19937 random(8);
  const auto codes = [&](rq::index n) {
    std::vector<std::uint8_t> c(static_cast<std::size_t>(n));
    for (std::uint8_t& x : c) x = static_cast<std::uint8_t>(random() % 16);
    return c;
  };
  const std::vector<std::uint8_t> q = codes(5 * s.cols);
  const std::vector<std::uint8_t> k = codes(9 * s.kv_heads * s.inner);
  const std::vector<std::uint8_t> v = codes(9 * s.kv_heads * s.inner);
  std::vector<float> first;
  for (const std::int32_t zero : {8, 0, -3, 15, 100, -5000}) {
    s.zero_b = zero;
    std::vector<std::byte> scratch(rq::integer_products::scratch_bytes(s, 9, 9));
    rq::integer_products products{{}, scratch};
    std::vector<float> out(static_cast<std::size_t>(5 * s.cols));
    products.attend<rq::default_arch>(s, constants, q.data(), k.data(), v.data(), 5, 9, out.data(),
                                      [](auto&&...) {});
    if (first.empty()) first = out;
    CHECK(oracle::same_bits(out, first));
  }
}

TEST_CASE("one query of a causal attention is the row of the whole attention", "[infer][attention]") {
  for (const rq::probability_code& code : codes_to_try()) {
    for (const rq::index rows : {1, 2, 11}) {
      settings of{.causal = true, .code = code};
      of.select_first = 1;
      const attention_model before(of, 77);
      of.select_first = 2;
      const attention_model behind(of, 77);
      CHECK(before.view().header().output_rows == -1);
      const std::vector<float> x = random_input(rows, before.view().header().input_cols, 5);
      const std::vector<float> want = behind.run<rq::default_arch, rq::integer_products>(x, rows);
      for (const std::vector<float>& got : {before.run<rq::default_arch, rq::integer_products>(x, rows),
                                            before.run<rq::scalar_arch, rq::integer_products>(x, rows),
                                            before.run<rq::default_arch, rq::simulated_products>(x, rows),
                                            before.run<rq::scalar_arch, rq::simulated_products>(x, rows)}) {
        CHECK(oracle::same_bits(got, want));
      }
      // a query alone is the last one, whatever row it was: it sees all keys
      of.row = 0;
      of.select_first = 1;
      const attention_model first(of, 77);
      of.causal = false;
      of.select_first = 2;
      const attention_model all(of, 77);
      CHECK(oracle::same_bits(first.run<rq::default_arch, rq::integer_products>(x, rows),
                              all.run<rq::default_arch, rq::integer_products>(x, rows)));
    }
  }
}

TEST_CASE("more keys than an attention's sums can hold are refused", "[infer][attention]") {
  settings of{.code = {.kind = rq::probability_kind::as_log2, .bits = 8, .depth = 30}};
  of.wide_value = wide_zero;
  const attention_model m(of, 9);
  std::vector<std::uint64_t> storage(rq::engine::storage_bytes(m.view()) / 8 + 1);
  rq::engine e;
  REQUIRE_FALSE(e.prepare(m.view(), std::as_writable_bytes(std::span(storage))));
  CHECK_FALSE(e.check_rows(2047));  // 2^11 2^30 2^22 = 2^63
  const rq::failure f = e.check_rows(2048);
  CHECK((f.code == rq::errc::too_large && f.got == 2048 && f.want == 2047));
  of.wide_value = 0;
  const attention_model usual(of, 9);
  REQUIRE_FALSE(e.prepare(usual.view(), std::as_writable_bytes(std::span(storage))));
  CHECK_FALSE(e.check_rows(1 << 20));
}
