// SPDX-License-Identifier: MIT
/// A command line of `--name value` and `--name=value` options that write to variables.
#pragma once

#include "support/fail.hpp"
#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples {

/// The options of a program.
///
/// Example   std::string data = "..."; int threads = 1; bool quick = false;
///           examples::options o("quantize_vit", "Quantizes a vision transformer.");
///           o.add("data", "DIR", "where the images are", data);
///           o.add("threads", "N", "threads to use", threads, 1, 256);
///           o.flag("quick", "fewer images", quick);
///           if (const auto code = o.parse(argc, argv)) return *code;
class options {
 public:
  options(std::string program, std::string purpose)
      : program_(std::move(program)), purpose_(std::move(purpose)) {}

  /// Text.
  void add(std::string name, std::string value, const std::string& help, std::string& target) {
    const std::string standard = target.empty() ? "" : " [" + target + "]";
    add_option(std::move(name), std::move(value), help + standard, [&target](std::string_view text) {
      target = text;
      return text.empty() ? std::string("a text") : std::string();
    });
  }
  /// A whole number from `least` to `most`.
  void add(std::string name, std::string value, const std::string& help, int& target, int least, int most) {
    add_option(std::move(name), std::move(value), help + " [" + std::to_string(target) + "]",
               [&target, least, most](std::string_view text) {
                 return read_number(text, least, most, target) ? std::string() : expected(least, most);
               });
  }
  /// Whole numbers with commas between them.
  void add(std::string name, std::string value, const std::string& help, std::vector<int>& target, int least,
           int most) {
    std::string standard;
    for (const int n : target) standard += (standard.empty() ? "" : ",") + std::to_string(n);
    add_option(std::move(name), std::move(value), help + " [" + standard + "]",
               [&target, least, most](std::string_view text) {
                 std::vector<int> numbers;
                 for (const std::string_view part : parts(text)) {
                   int n = 0;
                   if (!read_number(part, least, most, n))
                     return expected(least, most) + ", or several with commas";
                   numbers.push_back(n);
                 }
                 target = std::move(numbers);
                 return std::string();
               });
  }
  /// Some of the given words, with commas between them.
  void add(std::string name, std::string value, const std::string& help, std::vector<std::string>& target,
           std::vector<std::string> words) {
    std::string all;
    for (const std::string& w : words) all += (all.empty() ? "" : ", ") + w;
    std::string standard;
    for (const std::string& w : target) standard += (standard.empty() ? "" : ",") + w;
    add_option(std::move(name), std::move(value), help + ": of " + all + " [" + standard + "]",
               [&target, words = std::move(words), all](std::string_view text) {
                 std::vector<std::string> chosen;
                 for (const std::string_view part : parts(text)) {
                   if (std::find(words.begin(), words.end(), part) == words.end()) return "of " + all;
                   chosen.emplace_back(part);
                 }
                 target = std::move(chosen);
                 return std::string();
               });
  }
  /// An option without a value.
  void flag(std::string name, std::string help, bool& target) {
    add_option(std::move(name), "", std::move(help), [&target](std::string_view /*none*/) {
      target = true;
      return std::string();
    });
  }

  /// What parse() came to: nothing to say and go on, or a text for stdout (code 0) or stderr (code 2).
  struct outcome {
    bool proceed = true;
    int code = 0;
    std::string text;
  };

  /// Reads the arguments after the program's name. The last of two equal options counts.
  [[nodiscard]] outcome read(const std::vector<std::string_view>& arguments) const {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const std::string_view argument = arguments[i];
      if (argument == "--help" || argument == "-h") return {false, 0, help()};
      const std::string shown(argument.substr(0, argument.find('=')));
      if (!argument.starts_with("--"))
        return wrong("argument \"" + std::string(argument) + "\" is not an option");
      const option* o = find(std::string_view(shown).substr(2));
      if (o == nullptr) return wrong("there is no option " + shown);
      const bool joined = shown.size() < argument.size();
      std::string_view value;
      if (o->value.empty()) {
        if (joined) return wrong(shown + " takes no value");
      } else if (joined) {
        value = argument.substr(shown.size() + 1);
      } else if (i + 1 < arguments.size()) {
        value = arguments[++i];
      } else {
        return wrong(shown + " needs a value, " + o->value);
      }
      if (const std::string want = o->take(value); !want.empty()) {
        return wrong(
            std::string(shown).append(" is \"").append(value).append("\", but must be ").append(want));
      }
    }
    return {};
  }

  /// read(), and prints. Nothing when the program is to go on, otherwise its exit code.
  [[nodiscard]] std::optional<int> parse(int argc, const char* const* argv) const {
    const outcome o = read(std::vector<std::string_view>(argv + (argc > 0 ? 1 : 0), argv + argc));
    if (o.proceed) return std::nullopt;
    if (o.code == 0) {
      static_cast<void>(std::fputs(o.text.c_str(), stdout));
      return 0;
    }
    return fail(program_, o.text);
  }

  /// The text of --help.
  [[nodiscard]] std::string help() const {
    std::string text = program_ + ": " + purpose_ + "\n\n";
    std::size_t width = std::string_view("--help").size();
    for (const option& o : options_) width = std::max(width, left(o).size());
    const auto line = [&](std::string name, const std::string& words) {
      name.resize(width + 2, ' ');
      text.append("  ").append(name).append(words).append("\n");
    };
    for (const option& o : options_) line(left(o), o.help);
    line("--help", "this text");
    return text;
  }

 private:
  struct option {
    std::string name;
    std::string value;
    std::string help;
    std::function<std::string(std::string_view)> take;  // what it wants, where the text is not that
  };

  void add_option(std::string name, std::string value, std::string help,
                  std::function<std::string(std::string_view)> take) {
    options_.push_back({std::move(name), std::move(value), std::move(help), std::move(take)});
  }
  [[nodiscard]] const option* find(std::string_view name) const {
    for (const option& o : options_) {
      if (o.name == name) return &o;
    }
    return nullptr;
  }
  static std::string left(const option& o) { return "--" + o.name + (o.value.empty() ? "" : " " + o.value); }
  static outcome wrong(const std::string& text) {
    return {false, bad_input, text + " (--help lists the options)"};
  }
  static bool read_number(std::string_view text, int least, int most, int& out) {
    int n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc() || end != text.data() + text.size() || n < least || n > most) return false;
    out = n;
    return true;
  }
  static std::string expected(int least, int most) {
    return "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
  }
  static std::vector<std::string_view> parts(std::string_view text) {
    std::vector<std::string_view> all;
    for (std::size_t begin = 0;;) {
      const std::size_t comma = text.find(',', begin);
      all.push_back(text.substr(begin, comma - begin));
      if (comma == std::string_view::npos) return all;
      begin = comma + 1;
    }
  }

  std::string program_;
  std::string purpose_;
  std::vector<option> options_;
};

}  // namespace examples
