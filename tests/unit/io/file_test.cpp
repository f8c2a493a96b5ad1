// SPDX-License-Identifier: MIT
/// read_file and write_file: a whole file or a failure that names it; the old file or the new one.
#include <repquant/io/file.hpp>

#include "catch.hpp"
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rq = repquant;
namespace fs = std::filesystem;

namespace {

struct temporary_directory {
  fs::path path;
  temporary_directory() {
    static int count = 0;
    const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count();
    path = fs::temp_directory_path() / ("repquant-" + std::to_string(ticks) + "-" + std::to_string(count++));
    fs::create_directory(path);
  }
  ~temporary_directory() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  [[nodiscard]] std::string file(const char* name) const { return (path / name).string(); }
};

std::vector<std::byte> bytes_of(std::size_t n, int seed) {
  std::vector<std::byte> b(n);
  for (std::size_t i = 0; i < n; ++i) b[i] = static_cast<std::byte>(i * 31 + static_cast<std::size_t>(seed));
  return b;
}

}  // namespace

TEST_CASE("file: what is written is read", "[io]") {
  const temporary_directory dir;
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{65536}, std::size_t{200'001}}) {
    const std::vector<std::byte> bytes = bytes_of(n, static_cast<int>(n));
    REQUIRE_FALSE(rq::write_file(dir.file("a"), bytes));  // over the file of the round before
    CHECK(rq::read_file(dir.file("a")).value() == bytes);
  }
  CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 1);  // nothing left beside it
}

TEST_CASE("file: failures name the path and the system's reason", "[io]") {
  const temporary_directory dir;
  rq::failure f = rq::read_file(dir.file("none")).error();
  CHECK(f.code == rq::errc::io);
  CHECK(f.got == ENOENT);
  CHECK(std::string(f.where).ends_with("/none"));
  CHECK(rq::read_file(dir.path.string()).error().code == rq::errc::io);  // a directory
  f = rq::write_file(dir.file("no/such/directory"), bytes_of(3, 0));
  CHECK(f.code == rq::errc::io);
  CHECK(f.got == ENOENT);
  CHECK(std::string(f.where).starts_with("writing "));
  CHECK(rq::write_file(dir.path.string(), bytes_of(3, 0)).code == rq::errc::io);
  const std::string deep = dir.file("none") + std::string(200, 'x');
  CHECK(std::string(rq::read_file(deep).error().where).ends_with("xxx"));  // the end of a long path is kept
}

TEST_CASE("file: a link stays a link, a pipe stays a pipe", "[io]") {
  const temporary_directory dir;
  const std::vector<std::byte> bytes = bytes_of(10, 1);
  REQUIRE_FALSE(rq::write_file(dir.file("target"), bytes_of(3, 2)));
  fs::create_symlink(dir.file("target"), dir.file("link"));
  REQUIRE_FALSE(rq::write_file(dir.file("link"), bytes));
  CHECK(fs::is_symlink(dir.file("link")));
  CHECK(rq::read_file(dir.file("target")).value() == bytes);

  // a pipe, held open for both sides, so that neither open waits for the other
  REQUIRE(::mkfifo(dir.file("pipe").c_str(), 0600) == 0);
  const int both = ::open(dir.file("pipe").c_str(), O_RDWR | O_NONBLOCK);
  REQUIRE(both >= 0);
  REQUIRE_FALSE(rq::write_file(dir.file("pipe"), bytes));
  CHECK(fs::is_fifo(dir.file("pipe")));
  std::vector<std::byte> received(20);
  CHECK(::read(both, received.data(), received.size()) == 10);
  ::close(both);
}
