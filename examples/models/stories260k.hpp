// SPDX-License-Identifier: MIT
/// stories260K, a small LLaMA: RMS norms, rotary positions, grouped queries, gated MLPs, no biases.
#pragma once

#include <repquant/block/gated.hpp>

#include "models/byte_pairs.hpp"
#include "models/model_case.hpp"
#include "models/read_block.hpp"
#include "models/text_file.hpp"
#include "models/vary.hpp"
#include "models/windows.hpp"
#include <memory>

namespace examples {

/// embedding [tokens x 64] -> 5 blocks -> norm -> logits [tokens x 512].
struct stories_model {
  repquant::matrix<> tokens;  ///< [512 x 64], looked up outside of the program; also the last weights
  std::vector<repquant::gated_decoder_block> blocks;
  repquant::rms_norm norm;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    x = forward_all(blocks, t, x);
    return t.linear("head", {tokens, {}}, t.norm("norm", norm, x));
  }
};

/// The weights of a llama2.c file, version 0: seven int32 (dim, hidden, layers, heads, key/value heads,
/// vocabulary, positions), then the tensors one after the other, each for all layers.
///
/// Errors  io; bad_format: other sizes than stories260K's, or other than the file has bytes for; non_finite
inline repquant::result<stories_model> load_stories260k_weights(const std::string& path) {
  const auto bytes = repquant::read_file(path);
  if (!bytes) return bytes.error();
  const std::string place = repquant::detail::file_name(path, 40);
  constexpr std::int32_t sizes[7] = {64, 172, 5, 8, 4, 512, 512};
  constexpr std::size_t count = 264128;
  if (bytes->size() != sizeof sizes + 4 * count) {
    return repquant::failure{repquant::errc::bad_format, place + ": bytes", static_cast<index>(bytes->size()),
                             sizeof sizes + 4 * count};
  }
  if (std::memcmp(bytes->data(), sizes, sizeof sizes) != 0)
    return repquant::failure{repquant::errc::bad_format, place + ": sizes"};
  std::vector<float> numbers(count);
  std::memcpy(numbers.data(), bytes->data() + sizeof sizes, 4 * count);
  if (repquant::failure f = repquant::check_finite({numbers.data(), 1, count}, place)) return f;

  const float* at = numbers.data();
  const auto next = [&](index rows, index cols) -> repquant::matrix<> {
    const repquant::matrix_view v(at, rows, cols);
    at += rows * cols;
    return v.eigen();
  };
  constexpr index dim = 64, hidden = 172, layers = 5, keys = 32, positions = 512, half = 4;
  stories_model m;
  m.tokens = next(512, dim);
  m.blocks.resize(layers);
  for (auto& b : m.blocks) b.norm1 = repquant::rms_norm{next(dim, 1), 1e-5F};
  for (auto& b : m.blocks) b.q.weight = next(dim, dim);
  for (auto& b : m.blocks) b.k.weight = next(keys, dim);
  for (auto& b : m.blocks) b.v.weight = next(keys, dim);
  for (auto& b : m.blocks) b.out.weight = next(dim, dim);
  for (auto& b : m.blocks) b.norm2 = repquant::rms_norm{next(dim, 1), 1e-5F};
  for (auto& b : m.blocks) b.gate.weight = next(hidden, dim);
  for (auto& b : m.blocks) b.down.weight = next(dim, hidden);
  for (auto& b : m.blocks) b.up.weight = next(hidden, dim);
  m.norm = {next(dim, 1), 1e-5F};
  const repquant::matrix<> cosines = next(positions, half);
  const repquant::matrix<> sines = next(positions, half);
  for (auto& b : m.blocks) {
    b.heads = {.heads = 8, .kv_heads = 4, .causal = true};
    b.positions = {cosines, sines};
  }
  return m;
}

/// A token for the beginning and the first 510 tokens of a window of 511 as the program reads them; each row
/// is to say the next token, the last one the 511th.
inline repquant::result<model_sample> next_token_sample(const stories_model& m,
                                                        std::span<const std::int32_t> window) {
  std::vector<std::int32_t> ids{byte_pairs::beginning};
  ids.insert(ids.end(), window.begin(), window.end() - 1);
  auto input = rows_of(m.tokens, ids, "stories260k: token");
  if (!input) return input.error();
  return model_sample{std::move(*input), {}, {window.begin(), window.end()}};
}

/// Windows of 511 tokens from anywhere in the text that the first calibration windows are cut from.
inline sample_variation window_variations(const stories_model& model, std::vector<std::int32_t> ids) {
  const auto shared = std::make_shared<const std::pair<repquant::matrix<>, std::vector<std::int32_t>>>(
      model.tokens, std::move(ids));
  return [shared](std::span<const index> among, repquant::splitmix64& random) {
    const auto& [tokens, all] = *shared;
    const std::size_t start = window_start(random, among, 511);
    model_sample s;
    s.input.resize(511, tokens.cols());
    s.input.row(0) = tokens.row(byte_pairs::beginning);
    for (index i = 1; i < 511; ++i) s.input.row(i) = tokens.row(all[start + static_cast<std::size_t>(i) - 1]);
    return s;
  };
}

/// The model in `data_dir`/stories260k. The text is cut at the last end of a paragraph in its first 80 %,
/// each part is tokenised whole and cut into windows of 511 tokens one after the other: the first 64 of the
/// first part to measure on, the first 64 of the second part to calibrate on.
///
/// Errors  those of the functions above; empty: a text without two parts of 511 tokens
inline repquant::result<model_case> load_stories260k(const std::string& data_dir) {
  const std::string folder = data_dir + "/stories260k";
  const auto weights = load_stories260k_weights(folder + "/stories260K.bin");
  if (!weights) return weights.error();
  auto network = repquant::record(*weights, 64);
  if (!network) return network.error();
  const auto vocabulary = byte_pairs::read(folder + "/tok512.bin", 512);
  if (!vocabulary) return vocabulary.error();
  const auto text = read_text(folder + "/tinystories_val_dev.txt");
  if (!text) return text.error();
  const std::size_t end = text->rfind("\n\n", text->size() / 5 * 4);
  model_case m;
  m.name = "stories260k";
  m.network = std::move(*network);
  m.accuracy = "next_token_accuracy";
  const auto cut = [&](std::string_view part, std::vector<model_sample>& samples) -> repquant::failure {
    const std::vector<std::int32_t> ids = vocabulary->ids(part);
    for (const auto window : windows_of(ids, 511, 511, 64)) {
      auto sample = next_token_sample(*weights, window);
      if (!sample) return sample.error();
      samples.push_back(std::move(*sample));
    }
    const bool none = samples.empty();
    return none ? repquant::failure{repquant::errc::empty, "tinystories_val_dev.txt: windows", 0, 1}
                : repquant::failure{};
  };
  const std::size_t middle = end == std::string::npos ? 0 : end + 2;
  if (repquant::failure f = cut(std::string_view(*text).substr(0, middle), m.evaluation)) return f;
  if (repquant::failure f = cut(std::string_view(*text).substr(middle), m.calibration)) return f;
  m.vary = window_variations(*weights, vocabulary->ids(std::string_view(*text).substr(middle)));
  return m;
}

}  // namespace examples
