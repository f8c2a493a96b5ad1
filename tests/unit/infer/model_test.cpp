// SPDX-License-Identifier: MIT
/// What model_view::open accepts, and that whatever it accepts can be run: memory of exactly the sizes asked
/// for, nothing written beyond (the sanitizers see the rest).
#include <repquant/block/model_writer.hpp>
#include <repquant/codec/uniform.hpp>
#include <repquant/infer/engine.hpp>

#include "catch.hpp"
#include <random>
#include <string>

namespace rq = repquant;

namespace {

/// Bytes on a multiple of 8, as open wants them, with none to spare behind them.
struct aligned_bytes {
  explicit aligned_bytes(std::span<const std::byte> bytes)
      : words((bytes.size() + 7) / 8), size(bytes.size()) {
    if (size > 0) std::memcpy(words.data(), bytes.data(), size);
  }
  [[nodiscard]] std::span<std::byte> all() { return std::as_writable_bytes(std::span(words)).first(size); }
  std::vector<std::uint64_t> words;
  std::size_t size;
};

/// A model with every kind of instruction: a token in front, positions, attention with a shared key head, an
/// RMS norm, a base for each head, mixed columns, codes with feedback in blocks of three and of one, both
/// ways to end.
class every_kind {
 public:
  every_kind() {
    const std::int32_t d = 4;
    rq::instruction s = make(rq::opcode::prepend_row, d, 0);
    s.data[0] = reals({0.5F, -0.25F, 1, -1});
    add(s);
    s = make(rq::opcode::add_rows, d, last());
    s.inner = 6;
    s.data[0] = reals(std::vector<float>(24, 0.125F));
    add(s);
    const std::int32_t residual = last();
    s = make(rq::opcode::norm, d, residual);
    s.data[0] = reals({1, 2, 0.5F, 1});
    s.data[1] = reals({0, 0.1F, 0, -0.1F});
    s.eps = 1e-5F;
    add(s);
    const std::int32_t normed = encode(last(), d, true, "norm.out", 3);
    linear(normed, d, d);
    s = make(rq::opcode::rotate, d, last());
    s.heads = 2;
    s.inner = 6;
    s.data[0] = reals(std::vector<float>(6, 0.75F));
    s.data[1] = reals(std::vector<float>(6, 0.5F));
    add(s);
    s = make(rq::opcode::mix_heads, d, last());
    s.inner = 2;
    s.data[0] = reals({1, 0.5F, -0.5F, 1, 0.25F, 2, 1, -1});
    add(s);
    const std::int32_t q = encode(last(), d, false, "q");
    linear(normed, d, d / 2);
    const std::int32_t k = encode(last(), d / 2, false, "k", 1);
    linear(normed, d, d / 2);
    const std::int32_t v = encode(last(), d / 2, false, "v");
    s = make(rq::opcode::attention, d, q);
    s.b = k;
    s.c = v;
    s.inner = 2;
    s.heads = 2;
    s.kv_heads = 1;
    s.flag = 1;
    s.bits_a = 4;
    s.zero_b = 8;
    s.data[0] = reals({0.03F, 0.02F});
    const std::vector<std::int32_t> q_zero{8, 7, 8, -1};
    const std::vector<std::int32_t> v_zero{8, 300};
    s.data[1] = w_.constants(std::span<const std::int32_t>(q_zero));
    s.data[2] = w_.constants(std::span<const std::int32_t>(v_zero));
    s.data[3] = reals({0.1F, 0.2F});
    s.probability = rq::probability_kind::as_log_sqrt2;
    s.probability_bits = 4;
    s.probability_depth = 14;
    s.probability_scale = 1;
    s.site = w_.site("probabilities", 4, rq::site_role::probabilities);
    add(s);
    s = make(rq::opcode::add, d, residual);
    s.b = last();
    add(s);
    s = make(rq::opcode::activate, d, last());
    s.function = 1;
    add(s);
    s = make(rq::opcode::hadamard, d, last());
    s.data[0] = reals({0.5F, -0.5F, 0.25F, 1});
    add(s);
    s = make(rq::opcode::norm, d, last());
    s.flag = 1;
    s.data[0] = reals({1, 1, 1, 2});
    s.eps = 1e-6F;
    add(s);
    const std::int32_t before_end = last();
    add(make(rq::opcode::mean_rows, d, before_end));
    const std::int32_t mean = last();
    s = make(rq::opcode::select_row, d, before_end);
    s.row = -2;
    add(s);
    s = make(rq::opcode::multiply, d, last());
    s.b = mean;
    add(s);
    bytes = w_.finish(0, d, last(), d).value();
  }

  std::vector<std::byte> bytes;

 private:
  static rq::instruction make(rq::opcode kind, std::int32_t cols, std::int32_t a) {
    rq::instruction s;
    s.kind = kind;
    s.cols = cols;
    s.a = a;
    return s;
  }
  [[nodiscard]] std::int32_t last() const { return registers_ - 1; }
  void add(rq::instruction s) {
    s.out = registers_++;
    w_.add(s);
  }
  std::uint64_t reals(const std::vector<float>& x) { return w_.constants(std::span<const float>(x)); }
  /// With `block`, errors of codes are fed back in blocks of at most three.
  std::int32_t encode(std::int32_t a, std::int32_t cols, bool per_column, const char* path,
                      std::int32_t block = 0) {
    rq::instruction s = make(rq::opcode::encode, cols, a);
    s.bits = 4;
    s.per_column = per_column ? 1 : 0;
    const std::vector<rq::affine> params(per_column ? static_cast<std::size_t>(cols) : 1, {0.25F, 8});
    s.data[0] = w_.constants(std::span<const rq::affine>(params));
    if (block > 0) {
      s.inner = block;
      std::vector<std::uint8_t> order;
      for (std::int32_t j = 0; j < cols; ++j) {
        const std::int32_t n = std::min(block, cols - j / block * block);
        order.push_back(static_cast<std::uint8_t>((j % block + n - 1) % n));  // the last, the first, ..
      }
      const std::vector<std::int8_t> reach{100, -127, 90};
      s.data[1] = reals(std::vector<float>(order.size(), 0.0078125F));
      s.data[2] = w_.constants(std::span<const std::uint8_t>(order));
      s.data[3] = w_.constants(std::span<const std::int8_t>(reach));
    }
    s.site = w_.site(path, 4, rq::site_role::linear_input);
    add(s);
    return last();
  }
  void linear(std::int32_t a, std::int32_t in, std::int32_t out) {
    rq::instruction s = make(rq::opcode::linear, out, a);
    s.inner = in;
    s.bits = s.bits_a = 4;
    s.zero_a = 8;
    std::vector<std::uint8_t> w(static_cast<std::size_t>(in * out));
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::uint8_t>((5 * i + 3) % 16);
    s.data[0] = w_.constants(std::span<const std::uint8_t>(w));
    const std::vector<std::int32_t> zero(static_cast<std::size_t>(out), 7);
    s.data[1] = w_.constants(std::span<const std::int32_t>(zero));
    s.data[2] = reals(std::vector<float>(static_cast<std::size_t>(out), 0.02F));
    s.data[3] = reals(std::vector<float>(static_cast<std::size_t>(out), 0.01F));
    add(s);
  }

  rq::model_writer w_;
  std::int32_t registers_ = 1;
};

rq::failure open(std::span<const std::byte> bytes) {
  aligned_bytes copy(bytes);
  rq::model_view view;
  return rq::model_view::open(copy.all(), view);
}

/// Opens, prepares and runs a model in memory of exactly the sizes it asks for. Returns the failure, or
/// nothing where it ran.
rq::failure run(std::span<std::byte> bytes, rq::index rows) {
  rq::model_view view;
  if (rq::failure f = rq::model_view::open(bytes, view)) return f;
  constexpr std::size_t most = 1 << 22;  // what a caller with little memory would refuse, is refused here
  if (rq::engine::storage_bytes(view) > most) return {rq::errc::too_large, "test: storage"};
  aligned_bytes storage(std::vector<std::byte>(rq::engine::storage_bytes(view)));
  rq::engine e;
  if (rq::failure f = e.prepare(view, storage.all())) return f;
  if (rq::failure f = e.check_rows(rows)) return f;
  if (e.workspace_bytes(rows) > most) return {rq::errc::too_large, "test: workspace"};
  aligned_bytes workspace(std::vector<std::byte>(e.workspace_bytes(rows)));
  std::vector<float> x(static_cast<std::size_t>(rows * view.header().input_cols), 0.75F);
  std::vector<float> y(static_cast<std::size_t>(e.output_rows(rows) * view.header().output_cols));
  e.run(x.data(), rows, y, workspace.all());
  return {};
}

/// Writes the checksum that the bytes should have.
void sign(std::span<std::byte> bytes) {
  rq::model_header h;
  std::memcpy(&h, bytes.data(), sizeof h);
  h.checksum = rq::checksum(h, bytes.subspan(sizeof h));
  std::memcpy(bytes.data(), &h, sizeof h);
}

bool says(const rq::failure& f, rq::errc code, const char* place) {
  return f.code == code && std::string(f.where).find(place) != std::string::npos;
}

}  // namespace

TEST_CASE("a saved model is looked at where it lies", "[infer][model]") {
  aligned_bytes bytes(every_kind().bytes);
  rq::model_view view;
  REQUIRE_FALSE(rq::model_view::open(bytes.all(), view));
  CHECK(view.instructions().size() == 20);
  CHECK(view.header().input_cols == 4);
  CHECK(view.header().output_cols == 4);
  CHECK(view.header().extra_rows == 1);    // the token in front
  CHECK(view.header().max_rows == 5);      // a table of six rows
  CHECK(view.header().min_rows == 1);      // row -2 of one more than the input
  CHECK(view.header().output_rows == -1);  // exactly one
  CHECK(view.path(view.sites()[0]) == "norm.out");
  const auto* first = bytes.all().data();
  const auto* constants = view.constants().data();
  CHECK((constants > first && constants < first + bytes.size));  // nothing was copied
  CHECK(view.numbers<float>(view.instructions()[0].data[0], 4)[2] == 1);
  const rq::instruction& fed = view.instructions()[3];
  REQUIRE(fed.inner == 3);
  const auto order = view.numbers<std::uint8_t>(fed.data[2], 4);
  CHECK(std::vector<int>(order.begin(), order.end()) == std::vector<int>{2, 0, 1, 0});
  CHECK(view.numbers<std::int8_t>(fed.data[3], 3)[1] == -127);
  for (rq::index rows = 1; rows <= 5; ++rows) CHECK_FALSE(run(bytes.all(), rows));
  CHECK(says(run(bytes.all(), 6), rq::errc::shape_mismatch, "rows"));
}

TEST_CASE("registers are shared by values that do not live at the same time", "[infer][model]") {
  aligned_bytes bytes(every_kind().bytes);
  rq::model_view view;
  REQUIRE_FALSE(rq::model_view::open(bytes.all(), view));
  CHECK(view.row_bytes().size() <= 6);
  for (const rq::instruction& s : view.instructions()) {
    for (int k = 0; k < rq::operand_count(s.kind); ++k) CHECK((k == 0 ? s.a : k == 1 ? s.b : s.c) != s.out);
  }
}

TEST_CASE("a truncated model is refused at every length", "[infer][model]") {
  const std::vector<std::byte> bytes = every_kind().bytes;
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const rq::failure f = open(std::span(bytes).first(n));
    if (!says(f, rq::errc::shape_mismatch, "model: bytes") || f.got != static_cast<std::int64_t>(n)) {
      FAIL("length " << n << ": " << f.where);
    }
  }
  CHECK_FALSE(open(bytes));
  std::vector<std::byte> longer = bytes;
  longer.resize(bytes.size() + 8);
  CHECK(says(open(longer), rq::errc::shape_mismatch, "model: bytes"));
}

TEST_CASE("a model with any bit changed is refused", "[infer][model]") {
  aligned_bytes bytes(every_kind().bytes);
  for (std::size_t i = 0; i < bytes.size; ++i) {
    for (const unsigned bit : {1U, 2U, 16U, 128U}) {
      bytes.all()[i] ^= std::byte(bit);
      rq::model_view view;
      if (!rq::model_view::open(bytes.all(), view)) FAIL("byte " << i << ", bit " << bit);
      if (!view.instructions().empty()) FAIL("a refused view was written");
      bytes.all()[i] ^= std::byte(bit);
    }
  }
  CHECK_FALSE(open(bytes.all()));
}

TEST_CASE("foreign bytes are refused with what they are", "[infer][model]") {
  std::vector<std::byte> other(4096);
  CHECK(says(open(other), rq::errc::bad_format, "first four bytes"));
  std::mt19937 random(3);
  for (int k = 0; k < 100; ++k) {
    for (std::byte& b : other) b = std::byte(random() & 255U);
    CHECK(says(open(other), rq::errc::bad_format, "first four bytes"));
  }
  other = every_kind().bytes;
  for (const int version : {1, 3}) {  // one that was, and one to come
    other[4] = std::byte(version);
    const rq::failure f = open(other);
    CHECK(says(f, rq::errc::bad_format, "version"));
    CHECK((f.got == version && f.want == 2));
  }

  std::vector<std::byte> shifted(every_kind().bytes.size() + 16);
  aligned_bytes room(shifted);
  for (std::size_t by = 1; by < 8; ++by) {
    const std::vector<std::byte> bytes = every_kind().bytes;
    std::memcpy(room.all().data() + by, bytes.data(), bytes.size());
    rq::model_view view;
    CHECK(says(rq::model_view::open(room.all().subspan(by, bytes.size()), view), rq::errc::bad_format,
               "alignment"));
  }
}

TEST_CASE("a forged model is refused or runs within its memory", "[infer][model]") {
  // Every word of the file takes every awkward value, under a checksum that is right. Whatever is accepted
  // runs in memory of exactly the sizes asked for, under the sanitizers' eyes.
  aligned_bytes bytes(every_kind().bytes);
  const auto words = static_cast<std::size_t>(bytes.size / 4);
  std::int64_t refused = 0;
  std::int64_t ran = 0;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint32_t before = 0;
    std::memcpy(&before, bytes.all().data() + 4 * i, 4);
    const std::uint32_t values[] = {0,          1,          2,          3,          5,
                                    8,          63,         255,        0x0101,     0x01010101,
                                    before + 1, before - 1, before + 8, 0x7FFFFFFF, 0x80000000,
                                    0xFFFFFFFF, 0x7F800000, 0x7FC00000, 0x00FF00FF, before ^ 0x01000000};
    for (const std::uint32_t value : values) {
      std::memcpy(bytes.all().data() + 4 * i, &value, 4);
      sign(bytes.all());
      for (const rq::index rows : {1, 2, 5, 9}) {
        const rq::failure f = run(bytes.all(), rows);
        ++(f ? refused : ran);
        if (f && f.where[0] == 0) FAIL("a failure without a place, word " << i);
      }
    }
    std::memcpy(bytes.all().data() + 4 * i, &before, 4);
  }
  sign(bytes.all());
  CHECK_FALSE(open(bytes.all()));
  CHECK(refused > 10000);
  CHECK(ran > 1000);  // numbers may be anything
}

TEST_CASE("instructions that do not fit together are refused with their number", "[infer][model]") {
  aligned_bytes bytes(every_kind().bytes);
  rq::model_view view;
  REQUIRE_FALSE(rq::model_view::open(bytes.all(), view));
  const std::vector<rq::instruction> good(view.instructions().begin(), view.instructions().end());
  const auto place_of = [&](std::size_t i) {
    return bytes.all().data() + sizeof(rq::model_header) + i * sizeof(rq::instruction);
  };
  /// What open says after change(instruction i).
  const auto with = [&](std::size_t i, auto change) {
    rq::instruction s = good[i];
    change(s);
    std::memcpy(place_of(i), &s, sizeof s);
    sign(bytes.all());
    const rq::failure f = open(bytes.all());
    std::memcpy(place_of(i), &good[i], sizeof s);
    return f;
  };
  const auto find = [&](rq::opcode kind, std::size_t from = 0) {
    while (good[from].kind != kind) ++from;
    return from;
  };
  using rq::opcode;
  const std::size_t norm = find(opcode::norm);
  const std::size_t encode = find(opcode::encode);
  const std::size_t linear = find(opcode::linear);
  const std::size_t attention = find(opcode::attention);
  const std::size_t add = find(opcode::add);
  const std::size_t table = find(opcode::add_rows);
  const std::size_t select = find(opcode::select_row);
  const std::size_t multiply = find(opcode::multiply);
  const std::size_t rotate = find(opcode::rotate);
  const std::size_t hadamard = find(opcode::hadamard);
  const std::size_t mix_heads = find(opcode::mix_heads);
  const auto refused = [&](const rq::failure& f, rq::errc code, const char* place, std::size_t got) {
    CAPTURE(f.where, f.got, f.want);
    CHECK(says(f, code, place));
    CHECK(f.got == static_cast<std::int64_t>(got));
  };
  const auto bad = rq::errc::bad_format;
  const auto mismatch = rq::errc::shape_mismatch;
  refused(with(norm, [](auto& s) { s.a = 1000; }), bad, "operand register", norm);
  refused(with(norm, [](auto& s) { s.a = -1; }), bad, "operand register", norm);
  refused(with(norm, [](auto& s) { s.out = s.a; }), bad, "contents of an operand", norm);
  refused(with(linear, [&](auto& s) { s.a = good[norm].out; }), bad, "contents of an operand", linear);
  refused(with(linear, [](auto& s) { s.bits_a = 3; }), bad, "contents of an operand", linear);
  refused(with(encode, [](auto& s) { s.bits = 5; }), bad, "contents of an operand", linear);
  // a weight whose highest code is 15
  const rq::failure narrow = with(linear, [](auto& s) { s.bits = 3; });
  refused(narrow, bad, "largest weight code of instruction", linear);
  CHECK(narrow.want == 15);
  refused(with(encode, [](auto& s) { s.bits = 9; }), rq::errc::bad_bits, "bits of instruction", 9);
  refused(with(attention, [&](auto& s) { s.b = s.a; }), mismatch, "columns of an operand", attention);
  refused(with(attention, [](auto& s) { s.heads = 3; }), bad, "heads", attention);
  refused(with(rotate, [](auto& s) { s.heads = 4; }), bad, "heads", rotate);
  refused(with(rotate, [](auto& s) { s.heads = 0; }), bad, "heads", rotate);
  refused(with(rotate, [](auto& s) { s.inner = 1; }), mismatch, "rows of instruction", rotate);
  refused(with(rotate, [](auto& s) { s.inner = 1 << 20; }), bad, "constants of instruction", rotate);
  for (const std::int32_t inner : {0, 3, 8}) {  // no column, no divisor of the columns, wider than they are
    const rq::failure f = with(mix_heads, [&](auto& s) { s.inner = inner; });
    refused(f, bad, "inner size", mix_heads);
    CHECK(f.want == inner);
  }
  refused(with(mix_heads, [](auto& s) { s.inner = -1; }), bad, "columns of instruction", mix_heads);
  CHECK_FALSE(with(mix_heads, [](auto& s) { s.inner = 1; }));
  refused(with(mix_heads, [&](auto& s) { s.a = good[encode].out; }), bad, "contents of an operand",
          mix_heads);
  for (const std::size_t i : {hadamard, mix_heads}) {
    refused(with(i, [](auto& s) { s.a = 1000; }), bad, "operand register", i);
    refused(with(i, [](auto& s) { s.out = s.a; }), bad, "contents of an operand", i);
    refused(with(i, [](auto& s) { s.cols = 2; }), mismatch, "columns of an operand", i);
    // the last instruction whose numbers fit, and one place of constants less
    const std::uint64_t need = rq::model_view::data_bytes(good[i], 0);
    CHECK(need == (i == hadamard ? 16 : 32));
    CHECK_FALSE(with(i, [&](auto& s) { s.data[0] = view.constants().size() - need; }));
    for (const std::uint64_t offset :
         {good[i].data[0] + 4, view.constants().size() - need + 8, ~std::uint64_t{7}}) {
      const rq::failure f = with(i, [&](auto& s) { s.data[0] = offset; });
      refused(f, bad, "constants of instruction", i);
      CHECK(f.want == static_cast<std::int64_t>(offset));
    }
  }
  const std::uint64_t two_heads = view.constants().size() - 4 * 4 * 2;  // and no room for one of four columns
  CHECK_FALSE(with(mix_heads, [&](auto& s) { s.data[0] = two_heads; }));
  const auto one_head = [&](auto& s) { s.inner = 4, s.data[0] = two_heads; };
  refused(with(mix_heads, one_head), bad, "constants of instruction", mix_heads);
  refused(with(mix_heads, [](auto& s) { s.kind = static_cast<opcode>(static_cast<int>(s.kind) + 1); }), bad,
          "kind of", mix_heads);
  refused(with(attention, [](auto& s) { s.probability_bits = 1; }), bad, "probability", attention);
  refused(with(attention, [](auto& s) { s.probability_relative = 2; }), bad, "probability", attention);
  // relative codes have a zero of their own, no zero point, and one scale
  const auto relative = [&](auto change) {
    return with(attention, [&](auto& s) {
      s.probability_relative = 1;
      change(s);
    });
  };
  CHECK_FALSE(relative([](auto&) {}));
  refused(relative([](auto& s) { s.probability_scale = 0.5F; }), bad, "relative probability", attention);
  refused(relative([](auto& s) { s.probability_zero = 1; }), bad, "relative probability", attention);
  refused(relative([](auto& s) { s.probability_zero_rule = 1; }), bad, "relative probability", attention);
  refused(with(attention, [](auto& s) { s.zero_b = -(1 << 22) - 1; }), bad, "zero point", attention);
  // the four ranges of an attention: on a multiple of 8, inside the constants, numbers that can be run with
  const std::uint64_t end = view.constants().size();
  for (const int k : {0, 1, 2, 3}) {
    refused(with(attention, [&](auto& s) { s.data[k] += 4; }), bad, "constants of", attention);
    refused(with(attention, [&](auto& s) { s.data[k] = end; }), bad, "constants of", attention);
    refused(with(attention, [&](auto& s) { s.data[k] = ~std::uint64_t{7}; }), bad, "constants of", attention);
  }
  const auto with_constant = [&](std::size_t i, int k, std::uint64_t number, auto value) {
    const auto* constants = view.constants().data() + good[i].data[k] + sizeof value * number;
    std::byte* const place = bytes.all().data() + (constants - bytes.all().data());
    std::byte before[sizeof value];
    std::memcpy(before, place, sizeof value);
    std::memcpy(place, &value, sizeof value);
    sign(bytes.all());
    const rq::failure f = open(bytes.all());
    std::memcpy(place, before, sizeof value);
    return f;
  };
  const auto with_number = [&](int k, std::uint64_t number, auto value) {
    return with_constant(attention, k, number, value);
  };
  for (const float x : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    refused(with_number(0, 1, x), bad, "scale of", attention);
    refused(with_number(3, 1, x), bad, "scale of", attention);
  }
  refused(with_number(0, 1, -0.02F), bad, "scale of", attention);
  CHECK_FALSE(with_number(0, 1, 0.0F));
  CHECK_FALSE(with_number(3, 1, -0.2F));
  refused(with_number(1, 3, (1 << 22) + 1), bad, "zero point", attention);
  refused(with_number(2, 1, -(1 << 22) - 1), bad, "zero point", attention);
  CHECK_FALSE(with_number(1, 3, 1 << 22));
  CHECK_FALSE(with_number(2, 1, -(1 << 22)));
  // codes with feedback: blocks that are not too large, whole numbers, every channel of a block once
  REQUIRE(good[encode].inner == 3);
  rq::failure fed = with(encode, [](auto& s) { s.inner = 257; });
  refused(fed, rq::errc::too_large, "block of instruction", 257);
  CHECK(fed.want == 256);
  refused(with(encode, [](auto& s) { s.inner = -1; }), bad, "columns of instruction", encode);
  CHECK_FALSE(with(encode, [](auto& s) { s.inner = 0; }));
  fed = with(encode, [](auto& s) { s.inner = 4; });  // the order is that of three channels and one
  refused(fed, bad, "order of channels", encode);
  CHECK(fed.want == 3);
  const std::uint64_t sizes[] = {32, 16, 4, 3};
  for (const int k : {0, 1, 2, 3}) {
    CHECK(rq::model_view::data_bytes(good[encode], k) == sizes[k]);
    for (const std::uint64_t offset : {good[encode].data[k] + 4, end, ~std::uint64_t{7}}) {
      fed = with(encode, [&](auto& s) { s.data[k] = offset; });
      refused(fed, bad, "constants of instruction", encode);
      CHECK(fed.want == static_cast<std::int64_t>(offset));
    }
  }
  for (const float x : {std::nanf(""), HUGE_VALF, -HUGE_VALF})
    refused(with_constant(encode, 1, 3, x), bad, "unit of feedback", encode);
  CHECK_FALSE(with_constant(encode, 1, 3, -3e38F));
  for (const int channel : {0, 1, 3, 255}) {  // coded twice, twice, of another block, of none
    fed = with_constant(encode, 2, 0, static_cast<std::uint8_t>(channel));
    refused(fed, bad, "order of channels", encode);
    CHECK(fed.want == (channel == 0 ? 1 : channel == 1 ? 2 : 0));
  }
  refused(with_constant(encode, 2, 3, std::uint8_t{1}), bad, "order of channels",
          encode);  // of a block of one
  for (const int reach : {-128, 127})
    CHECK_FALSE(with_constant(encode, 3, 2, static_cast<std::int8_t>(reach)));
  refused(with(find(opcode::activate), [](auto& s) { s.function = 4; }), bad, "function",
          find(opcode::activate));
  refused(with(add, [](auto& s) { s.kind = opcode::mean_rows; }), mismatch, "rows of instruction", select);
  refused(with(select, [](auto& s) { s.kind = opcode::activate; }), mismatch, "rows of two", multiply);
  refused(with(table, [](auto& s) { s.inner = 1; }), mismatch, "rows of instruction", table);
  // fine on their own, but not what the header promises
  CHECK(says(with(table, [](auto& s) { s.inner = 5; }), bad, "rows in the header"));
  CHECK(says(with(rotate, [](auto& s) { s.inner = 5; }), bad, "rows in the header"));
  CHECK(says(with(select, [](auto& s) { s.row = 3; }), bad, "rows in the header"));
  CHECK_FALSE(with(select, [](auto& s) { s.row = 1; }));
  sign(bytes.all());
  CHECK_FALSE(open(bytes.all()));
}

TEST_CASE("more constants than a header counts are refused where they are written", "[infer][model]") {
  STATIC_REQUIRE_FALSE(rq::detail::check_constants(0xFFFFFFF8));
  constexpr rq::failure f = rq::detail::check_constants(std::uint64_t{1} << 32);
  CHECK(says(f, rq::errc::too_large, "constants"));
  CHECK((f.got == std::int64_t{1} << 32 && f.want == 0xFFFFFFFF));
}

TEST_CASE("more registers than the walk has room for are refused", "[infer][model]") {
  rq::model_writer w;
  rq::instruction s;
  s.kind = rq::opcode::activate;
  s.cols = 1;
  for (std::int32_t i = 1; i <= 300; ++i) {  // 300 values that all live until the end
    s.a = 0;
    s.out = i;
    w.add(s);
  }
  s.kind = rq::opcode::add;
  for (std::int32_t i = 2; i <= 300; ++i) {
    s.a = i == 2 ? 1 : 299 + i - 1;
    s.b = i;
    s.out = 299 + i;
    w.add(s);
  }
  const rq::failure f = open(w.finish(0, 1, s.out, 1).value());
  CHECK(says(f, rq::errc::too_large, "registers"));
  CHECK(f.want == rq::most_registers);
}
