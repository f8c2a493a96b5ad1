// SPDX-License-Identifier: MIT
/// A vision transformer on MNIST: pre-norm, ReLU, heads as wide as the model, no biases of q, k and v.
#pragma once

#include "models/vit_images.hpp"
#include "support/vit_model.hpp"

namespace examples {

/// Its sizes.
inline constexpr vit_sizes vit_mnist_sizes{
    .depth = 6, .heads = 4, .head_dim = 64, .mlp_dim = 128, .qkv_bias = bias::no};

/// The model in `data_dir`/vit_mnist: 256 images to calibrate on, 2,000 others to measure on.
///
/// Errors  those of load_vit and load_fashion_mnist
inline repquant::result<model_case> load_vit_mnist(const std::string& data_dir) {
  const std::string folder = data_dir + "/vit_mnist";
  auto weights = load_vit(folder + "/weights.safetensors", vit_mnist_sizes);
  if (!weights) return weights.error();
  const index width = weights->patch_embed.in();
  auto network = repquant::record(vit_model{std::move(*weights), repquant::activation::relu}, width);
  if (!network) return network.error();
  const auto images = load_fashion_mnist(folder);  // the same files as Fashion-MNIST's
  if (!images) return images.error();
  model_case m;
  m.name = "vit_mnist";
  m.network = std::move(*network);
  m.calibration = samples_of(images->calibration, 0.1307F, 0.3081F);
  m.evaluation = samples_of(images->evaluation, 0.1307F, 0.3081F);
  m.vary = image_variations(m.calibration, false);
  m.accuracy = "top1";
  return m;
}

}  // namespace examples
