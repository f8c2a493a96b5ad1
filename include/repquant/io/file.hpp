// SPDX-License-Identifier: MIT
/// A whole file as bytes, and back. Nothing here knows a format.
#pragma once

#include <repquant/core/failure.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace repquant {

namespace detail {
struct close_file {
  void operator()(std::FILE* f) const noexcept { static_cast<void>(std::fclose(f)); }
};
using file_handle = std::unique_ptr<std::FILE, close_file>;

/// The end of a path, short enough for a failure's place with a tensor's name behind it.
inline std::string path_tail(std::string_view path, std::size_t most) {
  if (path.size() <= most) return std::string(path);
  return "..." + std::string(path.substr(path.size() - (most - 3)));
}
/// What stands after the last slash.
inline std::string file_name(std::string_view path, std::size_t most) {
  return path_tail(path.substr(path.find_last_of('/') + 1), most);
}
inline failure cannot(std::string_view what, std::string_view path, int reason) {
  return {errc::io, std::string(what) + path_tail(path, 95 - what.size()), reason, 0};
}
}  // namespace detail

/// All bytes of the file `path`.
///
/// Errors  io: it cannot be opened or read; got = the system's errno (2: no such file)
inline result<std::vector<std::byte>> read_file(const std::string& path) {
  const detail::file_handle file(std::fopen(path.c_str(), "rb"));
  if (!file) return detail::cannot("", path, errno);
  std::error_code unknown;
  const auto expected = std::filesystem::file_size(path, unknown);
  // one byte more than expected, so that the read that fills the buffer also sees the end
  std::vector<std::byte> bytes(unknown ? std::size_t{1} << 16U : static_cast<std::size_t>(expected) + 1);
  std::size_t size = 0;
  while (true) {
    size += std::fread(bytes.data() + size, 1, bytes.size() - size, file.get());
    if (std::ferror(file.get()) != 0) return detail::cannot("", path, errno);
    if (size < bytes.size()) break;
    bytes.resize(2 * bytes.size());
  }
  bytes.resize(size);
  return bytes;
}

/// Writes `bytes` to `path`: to a new file beside it that then takes its name, so that a reader, and a
/// process that dies half-way, find the old file or the new one. What is not a regular file (a pipe,
/// /dev/stdout) is written to directly.
///
/// Errors  io: it cannot be written; got = the system's errno. The old file is then still there
inline failure write_file(const std::string& path, std::span<const std::byte> bytes) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  const bool direct = fs::exists(status) && !fs::is_regular_file(status);
  std::string target = path;
  if (fs::exists(status)) {  // through a link, so that the link stays one
    const fs::path real = fs::canonical(path, ignored);
    if (!ignored) target = real.string();
  }
  const auto ticks = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::string beside = direct ? target : target + "." + std::to_string(ticks) + ".partial";
  detail::file_handle file(std::fopen(beside.c_str(), direct ? "wb" : "wbx"));
  if (!file) return detail::cannot("writing ", path, errno);
  int reason = 0;
  // an empty span may have no address, which fwrite does not allow
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size())
    reason = errno;
  if (std::fclose(file.release()) != 0 && reason == 0) reason = errno;
  if (reason == 0 && !direct && std::rename(beside.c_str(), target.c_str()) != 0) reason = errno;
  if (reason == 0) return {};
  if (!direct) static_cast<void>(std::remove(beside.c_str()));
  return detail::cannot("writing ", path, reason);
}

}  // namespace repquant
