// SPDX-License-Identifier: MIT
/// safetensors: what is written comes back; every malformed header is refused with its place and the two
/// numbers; no truncation and no flipped bit is ever more than a failure (run it under asan).
#include <repquant/io/safetensors.hpp>
#include <repquant/io/write_safetensors.hpp>

#include "catch.hpp"
#include <limits>
#include <random>

namespace rq = repquant;

namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* const p = reinterpret_cast<const std::byte*>(text.data());
  return {p, p + text.size()};
}

/// A file with this header and `data` bytes 0, 1, 2, ... after it.
std::vector<std::byte> file_of(std::string_view header, std::size_t data) {
  std::vector<std::byte> out(8);
  const std::uint64_t n = header.size();
  std::memcpy(out.data(), &n, 8);
  const std::vector<std::byte> text = bytes_of(header);
  out.insert(out.end(), text.begin(), text.end());
  for (std::size_t i = 0; i < data; ++i) out.push_back(static_cast<std::byte>(i));
  return out;
}

rq::failure failure_of(std::string_view header, std::size_t data) {
  const rq::result<rq::safetensors> file = rq::safetensors::parse(file_of(header, data), "f");
  return file ? rq::failure{} : file.error();
}

struct two_tensors {
  rq::matrix<> weight{{1.0F, -2.5F, 3.0F}, {0.0F, 1e-30F, 7.0F}};
  rq::column<> bias{{0.5F, -0.25F}};
  std::vector<std::int64_t> counts{5, -6, 7};
  [[nodiscard]] std::vector<std::byte> bytes() const {
    const std::vector<rq::tensor> all{rq::tensor_of("layer.weight", weight),
                                      rq::tensor_of("layer.bias", bias),
                                      {"counts", rq::dtype::i64, {3}, std::as_bytes(std::span(counts))}};
    return *rq::write_safetensors(all, {{"arch", "a \"quoted\" name"}});
  }
};

}  // namespace

TEST_CASE("safetensors: what is written comes back", "[io]") {
  const two_tensors t;
  const std::vector<std::byte> bytes = t.bytes();
  const auto n = rq::detail::number_at<std::uint64_t>(bytes, 0);
  CHECK((8 + n) % 64 == 0);
  CHECK(bytes[8] == std::byte{'{'});
  const rq::safetensors file = rq::safetensors::parse(bytes).value();
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.metadata().at("arch") == "a \"quoted\" name");
  CHECK(file.find("layer.weight")->shape == std::vector<rq::index>{2, 3});
  CHECK(file.matrix("layer.weight", 2, 3).value() == t.weight);
  CHECK(file.matrix("layer.weight").value() == t.weight);
  CHECK(file.column("layer.bias", 2).value() == t.bias);
  CHECK(file.ints("counts", 3).value() == std::vector<std::int32_t>{5, -6, 7});
  CHECK(file.floats("layer.weight").value() == std::vector<float>{1.0F, -2.5F, 3.0F, 0.0F, 1e-30F, 7.0F});
  // the widest format is first in the data, so that every tensor is aligned to its numbers
  CHECK(file.find("counts")->bytes.data() == bytes.data() + 8 + n);
}

TEST_CASE("safetensors: a tensor that does not fit says which and by how much", "[io]") {
  const std::vector<std::byte> bytes = two_tensors{}.bytes();
  const rq::safetensors file = rq::safetensors::parse(bytes, "f").value();
  rq::failure f = file.matrix("layer.weight", 2, 4).error();
  CHECK(f.code == rq::errc::shape_mismatch);
  CHECK(std::string(f.where) == "f: layer.weight: columns");
  CHECK(f.got == 3);
  CHECK(f.want == 4);
  f = file.matrix("layer.weight", 5, 3).error();
  CHECK(std::string(f.where) == "f: layer.weight: rows");
  CHECK(f.got == 2);
  f = file.column("layer.weight", 6).error();
  CHECK(std::string(f.where) == "f: layer.weight: dimensions");
  CHECK(f.got == 2);
  CHECK(f.want == 1);
  f = file.column("layer.bias", 3).error();
  CHECK(std::string(f.where) == "f: layer.bias: size");
  f = file.column("layer.gamma", 3).error();
  CHECK(f.code == rq::errc::empty);
  CHECK(std::string(f.where) == "f: layer.gamma");
  CHECK(file.floats("none").error().code == rq::errc::empty);
  CHECK(file.ints("none").error().code == rq::errc::empty);
  CHECK(file.column("counts", 3).error().code == rq::errc::bad_format);
  CHECK(file.ints("layer.bias").error().code == rq::errc::bad_format);
  CHECK(file.ints("counts", 4).error().got == 3);
}

TEST_CASE("safetensors: number formats", "[io]") {
  using limits = std::numeric_limits<float>;
  const std::vector<std::uint16_t> halves{0x3C00, 0xC000, 0x0001, 0x8000, 0x03FF,
                                          0x0400, 0x7BFF, 0x7C00, 0xFC00};
  const std::vector<float> half_values{1.0F,
                                       -2.0F,
                                       0x1p-24F,
                                       -0.0F,
                                       0x1.ff8p-15F,
                                       0x1p-14F,
                                       65504.0F,
                                       limits::infinity(),
                                       -limits::infinity()};
  const std::vector<std::uint16_t> brains{0x3F80, 0xC020, 0x7F80};
  const std::vector<double> doubles{0.1, -3.0};
  const std::vector<std::uint32_t> large{1, 0x80000000U};
  const std::vector<std::int64_t> low{-2147483648LL, -2147483649LL};
  const std::vector<std::uint8_t> small{0, 255};
  const std::vector<std::int8_t> negative{-128, 127};
  const std::vector<rq::tensor> all{{"f16", rq::dtype::f16, {3, 3}, std::as_bytes(std::span(halves))},
                                    {"bf16", rq::dtype::bf16, {3}, std::as_bytes(std::span(brains))},
                                    {"f64", rq::dtype::f64, {2}, std::as_bytes(std::span(doubles))},
                                    {"u32", rq::dtype::u32, {2}, std::as_bytes(std::span(large))},
                                    {"i64", rq::dtype::i64, {2}, std::as_bytes(std::span(low))},
                                    {"u8", rq::dtype::u8, {2}, std::as_bytes(std::span(small))},
                                    {"i8", rq::dtype::i8, {2}, std::as_bytes(std::span(negative))},
                                    {"scalar", rq::dtype::u8, {}, std::as_bytes(std::span(small)).first(1)},
                                    {"none", rq::dtype::f32, {0, 7}, {}}};
  const std::vector<std::byte> bytes = *rq::write_safetensors(all);
  const rq::safetensors file = rq::safetensors::parse(bytes).value();
  const std::vector<float> read = file.floats("f16").value();
  REQUIRE(read.size() == half_values.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    CHECK(std::bit_cast<std::uint32_t>(read[i]) == std::bit_cast<std::uint32_t>(half_values[i]));
  }
  CHECK(std::isnan(rq::detail::half_to_float(0x7E00)));
  CHECK(file.floats("bf16").value() == std::vector<float>{1.0F, -2.5F, limits::infinity()});
  CHECK(file.floats("f64").value() == std::vector<float>{0.1F, -3.0F});
  CHECK(file.ints("u8").value() == std::vector<std::int32_t>{0, 255});
  CHECK(file.ints("i8").value() == std::vector<std::int32_t>{-128, 127});
  CHECK(file.ints("scalar", 1).value() == std::vector<std::int32_t>{0});
  CHECK(file.ints("u32").error().code == rq::errc::too_large);
  CHECK(file.ints("u32").error().got == 0x80000000LL);
  CHECK(file.ints("i64").error().got == -2147483649LL);
  CHECK(file.matrix("none", 0, 7).value().size() == 0);
}

TEST_CASE("safetensors: malformed headers are refused", "[io]") {
  const auto entry = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return R"({"a":{"dtype":)" + std::string(dtype) + R"(,"shape":)" + std::string(shape) +
           R"(,"data_offsets":)" + std::string(offsets) + "}}";
  };
  REQUIRE(failure_of(entry("\"F32\"", "[2]", "[0,8]"), 8).code == rq::errc::ok);
  REQUIRE(failure_of(entry("\"F32\"", "[2]", "[0,8]") + "   ", 8).code == rq::errc::ok);
  REQUIRE(failure_of("{}", 0).code == rq::errc::ok);

  CHECK(failure_of(" {}", 0).code == rq::errc::bad_format);
  CHECK(failure_of("[1,2]", 0).code == rq::errc::bad_format);
  CHECK(failure_of("{}{}", 0).code == rq::errc::bad_format);
  CHECK(failure_of("{\"a\":", 0).code == rq::errc::bad_format);
  CHECK(failure_of("{\"\xFF\":{}}", 0).code == rq::errc::bad_format);
  CHECK(failure_of("{\"a\":3}", 0).code == rq::errc::bad_format);
  CHECK(failure_of("{\"a\":{}}", 0).code == rq::errc::bad_format);
  CHECK(failure_of(std::string(100'000, '['), 0).code == rq::errc::bad_format);
  std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  CHECK(failure_of(deep, 0).code == rq::errc::bad_format);
  CHECK(failure_of(R"({"__metadata__":3})", 0).code == rq::errc::bad_format);
  CHECK(failure_of(R"({"__metadata__":{"n":3}})", 0).code == rq::errc::bad_format);

  for (const char* dtype : {"\"F33\"", "\"f32\"", "7", "null", "\"\""}) {
    CHECK(failure_of(entry(dtype, "[2]", "[0,8]"), 8).code == rq::errc::bad_format);
  }
  for (const char* shape : {"[-2]", "[2.0]", "2", "[[2]]", "[null]", "[1e1]", "{}", "[99999999999999999999]",
                            "[18446744073709551615]"}) {
    CHECK(failure_of(entry("\"F32\"", shape, "[0,8]"), 8).code == rq::errc::bad_format);
  }
  for (const char* shape : {"[3]", "[1]", "[]", "[0]", "[4294967296,4294967296]", "[9223372036854775807,4]",
                            "[2305843009213693953]"}) {
    const rq::failure f = failure_of(entry("\"F32\"", shape, "[0,8]"), 8);
    CHECK(f.code == rq::errc::shape_mismatch);
    CHECK(f.got == 8);
  }
  CHECK(failure_of(entry("\"F4\"", "[15]", "[0,8]"), 8).code == rq::errc::shape_mismatch);
  CHECK(failure_of(entry("\"F4\"", "[16]", "[0,8]"), 8).code == rq::errc::ok);
  CHECK(failure_of(entry("\"F32\"", "[0,9223372036854775807,9]", "[0,0]"), 0).code == rq::errc::ok);
  for (const char* offsets : {"[0]", "[0,8,8]", "[]", "8", "[-1,7]", "[0,8.0]", "[8,0]", "[4,12]", "[0,9]",
                              "[0,18446744073709551615]", "[18446744073709551608,0]"}) {
    CHECK(failure_of(entry("\"F32\"", "[2]", offsets), 8).code == rq::errc::bad_format);
  }

  const rq::failure past = failure_of(entry("\"F32\"", "[4]", "[0,16]"), 8);
  CHECK(std::string(past.where) == "f: a: data_offsets: end");
  CHECK(past.got == 16);
  CHECK(past.want == 8);
}

TEST_CASE("safetensors: tensors tile the data exactly", "[io]") {
  const auto two = [](std::string_view a, std::string_view b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(a) +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(b) + "}}";
  };
  CHECK(failure_of(two("[0,4]", "[4,8]"), 8).code == rq::errc::ok);
  CHECK(failure_of(two("[4,8]", "[0,4]"), 8).code == rq::errc::ok);
  const rq::failure hole = failure_of(two("[0,4]", "[5,9]"), 9);
  CHECK(hole.code == rq::errc::bad_format);
  CHECK(std::string(hole.where) == "f: b: data_offsets: begin");
  CHECK(hole.got == 5);
  CHECK(hole.want == 4);
  CHECK(failure_of(two("[0,4]", "[3,7]"), 7).got == 3);
  CHECK(failure_of(two("[0,4]", "[0,4]"), 4).got == 0);
  CHECK(failure_of(two("[1,5]", "[5,9]"), 9).want == 0);
  const rq::failure rest = failure_of(two("[0,4]", "[4,8]"), 10);
  CHECK(std::string(rest.where) == "f: bytes of tensors");
  CHECK(rest.got == 8);
  CHECK(rest.want == 10);
  CHECK(failure_of("{}", 1).code == rq::errc::bad_format);
}

TEST_CASE("safetensors: a key that is there twice is refused", "[io]") {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  CHECK(failure_of("{" + a + "}", 4).code == rq::errc::ok);
  const rq::failure name = failure_of("{" + a + "," + a + "}", 4);
  CHECK(name.code == rq::errc::bad_format);
  CHECK(std::string(name.where) == "f: header: twice: a");
  CHECK(failure_of(R"({"a":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}})", 4).code ==
        rq::errc::bad_format);
  CHECK(failure_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0).code == rq::errc::bad_format);
  // the same field in two entries is no repetition
  CHECK(failure_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                   R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                   4)
            .code == rq::errc::ok);
}

TEST_CASE("safetensors: header length", "[io]") {
  for (std::size_t size = 0; size < 10; ++size) {
    const std::vector<std::byte> bytes(size);
    const rq::failure f = rq::safetensors::parse(bytes).error();
    CHECK(f.code == rq::errc::bad_format);
    CHECK(f.got == static_cast<std::int64_t>(size));
  }
  std::vector<std::byte> bytes = file_of("{}", 0);
  for (const std::uint64_t n : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 40U,
                                std::numeric_limits<std::uint64_t>::max()}) {
    std::memcpy(bytes.data(), &n, 8);
    CHECK(rq::safetensors::parse(bytes).error().code == rq::errc::bad_format);
  }
  std::vector<std::byte> huge(8 + 100'000'002, std::byte{' '});
  const std::uint64_t n = 100'000'001;
  std::memcpy(huge.data(), &n, 8);
  CHECK(rq::safetensors::parse(huge).error().code == rq::errc::too_large);
}

TEST_CASE("safetensors: numbers need not be aligned", "[io]") {
  for (std::size_t shift = 0; shift < 4; ++shift) {
    std::string header =
        R"({"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})" + std::string(shift, ' ');
    std::vector<std::byte> bytes = file_of(header, 8);
    const float values[] = {1.5F, -2.0F};
    std::memcpy(bytes.data() + bytes.size() - 8, values, 8);
    const rq::matrix<> m = rq::safetensors::parse(bytes)->matrix("a", 1, 2).value();
    CHECK(m(0, 0) == 1.5F);
    CHECK(m(0, 1) == -2.0F);
  }
}

TEST_CASE("safetensors: every truncation is a failure", "[io]") {
  const std::vector<std::byte> bytes = two_tensors{}.bytes();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(rq::safetensors::parse(cut).has_value());
  }
}

TEST_CASE("safetensors: flipped bits never do more than fail", "[io]") {
  const std::vector<std::byte> bytes = two_tensors{}.bytes();
  const std::size_t header = 8 + static_cast<std::size_t>(rq::detail::number_at<std::uint64_t>(bytes, 0));
  std::mt19937 random(20240);  // any seed: the bytes are drawn, not the verdict
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::byte> changed = bytes;
    const int flips = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < flips; ++i) {
      changed[random() % header] ^= static_cast<std::byte>(1U << (random() % 8));
    }
    const rq::result<rq::safetensors> file = rq::safetensors::parse(changed);
    if (!file) continue;
    ++accepted;
    for (const rq::tensor& t : file->tensors()) {  // touches every byte, for the sanitizer
      CHECK(rq::byte_size(t.type, t.shape) == static_cast<std::int64_t>(t.bytes.size()));
      static_cast<void>(file->floats(t.name).has_value());
      static_cast<void>(file->ints(t.name).has_value());
      static_cast<void>(file->matrix(t.name).has_value());
    }
  }
  CHECK(accepted > 0);  // a flip in a name or in the padding leaves a valid file
  CHECK(accepted < 4000);
}

TEST_CASE("write_safetensors: refuses what a reader would", "[io]") {
  const rq::column<> c{{1.0F}};
  const auto code = [&](std::vector<rq::tensor> all) { return rq::write_safetensors(all).error().code; };
  CHECK(code({rq::tensor_of("", c)}) == rq::errc::bad_format);
  CHECK(code({rq::tensor_of("__metadata__", c)}) == rq::errc::bad_format);
  CHECK(code({rq::tensor_of("\xC3(", c)}) == rq::errc::bad_format);
  CHECK(code({rq::tensor_of("a", c), rq::tensor_of("a", c)}) == rq::errc::bad_format);
  rq::tensor wrong = rq::tensor_of("a", c);
  wrong.shape = {2};
  CHECK(code({wrong}) == rq::errc::shape_mismatch);
  CHECK(rq::write_safetensors({}, {{"k", "\xFF"}}).error().code == rq::errc::bad_format);
  const std::vector<std::byte> none = rq::write_safetensors({}).value();
  CHECK(rq::safetensors::parse(none).value().tensors().empty());
}
