// SPDX-License-Identifier: MIT
/// Tokens of chemical reactions written as SMILES.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

/// The tokens of a text: what this regular expression finds, one match after the other, other characters
/// left out.
///
///   \[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$|%[0-9]{2}|[0-9]
inline std::vector<std::string_view> smiles_tokens(std::string_view text) {
  constexpr std::string_view single = "BCNOSPFIbcnosp().=#-+\\/:~@?>*$0123456789";
  const auto digit = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  std::vector<std::string_view> tokens;
  std::size_t at = 0;
  while (at < text.size()) {
    const char c = text[at];
    const char next = at + 1 < text.size() ? text[at + 1] : '\0';
    std::size_t length = single.find(c) == std::string_view::npos ? 0 : 1;
    if (c == '[') {
      const std::size_t end = text.find(']', at + 1);
      if (end != std::string_view::npos && end > at + 1) length = end + 1 - at;
    } else if ((c == 'B' && next == 'r') || (c == 'C' && next == 'l') || (c == '>' && next == '>')) {
      length = 2;
    } else if (c == '%' && digit(at + 1) && digit(at + 2)) {
      length = 3;
    }
    if (length > 0) tokens.push_back(text.substr(at, length));
    at += length > 0 ? length : 1;
  }
  return tokens;
}

/// The numbers of tokens, and those with a part of their own.
struct smiles_vocabulary {
  static constexpr std::int32_t unknown = 11;
  static constexpr std::int32_t first = 12;  ///< [CLS], in front of each reaction
  static constexpr std::int32_t last = 13;   ///< [SEP], behind it
  static constexpr std::int32_t mask = 14;
  std::map<std::string, std::int32_t, std::less<>> numbers;

  /// [CLS], the tokens of a reaction, [SEP].
  [[nodiscard]] std::vector<std::int32_t> ids(std::string_view reaction) const {
    std::vector<std::int32_t> all{first};
    for (const std::string_view token : smiles_tokens(reaction)) {
      const auto found = numbers.find(token);
      all.push_back(found == numbers.end() ? unknown : found->second);
    }
    all.push_back(last);
    return all;
  }
};

}  // namespace examples
