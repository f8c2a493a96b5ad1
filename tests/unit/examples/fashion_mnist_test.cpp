// SPDX-License-Identifier: MIT
/// IDX files and Fashion-MNIST directories: what is read, and what is refused with which numbers.
#include "support/fashion_mnist.hpp"

#include "catch.hpp"
#include "support/data_directory.hpp"
#include <cmath>

namespace rq = repquant;
namespace fs = std::filesystem;

namespace {

const std::string directory = examples::data_directory();

std::vector<std::byte> idx(const std::vector<std::uint32_t>& head, std::size_t bytes) {
  std::vector<std::byte> out;
  for (const std::uint32_t word : head) {
    for (const unsigned shift : {24U, 16U, 8U, 0U}) out.push_back(static_cast<std::byte>(word >> shift));
  }
  for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(i % 10));
  return out;
}

rq::failure image_failure(const std::vector<std::byte>& bytes, rq::index limit = examples::all_of_them) {
  const rq::result<examples::idx_images> r = examples::parse_idx_images(bytes, "f", limit);
  return r ? rq::failure{} : r.error();
}

struct scratch_directory {
  fs::path path;
  scratch_directory() {
    const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count();
    path = fs::temp_directory_path() / ("repquant-images-" + std::to_string(ticks));
    fs::create_directory(path);
  }
  ~scratch_directory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  void put(const std::string& name, const std::vector<std::byte>& bytes) const {
    REQUIRE_FALSE(rq::write_file((path / name).string(), bytes));
  }
  [[nodiscard]] rq::failure load() const {
    const rq::result<examples::image_data> d = examples::load_fashion_mnist(path.string());
    return d ? rq::failure{} : d.error();
  }
};

}  // namespace

TEST_CASE("idx: images and labels", "[examples]") {
  const examples::idx_images a = examples::parse_idx_images(idx({0x803, 3, 2, 4}, 24), "f").value();
  CHECK(a.count == 3);
  CHECK(a.rows == 2);
  CHECK(a.cols == 4);
  REQUIRE(a.image(2).size() == 8);
  CHECK(a.image(2)[0] == 6);
  const examples::idx_images first = examples::parse_idx_images(idx({0x803, 3, 2, 4}, 24), "f", 2).value();
  CHECK(first.count == 2);
  CHECK(first.pixels.size() == 16);
  // only what is asked for has to be there
  CHECK(image_failure(idx({0x803, 3, 2, 4}, 16), 2).code == rq::errc::ok);
  CHECK(examples::parse_idx_labels(idx({0x801, 3}, 3), "f").value() == std::vector<std::uint8_t>{0, 1, 2});
  CHECK(examples::parse_idx_images(idx({0x803, 0, 28, 28}, 0), "f").value().count == 0);
}

TEST_CASE("idx: what is not what it should be", "[examples]") {
  rq::failure f = image_failure(idx({0x801, 3}, 30));
  CHECK(f.code == rq::errc::bad_format);
  CHECK(std::string(f.where) == "f: magic number");
  CHECK(f.got == 0x801);
  CHECK(f.want == 0x803);
  f = image_failure(idx({0x803, 3, 2, 4}, 23));
  CHECK(std::string(f.where) == "f: bytes");
  CHECK(f.got == 39);
  CHECK(f.want == 40);
  CHECK(image_failure(idx({0x803, 3, 2, 4}, 25)).got == 41);
  CHECK(image_failure(idx({0x803, 3, 2}, 0)).want == 16);
  CHECK(image_failure({}).code == rq::errc::bad_format);
  CHECK(image_failure(idx({0x803, 1, 70000, 1}, 70000)).code == rq::errc::too_large);
  CHECK(image_failure(idx({0x803, 0xFFFFFFFF, 0xFFFF, 0xFFFF}, 64)).code == rq::errc::too_large);
  CHECK(examples::parse_idx_labels(idx({0x801, 3}, 2), "f").error().got == 10);
}

TEST_CASE("idx: compressed files", "[examples]") {
  std::vector<std::byte> plain = idx({0x801, 300}, 300);
#if defined(REPQUANT_EXAMPLES_ZLIB)
  std::vector<std::byte> packed(2000);
  z_stream s{};
  REQUIRE(::deflateInit2(&s, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  s.next_in = reinterpret_cast<Bytef*>(plain.data());
  s.avail_in = static_cast<uInt>(plain.size());
  s.next_out = reinterpret_cast<Bytef*>(packed.data());
  s.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(::deflate(&s, Z_FINISH) == Z_STREAM_END);
  packed.resize(packed.size() - s.avail_out);
  ::deflateEnd(&s);
  CHECK(examples::parse_idx_labels(packed, "f").value() == examples::parse_idx_labels(plain, "f").value());
  CHECK(examples::parse_idx_labels(packed, "f", 7).value().size() == 7);
  for (std::size_t size = 3; size < packed.size(); ++size) {
    const std::vector<std::byte> cut(packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(examples::parse_idx_labels(cut, "f").has_value());
  }
  std::vector<std::byte> damaged = packed;
  damaged[damaged.size() - 6] ^= std::byte{1};  // the checksum
  CHECK(std::string(examples::parse_idx_labels(damaged, "f").error().where) ==
        "f: compressed data is damaged");
#else
  plain[0] = std::byte{0x1F};
  plain[1] = std::byte{0x8B};
  const rq::failure f = examples::parse_idx_labels(plain, "f").error();
  CHECK(f.code == rq::errc::io);
  CHECK(std::string(f.where) == "f: compressed, and built without zlib: use gunzip, or install zlib");
#endif
}

TEST_CASE("fashion_mnist: the committed images", "[examples]") {
  const examples::image_data d = examples::load_fashion_mnist(directory).value();
  CHECK(d.calibration.size() == 256);
  CHECK(d.evaluation.size() == 2000);
  // the first training labels of Fashion-MNIST are 9, 0, 0, 3 and the first test labels 9, 2, 1, 1
  CHECK(std::vector<std::uint8_t>(d.calibration.labels.begin(), d.calibration.labels.begin() + 4) ==
        std::vector<std::uint8_t>{9, 0, 0, 3});
  CHECK(std::vector<std::uint8_t>(d.evaluation.labels.begin(), d.evaluation.labels.begin() + 4) ==
        std::vector<std::uint8_t>{9, 2, 1, 1});
  CHECK(examples::load_fashion_mnist(directory, 10).value().evaluation.size() == 10);
}

TEST_CASE("fashion_mnist: the original directory", "[examples]") {
  const scratch_directory dir;
  dir.put("train-images-idx3-ubyte", idx({0x803, 300, 28, 28}, 300 * 784));
  dir.put("train-labels-idx1-ubyte", idx({0x801, 300}, 300));
  dir.put("t10k-images-idx3-ubyte", idx({0x803, 20, 28, 28}, 20 * 784));
  rq::failure f = dir.load();
  CHECK(f.code == rq::errc::io);
  CHECK(std::string(f.where).ends_with("/t10k-labels-idx1-ubyte"));
  dir.put("t10k-labels-idx1-ubyte", idx({0x801, 20}, 20));
  const examples::image_data d = examples::load_fashion_mnist(dir.path.string()).value();
  CHECK(d.calibration.size() == 256);
  CHECK(d.evaluation.size() == 20);
  dir.put("t10k-labels-idx1-ubyte", idx({0x801, 21}, 21));
  f = dir.load();
  CHECK(f.code == rq::errc::shape_mismatch);
  CHECK(f.got == 21);
  CHECK(f.want == 20);
  std::vector<std::byte> eleven = idx({0x801, 20}, 20);
  eleven.back() = std::byte{11};
  dir.put("t10k-labels-idx1-ubyte", eleven);
  CHECK(dir.load().got == 11);
  dir.put("t10k-images-idx3-ubyte", idx({0x803, 20, 28, 27}, 20 * 28 * 27));
  f = dir.load();
  CHECK(std::string(f.where) == "t10k-images-idx3-ubyte: columns");
  CHECK(f.got == 27);
}

TEST_CASE("fashion_mnist: a directory that is not one", "[examples]") {
  CHECK(examples::load_fashion_mnist(directory + "/none").error().got == ENOENT);
  CHECK(examples::load_fashion_mnist(directory + "/dev-labels.idx1-ubyte").error().got == ENOTDIR);
  const scratch_directory dir;
  const rq::failure f = dir.load();
  CHECK(f.code == rq::errc::io);
  CHECK(std::string(f.where).ends_with("no calib-images and no train-images"));
}

TEST_CASE("fashion_mnist: patches", "[examples]") {
  std::vector<std::uint8_t> image(784);
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::uint8_t>(i % 251);
  const rq::matrix<> m = examples::patches_of(image);
  REQUIRE(m.rows() == 49);
  REQUIRE(m.cols() == 16);
  for (int patch = 0; patch < 49; ++patch) {
    for (int pixel = 0; pixel < 16; ++pixel) {
      const int y = 4 * (patch / 7) + pixel / 4;
      const int x = 4 * (patch % 7) + pixel % 4;
      const double want = (((28 * y + x) % 251) / 255.0 - 0.2860) / 0.3530;
      // three float operations and two rounded constants, on values below 3
      CHECK(std::fabs(static_cast<double>(m(patch, pixel)) - want) < 5 * 0x1p-23);
    }
  }
}
