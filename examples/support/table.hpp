// SPDX-License-Identifier: MIT
/// Aligned tables for a terminal, and the numbers that stand in them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples {

/// A number with a fixed count of digits after the point, 0 to 17; "-" for NaN, which stands for "not
/// measured".
inline std::string fixed(double value, int digits) {
  if (std::isnan(value)) return "-";
  char text[352];  // the largest double has 309 digits before the point
  const int n = std::snprintf(text, sizeof text, "%.*f", std::clamp(digits, 0, 17), value);
  return {text, static_cast<std::size_t>(n)};
}
/// A number with a given count of significant digits, 1 to 17; "-" for NaN.
inline std::string significant(double value, int digits) {
  if (std::isnan(value)) return "-";
  char text[32];
  const int n = std::snprintf(text, sizeof text, "%.*g", std::clamp(digits, 1, 17), value);
  return {text, static_cast<std::size_t>(n)};
}
/// A whole number with a comma between thousands.
inline std::string thousands(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

/// Which side of its column a text stands on.
enum class align : std::uint8_t { left, right };

/// A table of texts: a title per column, a rule below the titles, rules between groups of rows.
///
/// Example   examples::table t({{"recipe", examples::align::left}, {"top-1"}});
///           t.row({"float", examples::fixed(88.65, 2)});
///           t.rule();
///           t.print(stdout);
class table {
 public:
  struct heading {
    std::string title;
    align side = align::right;
  };

  explicit table(std::vector<heading> columns) : columns_(std::move(columns)) {}

  /// A row; texts that are missing are empty, and texts beyond the last column are left out.
  void row(std::vector<std::string> texts) {
    texts.resize(columns_.size());
    rows_.push_back(std::move(texts));
  }
  /// A rule between the rows before and the rows after; none at the end or twice.
  void rule() {
    if (!rows_.empty() && !rows_.back().empty()) rows_.emplace_back();
  }

  /// The table, every line ended by a newline and without blanks before it.
  [[nodiscard]] std::string text() const {
    std::vector<std::size_t> widths;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      std::size_t w = width(columns_[c].title);
      for (const auto& r : rows_) w = std::max(w, r.empty() ? 0 : width(r[c]));
      widths.push_back(w);
    }
    std::vector<std::string> titles;
    for (const heading& c : columns_) titles.push_back(c.title);
    std::string out = line(titles, widths) + rule_of(widths);
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      if (!rows_[r].empty()) {
        out += line(rows_[r], widths);
      } else if (r + 1 < rows_.size()) {
        out += rule_of(widths);
      }
    }
    return out;
  }
  void print(std::FILE* to) const {
    static_cast<void>(std::fputs(text().c_str(), to));
    static_cast<void>(std::fflush(to));
  }

  /// Places on the screen: code points, as UTF-8's continuation bytes take none.
  static std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
  }

 private:
  [[nodiscard]] std::string line(const std::vector<std::string>& texts,
                                 const std::vector<std::size_t>& widths) const {
    std::string out;
    for (std::size_t c = 0; c < texts.size(); ++c) {
      const std::string blanks(widths[c] - width(texts[c]), ' ');
      if (c > 0) out += "  ";
      out += columns_[c].side == align::left ? texts[c] + blanks : blanks + texts[c];
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  }
  static std::string rule_of(const std::vector<std::size_t>& widths) {
    std::string out;
    for (const std::size_t w : widths) out += (out.empty() ? "" : "  ") + std::string(w, '-');
    return out + "\n";
  }

  std::vector<heading> columns_;
  std::vector<std::vector<std::string>> rows_;  // an empty one is a rule
};

}  // namespace examples
