// SPDX-License-Identifier: MIT
/// A machine-readable report: JSON with an array `rows` of objects whose keys stay in the order they were
/// written in.
#pragma once

#include <repquant/io/file.hpp>

#include <nlohmann/json.hpp>

#include <cerrno>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <utility>

namespace examples {

/// A report that is written once, at the end.
///
/// Example   examples::report r;
///           r.set("program", "quantize_vit");
///           r.row({{"network", "plain"}, {"top1", 88.65}, {"images", 2000}});
///           if (repquant::failure f = r.write("out.json")) return examples::fail("quantize_vit", f);
class report {
 public:
  /// An object: `{{"key", value}, ...}`. NaN and infinities become null.
  using object = nlohmann::ordered_json;

  /// A value beside `rows`.
  void set(const std::string& key, object value) { head_[key] = std::move(value); }
  /// One more row.
  void row(object value) { rows_.push_back(std::move(value)); }

  /// The JSON, ended by a newline. Bytes that are not UTF-8 become U+FFFD.
  [[nodiscard]] std::string text() const {
    object all = head_;
    all["rows"] = rows_;
    return all.dump(1, ' ', false, object::error_handler_t::replace) + "\n";
  }
  /// Writes the report; a reader sees the old file or the whole new one.
  ///
  /// Errors  io: it cannot be written
  [[nodiscard]] repquant::failure write(const std::string& path) const {
    const std::string all = text();
    return repquant::write_file(path, std::as_bytes(std::span(all)));
  }

 private:
  object head_ = object::object();
  object rows_ = object::array();
};

/// Nothing, or why a report could not be written to `path` later: for the start of a long program.
///
/// Errors  io: the directory is not there (got = ENOENT), or cannot be written to (EACCES), or `path` is a
///         directory (EISDIR)
inline repquant::failure check_writable(const std::string& path) {
  namespace fs = std::filesystem;
  const auto cannot = [&](int reason) {
    return repquant::failure{repquant::errc::io, "writing " + repquant::detail::path_tail(path, 80), reason};
  };
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return cannot(EISDIR);
  const fs::path parent = fs::path(path).parent_path();
  const fs::path directory = parent.empty() ? fs::path(".") : parent;
  if (!fs::is_directory(directory, ignored)) return cannot(ENOENT);
  return ::access(directory.c_str(), W_OK) == 0 ? repquant::failure{} : cannot(EACCES);
}

}  // namespace examples
