// SPDX-License-Identifier: MIT
/// Arm's keyword transformer KWT-1: twelve post-norm blocks of one head, tanh-GELU, a class token.
#pragma once

#include <repquant/block/post_norm.hpp>

#include "models/model_case.hpp"
#include "models/read_block.hpp"
#include "models/vary.hpp"
#include <algorithm>
#include <memory>

namespace examples {

/// features [98 x 40] -> embedding -> class token and positions -> 12 blocks -> class token -> head.
struct kwt1_model {
  repquant::linear embed;
  repquant::column<> class_token;
  repquant::matrix<> positions;
  std::vector<repquant::post_norm_block> blocks;
  repquant::linear head;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    const repquant::matrix<> token = class_token.transpose();
    x = t.prepend_row("cls_token", token, t.linear("embed", embed, x));
    x = forward_all(blocks, t, t.add_rows("positions", positions, x));
    return t.linear("head", head, t.select_row(0, x));
  }
};

/// Errors  those of safetensors and weight_reader
inline repquant::result<kwt1_model> load_kwt1_weights(const std::string& path) {
  const auto file = repquant::safetensors::open(path);
  if (!file) return file.error();
  weight_reader r(*file);
  kwt1_model m;
  m.embed = r.linear("embed", 64, 40);
  m.class_token = r.column("cls_token", 64);
  m.positions = r.matrix("pos_embed", 99, 64);
  m.blocks = read_blocks<repquant::post_norm_block>(r, "blocks", 12,
                                                    {.dim = 64,
                                                     .hidden = 256,
                                                     .heads = {.heads = 1},
                                                     .eps = 1e-6F,
                                                     .qkv_bias = bias::no,
                                                     .function = repquant::activation::gelu_tanh});
  m.head = r.linear("head", 12, 64);
  if (repquant::failure f = r.finish()) return f;
  return m;
}

/// The clips of a file, each with its class.
///
/// Errors  those of safetensors; shape_mismatch: another count of labels, or clips of another size
inline repquant::result<std::vector<model_sample>> read_clips(const std::string& path) {
  const auto file = repquant::safetensors::open(path);
  if (!file) return file.error();
  const auto features = file->floats("features");
  if (!features) return features.error();
  const auto labels = file->ints("labels");
  if (!labels) return labels.error();
  const auto count = static_cast<index>(labels->size());
  if (static_cast<index>(features->size()) != count * 98 * 40) {
    return repquant::failure{repquant::errc::shape_mismatch, file->place() + ": features",
                             static_cast<index>(features->size()), count * 98 * 40};
  }
  std::vector<model_sample> all;
  for (index i = 0; i < count; ++i) {
    const repquant::matrix_view clip(features->data() + i * 98 * 40, 98, 40);
    all.push_back({clip.eigen(), {}, {(*labels)[static_cast<std::size_t>(i)]}});
  }
  return all;
}

/// A clip moved by up to ten frames, louder or softer (the first coefficient is the logarithm of the energy),
/// each coefficient's size changed a little, with a little noise.
inline sample_variation clip_variations(const std::vector<model_sample>& samples) {
  auto clips = std::make_shared<std::vector<repquant::matrix<>>>();
  repquant::matrix<> square = repquant::matrix<>::Zero(1, 40);
  for (const model_sample& s : samples) {
    clips->push_back(s.input);
    const repquant::matrix<> centred = s.input.rowwise() - s.input.colwise().mean();
    square += centred.cwiseAbs2().colwise().mean() / static_cast<float>(samples.size());
  }
  const repquant::matrix<> deviation = square.cwiseSqrt();
  return [clips, deviation](std::span<const index> among, repquant::splitmix64& random) {
    const repquant::matrix<>& from = (*clips)[static_cast<std::size_t>(any(random, among))];
    const index later = between(random, index{-10}, index{10});
    model_sample s;
    s.input.resize(from.rows(), from.cols());
    for (index i = 0; i < from.rows(); ++i)
      s.input.row(i) = from.row(std::clamp(i - later, index{0}, from.rows() - 1));
    s.input.col(0).array() += between(random, -0.3F, 0.3F) * deviation(0, 0);
    for (index j = 1; j < from.cols(); ++j) s.input.col(j) *= between(random, 0.95F, 1.05F);
    repquant::matrix<> noise = repquant::matrix<>::Zero(s.input.rows(), s.input.cols());
    add_noise(random, between(random, 0.0F, 0.1F), noise);
    s.input += (noise.array().rowwise() * deviation.row(0).array()).matrix();
    return s;
  };
}

/// The model in `data_dir`/kwt1_audio: 128 clips to calibrate on, 250 others to measure on.
inline repquant::result<model_case> load_kwt1(const std::string& data_dir) {
  const std::string folder = data_dir + "/kwt1_audio";
  const auto weights = load_kwt1_weights(folder + "/weights.safetensors");
  if (!weights) return weights.error();
  auto network = repquant::record(*weights, 40);
  if (!network) return network.error();
  auto calibration = read_clips(folder + "/calib.safetensors");
  if (!calibration) return calibration.error();
  auto evaluation = read_clips(folder + "/dev.safetensors");
  if (!evaluation) return evaluation.error();
  model_case m;
  m.name = "kwt1_audio";
  m.network = std::move(*network);
  m.calibration = std::move(*calibration);
  m.evaluation = std::move(*evaluation);
  m.vary = clip_variations(m.calibration);
  m.accuracy = "top1";
  return m;
}

}  // namespace examples
