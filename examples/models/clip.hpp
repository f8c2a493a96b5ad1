// SPDX-License-Identifier: MIT
/// MIRA, a small CLIP of fashion products: an image tower and a text tower.
///
/// Length: two towers, the files and the variations of captions.
#pragma once

#include <repquant/block/concept.hpp>

#include "models/model_case.hpp"
#include "models/read_block.hpp"
#include "models/text_file.hpp"
#include "models/vary.hpp"
#include "support/data_directory.hpp"
#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

namespace examples {

/// x + fc2(gelu(fc1(norm2(out(attention(norm1(x))))))): one residual around the whole.
struct mira_block {
  repquant::any_norm norm1;
  repquant::linear q;
  repquant::linear k;
  repquant::linear v;
  repquant::linear out;
  repquant::any_norm norm2;
  repquant::linear fc1;
  repquant::linear fc2;
  repquant::attention_options heads;
  repquant::activation function = repquant::activation::gelu_erf;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    const repquant::value n = t.norm("ln1", norm1, x);
    const repquant::value qkv[] = {t.linear("attn.q", q, n), t.linear("attn.k", k, n),
                                   t.linear("attn.v", v, n)};
    const repquant::value a = t.attention("attn", heads, qkv[0], qkv[1], qkv[2]);
    const repquant::value m = t.norm("ln2", norm2, t.linear("attn.out", out, a));
    return t.add(x, t.linear("fc2", fc2, t.activate(function, t.linear("fc1", fc1, m))));
  }
};

/// patches [256 x 75] -> embedding -> class token and positions -> 8 blocks -> class token -> [1 x 128].
struct clip_image_tower {
  repquant::linear patch_embed;
  repquant::column<> class_token;
  repquant::matrix<> positions;
  std::vector<mira_block> blocks;
  repquant::linear projection;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    const repquant::matrix<> token = class_token.transpose();
    x = t.prepend_row("cls_token", token, t.linear("patch_embed", patch_embed, x));
    x = forward_all(blocks, t, t.add_rows("positions", positions, x));
    return t.linear("proj", projection, t.select_row(0, x));
  }
};

/// embedding [32 x 64], the row of the last byte of the caption first -> 8 blocks -> that row -> [1 x 128].
struct clip_text_tower {
  repquant::matrix<> tokens;     ///< [256 x 64], looked up outside of the program
  repquant::matrix<> positions;  ///< [128 x 64], added outside
  std::vector<mira_block> blocks;
  repquant::linear projection;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    x = forward_all(blocks, t, x);
    return t.linear("proj", projection, t.select_row(0, x));
  }

  /// The bytes 2, the caption, 3, and zeros to 32, embedded. No mask is used, and positions are added here,
  /// so the order of the rows means nothing to the program: the row of the 3, which the tower ends with,
  /// changes places with the first.
  ///
  /// Errors  too_large: a caption of more than 30 bytes
  [[nodiscard]] repquant::result<repquant::matrix<>> embed(std::string_view caption) const {
    constexpr index length = 32;
    const auto end = static_cast<index>(caption.size()) + 1;
    if (end >= length)
      return repquant::failure{repquant::errc::too_large, "caption: bytes", end - 1, length - 2};
    repquant::matrix<> x = positions.topRows(length);
    for (index t = 0; t < length; ++t) {
      const auto byte = t == 0    ? index{2}
                        : t < end ? static_cast<unsigned char>(caption[static_cast<std::size_t>(t - 1)])
                                  : index{t == end ? 3 : 0};
      x.row(t) += tokens.row(byte);
    }
    x.row(0).swap(x.row(end));
    return x;
  }
};

/// Both towers.
struct clip_weights {
  clip_image_tower image;
  clip_text_tower text;
  float scale = 1;  ///< of the cosine similarity of two embeddings
};

/// Errors  those of safetensors and weight_reader
inline repquant::result<clip_weights> load_clip_weights(const std::string& path) {
  const auto file = repquant::safetensors::open(path);
  if (!file) return file.error();
  weight_reader r(*file);
  clip_weights w;
  w.image.patch_embed = r.linear("vision.patch_embed", 32, 75);
  w.image.class_token = r.column("vision.cls_token", 32);
  w.image.positions = r.matrix("vision.pos_embed", 257, 32);
  w.image.blocks =
      read_blocks<mira_block>(r, "vision.blocks", 8, {.dim = 32, .hidden = 128, .heads = {.heads = 4}});
  w.image.projection.weight = r.matrix("vision.proj", 32, 128).transpose();
  w.text.tokens = r.matrix("text.tok_embed.weight", 256, 64);
  w.text.positions = r.matrix("text.pos_embed", 128, 64);
  w.text.blocks =
      read_blocks<mira_block>(r, "text.blocks", 8, {.dim = 64, .hidden = 256, .heads = {.heads = 8}});
  w.text.projection.weight = r.matrix("text.proj", 64, 128).transpose();
  const repquant::column<> scale = r.column("logit_scale_log", 1);
  if (repquant::failure f = r.finish()) return f;
  w.scale = std::exp(scale(0));
  return w;
}

/// Where this project lists captions to calibrate on, mixed so that the first few are of all kinds.
inline const std::string clip_captions = data_directory() + "/../models/clip_captions.txt";

/// A caption, in one case of two with a word of it exchanged for one of another caption, or followed by one,
/// and in one of two with one character changed, doubled or left out; none of the captions `never`.
inline sample_variation caption_variations(const clip_text_tower& model, std::vector<std::string> captions,
                                           std::set<std::string> never) {
  struct known {
    clip_text_tower model;
    std::vector<std::string> captions;
    std::set<std::string> never;
  };
  const auto shared = std::make_shared<const known>(known{model, std::move(captions), std::move(never)});
  return [shared](std::span<const index> among, repquant::splitmix64& random) {
    const auto some_caption = [&]() -> const std::string& {
      return shared->captions[static_cast<std::size_t>(any(random, among))];
    };
    const auto draw = [&] {
      std::string caption = some_caption();
      if (chance(random, 0.5F)) {
        const std::string& other = some_caption();
        const std::vector<std::string_view> theirs = split(other, ' ');
        std::vector<std::string_view> words = split(caption, ' ');
        const std::string_view word = any(random, std::span(theirs));
        if (chance(random, 0.5F)) {
          words[static_cast<std::size_t>(random.below(static_cast<index>(words.size())))] = word;
        } else {
          words.push_back(word);
        }
        std::string joined;
        for (const std::string_view w : words) joined += (joined.empty() ? "" : " ") + std::string(w);
        caption = joined;
      }
      if (chance(random, 0.5F)) {
        const auto at = static_cast<std::size_t>(random.below(static_cast<index>(caption.size())));
        const index kind = random.below(3);
        if (kind == 0) caption[at] = static_cast<char>('a' + random.below(26));
        if (kind == 1) caption.insert(at, 1, caption[at]);
        if (kind == 2 && caption.size() > 1) caption.erase(at, 1);
      }
      caption.resize(std::min<std::size_t>(caption.size(), 30));
      return caption;
    };
    std::string caption = draw();
    while (shared->never.contains(caption)) caption = draw();
    model_sample s;
    s.input = shared->model.embed(caption).value();
    return s;
  };
}

/// The text tower of the model in `data_dir`/clip_tiny_multimodal: measured on the 45 captions of its data,
/// calibrated on the captions in the file `captions`.
///
/// Errors  those of the functions above; io
inline repquant::result<model_case> load_clip(const std::string& data_dir,
                                              const std::string& captions = clip_captions) {
  const std::string folder = data_dir + "/clip_tiny_multimodal";
  const auto weights = load_clip_weights(folder + "/weights.safetensors");
  if (!weights) return weights.error();
  auto network = repquant::record(weights->text, 64);
  if (!network) return network.error();
  const auto read = [&](const std::string& path, std::vector<model_sample>& samples) -> repquant::failure {
    const auto text = read_text(path);
    if (!text) return text.error();
    for (const std::string_view caption : split(*text, '\n')) {
      auto input = weights->text.embed(caption);
      if (!input) return input.error();
      samples.push_back({std::move(*input), {}, {}});
    }
    return {};
  };
  model_case m;
  m.name = "clip_tiny_multimodal";
  m.network = std::move(*network);
  m.output = output_kind::embedding;
  m.similarity_scale = weights->scale;
  if (repquant::failure f = read(captions, m.calibration)) return f;
  if (repquant::failure f = read(folder + "/captions.txt", m.evaluation)) return f;
  const std::string calibrated = read_text(captions).value();
  const std::string measured = read_text(folder + "/captions.txt").value();
  const auto lines = split(calibrated, '\n');
  const auto others = split(measured, '\n');
  m.vary = caption_variations(weights->text, {lines.begin(), lines.end()}, {others.begin(), others.end()});
  return m;
}

}  // namespace examples
