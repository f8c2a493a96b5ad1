// SPDX-License-Identifier: MIT
/// A progress bar on stderr where that is a terminal, and silence, or a line per task, where it is not.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

namespace examples {

/// What progress does with a stream that is not a terminal.
enum class plain_output : unsigned char {
  quiet,  ///< nothing
  lines,  ///< one line when a task begins
};

/// A bar that follows one task after the other and is gone when it ends.
///
/// Example   examples::progress bar;
///           bar.begin("calibrate");
///           for (...) bar(done, all);     // or hand `bar` to a library function that reports progress
///           bar.end();
class progress {
 public:
  explicit progress(plain_output otherwise = plain_output::quiet, std::FILE* stream = stderr)
      : progress(otherwise, stream, ::isatty(::fileno(stream)) != 0) {}
  /// Says itself whether the stream is a terminal.
  progress(plain_output otherwise, std::FILE* stream, bool terminal)
      : stream_(stream), otherwise_(otherwise), terminal_(terminal) {}
  ~progress() { end(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  /// A new task, of which nothing is done yet.
  void begin(std::string task) {
    end();
    task_ = std::move(task);
    if (!terminal_ && otherwise_ == plain_output::lines) put(task_ + "\n");
    if (terminal_) draw(0, 1);
  }
  /// `done` of `all` steps are done. Always true: go on. Draws at most twenty times a second.
  bool operator()(std::ptrdiff_t done, std::ptrdiff_t all) {
    if (!terminal_ || all <= 0) return true;
    const auto now = std::chrono::steady_clock::now();
    if (done < all && drawn_ && now - last_ < std::chrono::milliseconds(50)) return true;
    last_ = now;
    draw(std::clamp<std::ptrdiff_t>(done, 0, all), all);
    return true;
  }
  /// Takes the bar from the screen.
  void end() {
    if (drawn_) put("\r\x1b[K");
    drawn_ = false;
  }

 private:
  void draw(std::ptrdiff_t done, std::ptrdiff_t all) {
    constexpr std::ptrdiff_t width = 30;
    const auto filled = static_cast<std::size_t>(width * done / all);
    const auto percent = std::to_string(100 * done / all);
    std::string line = "[" + std::string(filled, '=') + std::string(width - filled, ' ') + "] ";
    line += std::string(3 - std::min<std::size_t>(3, percent.size()), ' ') + percent + " % " + task_;
    winsize size{};
    const std::size_t columns =
        ::ioctl(::fileno(stream_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80U;
    // a line that reached the last column would wrap, and could not be taken back
    if (line.size() > columns - 1) line.resize(columns - 1);
    put("\r" + line + "\x1b[K");
    drawn_ = true;
  }
  void put(std::string_view text) {
    static_cast<void>(std::fwrite(text.data(), 1, text.size(), stream_));
    static_cast<void>(std::fflush(stream_));
  }

  std::FILE* stream_;
  plain_output otherwise_;
  bool terminal_;
  bool drawn_ = false;
  std::string task_;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace examples
