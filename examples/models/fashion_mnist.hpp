// SPDX-License-Identifier: MIT
/// The vision transformer on Fashion-MNIST, and the same with unbalanced norms.
#pragma once

#include "models/vit_images.hpp"
#include "support/vit_model.hpp"

namespace examples {

/// Where Debian's package dataset-fashion-mnist puts all 70,000 images.
inline const std::string debian_fashion_mnist = "/usr/share/datasets/fashion-mnist";

/// The model in `data_dir`/fashion_mnist: the first 256 training images to calibrate on; to measure on, all
/// 10,000 test images where the folder `all_images` is there, else the first 2,000 of them.
///
/// `unbalanced`: the network after unbalance() (support/vit.hpp), whose float function is the same.
///
/// Errors  those of load_vit and of support/fashion_mnist.hpp
inline repquant::result<model_case> load_fashion_vit(const std::string& data_dir, bool unbalanced = false,
                                                     const std::string& all_images = debian_fashion_mnist) {
  const std::string folder = data_dir + "/fashion_mnist";
  auto weights = load_vit(folder + "/vit_weights.safetensors");
  if (!weights) return weights.error();
  if (unbalanced) unbalance(*weights);
  const index width = weights->patch_embed.in();
  auto network = repquant::record(vit_model{std::move(*weights)}, width);
  if (!network) return network.error();
  std::error_code none;
  const bool all = std::filesystem::is_directory(all_images, none);
  const auto images = load_fashion_mnist(all ? all_images : folder);
  if (!images) return images.error();
  model_case m;
  m.name = unbalanced ? "fashion_mnist_unbalanced" : "fashion_mnist";
  m.network = std::move(*network);
  m.calibration = samples_of(images->calibration, fashion_mnist_mean, fashion_mnist_deviation);
  m.evaluation = samples_of(images->evaluation, fashion_mnist_mean, fashion_mnist_deviation);
  m.vary = image_variations(m.calibration, true);
  m.accuracy = "top1";
  return m;
}

}  // namespace examples
