// SPDX-License-Identifier: MIT
/// What turns text into the samples of a model: tokenizers, windows, the choice of masks.
#include "catch.hpp"
#include "models/albert.hpp"
#include "models/byte_pairs.hpp"
#include "models/clip.hpp"
#include "models/gpt_char4k.hpp"
#include "models/windows.hpp"

namespace rq = repquant;

namespace {

using ids = std::vector<std::int32_t>;

/// llama2.c's loop as it stands there: for each merge a look at all pairs.
ids merged_one_by_one(const std::vector<std::string>& strings, const std::vector<float>& scores, ids all) {
  while (true) {
    float best = -1e10F;
    std::size_t at = 0;
    std::int32_t merged = -1;
    for (std::size_t i = 0; i + 1 < all.size(); ++i) {
      const std::string both =
          strings[static_cast<std::size_t>(all[i])] + strings[static_cast<std::size_t>(all[i + 1])];
      const auto found = std::find(strings.begin(), strings.end(), both);
      if (found == strings.end()) continue;
      const auto id = static_cast<std::size_t>(found - strings.begin());
      if (scores[id] <= best) continue;
      best = scores[id];
      at = i;
      merged = static_cast<std::int32_t>(id);
    }
    if (merged < 0) return all;
    all[at] = merged;
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

TEST_CASE("SMILES are cut into atoms, bonds, rings and brackets", "[models]") {
  using tokens = std::vector<std::string_view>;
  CHECK(examples::smiles_tokens("CCl.BrB>>[Na+]c%12C1") ==
        tokens{"C", "Cl", ".", "Br", "B", ">>", "[Na+]", "c", "%12", "C", "1"});
  CHECK(examples::smiles_tokens("C>N") == tokens{"C", ">", "N"});
  CHECK(examples::smiles_tokens("[[H]]") == tokens{"[[H]"});    // up to the first bracket
  CHECK(examples::smiles_tokens("[]C[O") == tokens{"C", "O"});  // what matches nothing is left out
  CHECK(examples::smiles_tokens("%1 x%\xFF") == tokens{"1"});
  CHECK(examples::smiles_tokens("").empty());
}

TEST_CASE("reactions that are not among others get masks", "[models]") {
  examples::smiles_vocabulary v;
  for (const char* token : {"C", "N", "O", ">>"})
    v.numbers.emplace(token, 20 + static_cast<std::int32_t>(v.numbers.size()));
  CHECK(v.ids("CO>>F") == ids{12, 20, 22, 23, 11, 13});
  const std::vector<examples::masked_reaction> others{{v.ids("CC>>CO"), {}}};
  const std::string long_one(98, 'C');
  const auto spare = examples::spare_reactions("CC>>CO\nCN>>CO\n" + long_one + ">>\n", v, others);
  REQUIRE(spare.size() == 2);
  CHECK(spare[0].ids == v.ids("CN>>CO"));
  CHECK(spare[0].masked.size() == 1);   // 15 % of five
  CHECK(spare[1].masked.size() == 15);  // 15 % of 99
  const auto again = examples::spare_reactions("CC>>CO\nCN>>CO\n" + long_one + ">>\n", v, others);
  CHECK(again[1].masked == spare[1].masked);
}

TEST_CASE("splitmix64 gives the published numbers, and chooses without repetition", "[models]") {
  examples::splitmix64 random{1234567};
  CHECK(random() == 6457827717110365317U);
  CHECK(random() == 3203168211198807973U);
  CHECK(random() == 9817491932198370423U);
  std::vector<int> seen(12);
  for (int round = 0; round < 200; ++round) {
    const std::vector<rq::index> chosen = examples::choose(random, 2, 12, 4);
    REQUIRE(chosen.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      ++seen.at(static_cast<std::size_t>(chosen[i]));
      if (i > 0) REQUIRE(chosen[i - 1] < chosen[i]);
    }
  }
  CHECK((seen[0] == 0 && seen[1] == 0));
  for (std::size_t i = 2; i < 12; ++i) CHECK((seen[i] > 50 && seen[i] < 110));  // 80 expected
}

TEST_CASE("pairs are merged as one look after the other would", "[models]") {
  // bytes 0 to 255 at 3, then a space, letters and their runs, several with equal scores
  std::vector<std::string> strings{"<unk>", "<s>", "</s>"};
  for (int i = 0; i < 256; ++i) strings.push_back("<" + std::to_string(i) + ">");
  for (const char* s : {" ", "a", "b", "c", "\xC3\xA9", "aa", "ab", "ba", "aab", "abab", " a", "aaa", "ca",
                        "bb", "cab", "aaaa",
                        "\xC3\xA9"
                        "a"}) {
    strings.push_back(s);
  }
  examples::splitmix64 random;
  for (int round = 0; round < 300; ++round) {
    std::vector<float> scores(strings.size());
    for (float& s : scores) s = -static_cast<float>(random() % 6);
    const examples::byte_pairs tokenizer(strings, scores);
    std::string text;
    ids unmerged{259};
    const std::uint64_t length = 1 + random() % 40;
    for (std::uint64_t i = 0; i < length; ++i) {
      const std::uint64_t letter = random() % 6;
      if (letter < 3) {
        text += static_cast<char>('a' + letter);
        unmerged.push_back(static_cast<std::int32_t>(260 + letter));
      } else if (letter == 3) {
        text += ' ';
        unmerged.push_back(259);
      } else if (letter == 4) {
        text += "\xC3\xA9";
        unmerged.push_back(263);
      } else {
        text += "\xE2\x82\xAC";  // not in the vocabulary: three bytes
        for (const int byte : {0xE2, 0x82, 0xAC}) unmerged.push_back(byte + 3);
      }
    }
    CAPTURE(round, text);
    REQUIRE(tokenizer.ids(text) == merged_one_by_one(strings, scores, unmerged));
  }
  const examples::byte_pairs tokenizer(strings, std::vector<float>(strings.size()));
  CHECK(tokenizer.ids("").empty());
}

TEST_CASE("windows start a stride apart and are full", "[models]") {
  const ids text{0, 1, 2, 3, 4, 5, 6};
  const auto windows = examples::windows_of(text, 3, 2, 10);
  REQUIRE(windows.size() == 3);
  CHECK(windows[2].front() == 4);
  CHECK(windows[2].size() == 3);
  CHECK(examples::windows_of(text, 3, 2, 2).size() == 2);
  CHECK(examples::windows_of(text, 8, 1, 9).empty());
}

TEST_CASE("characters that a vocabulary lacks are refused", "[models]") {
  CHECK(examples::character_ids("ba\n", R"(["\n", "a", "b"])").value() == ids{2, 1, 0});
  const auto c = examples::character_ids("bac", R"(["\n", "a", "b"])");
  REQUIRE_FALSE(c);
  CHECK(c.error().got == 'c');
  CHECK_FALSE(examples::character_ids("a", R"(["ab"])"));
  CHECK_FALSE(examples::character_ids("a", R"({"a": 1})"));
}

TEST_CASE("a caption is embedded with its last byte first", "[models]") {
  examples::clip_text_tower tower;
  tower.tokens = rq::matrix<>::Zero(256, 1);
  for (rq::index i = 0; i < 256; ++i) tower.tokens(i, 0) = static_cast<float>(i);
  tower.positions = rq::matrix<>::Zero(128, 1);
  for (rq::index i = 0; i < 128; ++i) tower.positions(i, 0) = 1000 * static_cast<float>(i);
  const rq::matrix<> x = tower.embed("ab").value();
  REQUIRE(x.rows() == 32);
  CHECK(x(0, 0) == 3003);
  CHECK(x(1, 0) == 1000 + 'a');
  CHECK(x(2, 0) == 2000 + 'b');
  CHECK(x(3, 0) == 2);
  CHECK(x(31, 0) == 31000);
  CHECK(tower.embed(std::string(30, 'x')).value()(0, 0) == 31003);
  CHECK(tower.embed(std::string(31, 'x')).error().code == rq::errc::too_large);
}
