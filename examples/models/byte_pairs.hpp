// SPDX-License-Identifier: MIT
/// llama2.c's tokenizer: characters, merged pair by pair in the order of their scores.
#pragma once

#include <repquant/core/shape.hpp>
#include <repquant/io/file.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

/// A vocabulary of strings with scores. Ids 3 to 258 are the bytes 0 to 255.
class byte_pairs {
 public:
  static constexpr std::int32_t beginning = 1;

  /// `strings[i]` and `scores[i]` belong to id i. Of equal strings the first is found.
  byte_pairs(std::vector<std::string> strings, std::vector<float> scores)
      : strings_(std::move(strings)), scores_(std::move(scores)) {
    for (std::size_t i = 0; i < strings_.size(); ++i) ids_.emplace(strings_[i], static_cast<std::int32_t>(i));
  }

  /// A vocabulary of `size` strings from a file: int32 longest length, then of each float score, int32
  /// length, its characters.
  ///
  /// Errors  io; bad_format: too few bytes, or too many
  static repquant::result<byte_pairs> read(const std::string& path, std::size_t size) {
    const auto bytes = repquant::read_file(path);
    if (!bytes) return bytes.error();
    const auto wrong = [&](std::size_t at) {
      return repquant::failure{repquant::errc::bad_format, repquant::detail::file_name(path, 40) + ": byte",
                               static_cast<repquant::index>(at), static_cast<repquant::index>(bytes->size())};
    };
    std::vector<std::string> strings;
    std::vector<float> scores;
    std::size_t at = 4;
    for (std::size_t i = 0; i < size; ++i) {
      float score = 0;
      std::int32_t length = 0;
      if (at + 8 > bytes->size()) return wrong(at);
      std::memcpy(&score, bytes->data() + at, 4);
      std::memcpy(&length, bytes->data() + at + 4, 4);
      at += 8;
      if (length < 0 || static_cast<std::size_t>(length) > bytes->size() - at) return wrong(at);
      strings.emplace_back(reinterpret_cast<const char*>(bytes->data()) + at,
                           static_cast<std::size_t>(length));
      scores.push_back(score);
      at += static_cast<std::size_t>(length);
    }
    if (at != bytes->size()) return wrong(at);
    return byte_pairs(std::move(strings), std::move(scores));
  }

  /// The ids of a text: the id of " ", one id per code point (where the vocabulary has none, one per byte),
  /// and then, until there is none, the two neighbours whose strings together have the highest score become
  /// one, the leftmost of equal ones. Exactly what llama2.c's loop gives, which looks through all pairs for
  /// each merge; here they wait in a queue.
  ///
  /// Cost  n log n for n bytes
  [[nodiscard]] std::vector<std::int32_t> ids(std::string_view text) const {
    std::vector<std::int32_t> all;
    if (text.empty()) return all;
    if (const std::int32_t space = find(" "); space >= 0) all.push_back(space);
    const auto continues = [&](std::size_t i) {
      return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U;
    };
    for (std::size_t at = 0; at < text.size();) {
      std::size_t length = 1;
      while (length < 4 && continues(at + length)) ++length;
      if (const std::int32_t id = find(text.substr(at, length)); id >= 0) {
        all.push_back(id);
      } else {
        for (std::size_t i = at; i < at + length; ++i) all.push_back(static_cast<unsigned char>(text[i]) + 3);
      }
      at += length;
    }
    return merge(std::move(all));
  }

  /// The text of ids: without the beginning and the end, and without the space that ids() puts in front.
  [[nodiscard]] std::string text(std::span<const std::int32_t> tokens) const {
    std::string all;
    for (const std::int32_t id : tokens) {
      if (id <= 2 || static_cast<std::size_t>(id) >= strings_.size()) continue;
      if (id < 259) {
        all += static_cast<char>(id - 3);  // a byte
      } else {
        all += strings_[static_cast<std::size_t>(id)];
      }
    }
    return all.starts_with(' ') ? all.substr(1) : all;
  }

 private:
  [[nodiscard]] std::int32_t find(std::string_view s) const {
    const auto found = ids_.find(s);
    return found == ids_.end() ? -1 : found->second;
  }

  /// Two neighbours and what they would become.
  struct pair {
    float score;
    std::size_t left;
    std::size_t right;
    std::int32_t left_id;
    std::int32_t right_id;
    std::int32_t merged;
    bool operator<(const pair& other) const noexcept {  // the queue's top is the largest
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  [[nodiscard]] std::vector<std::int32_t> merge(std::vector<std::int32_t> all) const {
    constexpr auto none = static_cast<std::size_t>(-1);
    const std::size_t n = all.size();
    std::vector<std::size_t> before(n);
    std::vector<std::size_t> after(n);
    for (std::size_t i = 0; i < n; ++i) {
      before[i] = i == 0 ? none : i - 1;
      after[i] = i + 1 == n ? none : i + 1;
    }
    std::priority_queue<pair> waiting;
    const auto consider = [&](std::size_t left, std::size_t right) {
      if (left == none || right == none) return;
      const std::string& a = strings_[static_cast<std::size_t>(all[left])];
      const std::string& b = strings_[static_cast<std::size_t>(all[right])];
      const std::int32_t id = find(a + b);
      if (id >= 0)
        waiting.push({scores_[static_cast<std::size_t>(id)], left, right, all[left], all[right], id});
    };
    for (std::size_t i = 0; i + 1 < n; ++i) consider(i, i + 1);
    while (!waiting.empty()) {
      const pair p = waiting.top();
      waiting.pop();
      // one of the two was merged since, or has another neighbour
      if (all[p.left] != p.left_id || after[p.left] != p.right || all[p.right] != p.right_id) continue;
      all[p.left] = p.merged;
      all[p.right] = -1;
      after[p.left] = after[p.right];
      if (after[p.left] != none) before[after[p.left]] = p.left;
      consider(before[p.left], p.left);
      consider(p.left, after[p.left]);
    }
    all.erase(std::remove(all.begin(), all.end(), -1), all.end());
    return all;
  }

  std::vector<std::string> strings_;
  std::vector<float> scores_;
  std::map<std::string, std::int32_t, std::less<>> ids_;
};

}  // namespace examples
