// SPDX-License-Identifier: MIT
/// What the two vision transformers on 28 x 28 images share: their images as samples.
#pragma once

#include "models/model_case.hpp"
#include "support/fashion_mnist.hpp"

namespace examples {

/// Images as patches, each labelled with its class.
inline std::vector<model_sample> samples_of(const labelled_images& images, float mean, float deviation) {
  std::vector<model_sample> all;
  all.reserve(static_cast<std::size_t>(images.size()));
  for (index i = 0; i < images.size(); ++i) {
    const auto label = static_cast<index>(images.labels[static_cast<std::size_t>(i)]);
    all.push_back({patches_of(images.images.image(i), mean, deviation), {}, {label}});
  }
  return all;
}

}  // namespace examples
