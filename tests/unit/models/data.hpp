// SPDX-License-Identifier: MIT
/// Where the trained models lie that are not part of this project, and whether they are there.
#pragma once

#include "catch.hpp"
#include <cstdlib>
#include <filesystem>
#include <string>

namespace models {

/// The CMake option REPQUANT_DATA_DIR, or the environment variable of that name, or "".
inline std::string data_dir() {
  const char* const asked = std::getenv("REPQUANT_DATA_DIR");
  if (asked != nullptr) return asked;
#if defined(REPQUANT_DATA_DIR)
  return REPQUANT_DATA_DIR;
#else
  return "";
#endif
}

/// True, and a note in the report, where the folder of a model is not there: the test has nothing to look at.
inline bool lacks(const std::string& folder) {
  std::error_code none;
  if (!data_dir().empty() && std::filesystem::is_directory(data_dir() + "/" + folder, none)) return false;
  WARN("skipped: no " << folder << " in REPQUANT_DATA_DIR");
  SUCCEED();
  return true;
}

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace models
