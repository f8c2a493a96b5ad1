// SPDX-License-Identifier: MIT
/// How the example programs end when something is wrong: one sentence on stderr, exit code 2.
#pragma once

#include <repquant/core/failure.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

namespace examples {

/// The exit code of a program that was given something it cannot work with.
inline constexpr int bad_input = 2;

/// One sentence for a failure. An io failure carries the system's errno as `got` (0: the place says it
/// all), so that its reason stands there instead of two numbers.
inline std::string sentence(const repquant::failure& f) {
  if (f.code == repquant::errc::io) {
    return f.got == 0 ? std::string(f.where)
                      : std::string(f.where) + ": " + std::strerror(static_cast<int>(f.got));
  }
  if (f.code == repquant::errc::empty && f.got == 0 && f.want == 1) return std::string(f.where) + ": missing";
  char text[192];
  return {text, repquant::describe(f, text)};
}

/// Prints "program: sentence" to stderr; `return fail(...)` ends main.
inline int fail(std::string_view program, std::string_view text) {
  static_cast<void>(std::fprintf(stderr, "%.*s: %.*s\n", static_cast<int>(program.size()), program.data(),
                                 static_cast<int>(text.size()), text.data()));
  return bad_input;
}
inline int fail(std::string_view program, const repquant::failure& f) { return fail(program, sentence(f)); }

}  // namespace examples
