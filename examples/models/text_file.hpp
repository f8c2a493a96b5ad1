// SPDX-License-Identifier: MIT
/// Text files as strings and lines.
#pragma once

#include <repquant/io/file.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace examples {

/// All characters of a file. Errors  io: it cannot be read
inline repquant::result<std::string> read_text(const std::string& path) {
  const auto bytes = repquant::read_file(path);
  if (!bytes) return bytes.error();
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

/// The parts of a text between separators, the separators left out; what follows the last one only where it
/// is not empty.
inline std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return parts;
}

}  // namespace examples
