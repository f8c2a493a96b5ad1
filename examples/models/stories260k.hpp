// SPDX-License-Identifier: MIT
/// stories260K on TinyStories.
#pragma once

#include "models/byte_pairs.hpp"
#include "models/model_case.hpp"
#include "models/stories_model.hpp"
#include "models/text_file.hpp"
#include "models/vary.hpp"
#include "models/windows.hpp"
#include "support/float_decoder.hpp"
#include <memory>

namespace examples {

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

/// Windows of 511 tokens that the network itself writes, after the first 1 to 64 of a window from anywhere in
/// the text that the calibration windows are cut from: a text of some thousand tokens is soon learnt by
/// heart, and what the network writes has no end and is like what it was trained on.
inline sample_variation window_variations(const stories_model& model, std::vector<std::int32_t> ids) {
  const auto shared =
      std::make_shared<const std::pair<stories_model, std::vector<std::int32_t>>>(model, std::move(ids));
  return [shared](std::span<const index> among, repquant::splitmix64& random) {
    const auto& [network, text] = *shared;
    constexpr index length = 511;
    const std::size_t start = window_start(random, among, length);
    const index given = between(random, index{1}, index{64});
    float_decoder decoder(network, length);
    model_sample s;
    s.input.resize(length, network.tokens.cols());
    s.input.row(0) = network.tokens.row(byte_pairs::beginning);
    std::int32_t token = byte_pairs::beginning;
    for (index i = 1; i < length; ++i) {
      const repquant::matrix<>& logits = decoder.step(token);
      token = i <= given ? text[start + static_cast<std::size_t>(i) - 1] : drawn_token(logits, random);
      s.input.row(i) = network.tokens.row(token);
    }
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
