// SPDX-License-Identifier: MIT
/// A small GPT-2 of characters: pre-norm, LayerNorm, causal. It has memorised the 4,096 characters it was
/// trained on.
#pragma once

#include <repquant/block/transformer.hpp>

#include "models/model_case.hpp"
#include "models/read_block.hpp"
#include "models/text_file.hpp"
#include "models/vary.hpp"
#include "models/windows.hpp"
#include <memory>

namespace examples {

/// embedding [tokens x 64] -> 4 blocks -> norm -> logits [tokens x 54].
struct gpt_model {
  repquant::matrix<> tokens;     ///< [54 x 64], looked up outside of the program; also the last weights
  repquant::matrix<> positions;  ///< [128 x 64], added outside
  std::vector<repquant::encoder_block> blocks;
  repquant::layer_norm norm;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    x = forward_all(blocks, t, x);
    return t.linear("head", {tokens, {}}, t.norm("ln_f", norm, x));
  }

  /// What the program reads, and the token that each row is to say: all ids but the last, and all but the
  /// first.
  ///
  /// Requires  at least two ids
  /// Errors    shape_mismatch: more tokens than positions; bad_format: an id beyond the vocabulary
  [[nodiscard]] repquant::result<model_sample> sample(std::span<const std::int32_t> ids) const {
    const auto length = static_cast<index>(ids.size()) - 1;
    if (length > positions.rows())
      return repquant::failure{repquant::errc::shape_mismatch, "gpt: tokens", length, positions.rows()};
    auto input = rows_of(tokens, ids.first(ids.size() - 1), "gpt: token");
    if (!input) return input.error();
    *input += positions.topRows(length);
    return model_sample{std::move(*input), {}, {ids.begin() + 1, ids.end()}};
  }
};

/// Errors  those of safetensors and weight_reader
inline repquant::result<gpt_model> load_gpt_char4k_weights(const std::string& path) {
  const auto file = repquant::safetensors::open(path);
  if (!file) return file.error();
  weight_reader r(*file);
  gpt_model m;
  m.tokens = r.matrix("tok_embed.weight", 54, 64);
  m.positions = r.matrix("pos_embed", 128, 64);
  m.blocks = read_blocks<repquant::encoder_block>(
      r, "blocks", 4, {.dim = 64, .hidden = 256, .heads = {.heads = 4, .causal = true}, .fused_qkv = true});
  m.norm = r.layer_norm("ln_f", 64, 1e-5F);
  if (repquant::failure f = r.finish()) return f;
  return m;
}

/// The ids of a text of single characters.
///
/// Errors  bad_format, got = the byte: a character that `vocabulary` (a JSON array of characters) lacks
inline repquant::result<std::vector<std::int32_t>> character_ids(std::string_view text,
                                                                 std::string_view vocabulary) {
  const nlohmann::json list = nlohmann::json::parse(vocabulary, nullptr, false);
  if (!list.is_array()) return repquant::failure{repquant::errc::bad_format, "vocab.json"};
  std::vector<std::int32_t> number(256, -1);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto* const s = list[i].get_ptr<const std::string*>();
    if (s == nullptr || s->size() != 1)
      return repquant::failure{repquant::errc::bad_format, "vocab.json: entry", static_cast<index>(i), 0};
    number[static_cast<unsigned char>((*s)[0])] = static_cast<std::int32_t>(i);
  }
  std::vector<std::int32_t> ids;
  for (const char c : text) {
    ids.push_back(number[static_cast<unsigned char>(c)]);
    if (ids.back() < 0)
      return repquant::failure{repquant::errc::bad_format, "character", static_cast<unsigned char>(c), 0};
  }
  return ids;
}

/// Windows of 128 characters from anywhere between calibration windows that follow each other, whose text is
/// `ids`.
inline sample_variation window_variations(const gpt_model& model, std::span<const std::int32_t> ids) {
  const auto shared = std::make_shared<const std::pair<gpt_model, std::vector<std::int32_t>>>(
      model, std::vector<std::int32_t>(ids.begin(), ids.end()));
  return [shared](std::span<const index> among, repquant::splitmix64& random) {
    const std::size_t start = window_start(random, among, 32);
    return shared->first.sample(std::span(shared->second).subspan(start, 129)).value();
  };
}

/// The model in `data_dir`/gpt_char4k: windows of 128 characters one after the other in the first 80 % of its
/// text to measure on (25), and every 32 characters in the rest to calibrate on (22).
inline repquant::result<model_case> load_gpt_char4k(const std::string& data_dir) {
  const std::string folder = data_dir + "/gpt_char4k";
  const auto weights = load_gpt_char4k_weights(folder + "/weights.safetensors");
  if (!weights) return weights.error();
  auto network = repquant::record(*weights, 64);
  if (!network) return network.error();
  const auto text = read_text(folder + "/corpus.txt");
  if (!text) return text.error();
  const auto vocabulary = read_text(folder + "/vocab.json");
  if (!vocabulary) return vocabulary.error();
  const auto ids = character_ids(*text, *vocabulary);
  if (!ids) return ids.error();
  const std::span<const std::int32_t> all(*ids);
  const std::size_t middle = all.size() / 5 * 4;
  model_case m;
  m.name = "gpt_char4k";
  m.network = std::move(*network);
  m.accuracy = "next_token_accuracy";
  for (const auto window : windows_of(all.first(middle), 129, 128, all.size())) {
    auto sample = weights->sample(window);
    if (!sample) return sample.error();
    m.evaluation.push_back(std::move(*sample));
  }
  for (const auto window : windows_of(all.subspan(middle), 129, 32, all.size())) {
    auto sample = weights->sample(window);
    if (!sample) return sample.error();
    m.calibration.push_back(std::move(*sample));
  }
  m.vary = window_variations(*weights, all.subspan(middle));
  return m;
}

}  // namespace examples
