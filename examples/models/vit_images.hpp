// SPDX-License-Identifier: MIT
/// What the two vision transformers on 28 x 28 images share: their images as samples.
#pragma once

#include "models/model_case.hpp"
#include "models/vary.hpp"
#include "support/fashion_mnist.hpp"
#include <memory>
#include <utility>

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

/// Entry (i, j) of an image of patches_of.
inline float& pixel(repquant::matrix<>& patches, index i, index j) {
  constexpr index patch = 4;
  constexpr index across = 7;
  return patches(i / patch * across + j / patch, i % patch * patch + j % patch);
}

/// An image moved by up to one pixel, mirrored half of the time where that is `mirrored`.
inline sample_variation image_variations(const std::vector<model_sample>& samples, bool mirrored) {
  auto images = std::make_shared<std::vector<repquant::matrix<>>>();
  for (const model_sample& s : samples) images->push_back(s.input);
  return [images, mirrored](std::span<const index> among, repquant::splitmix64& random) {
    constexpr index side = 28;
    repquant::matrix<> from = (*images)[static_cast<std::size_t>(any(random, among))];
    const index down = between(random, index{-1}, index{1});
    const index right = between(random, index{-1}, index{1});
    const bool mirror = mirrored && chance(random, 0.5F);
    const float dark = from.minCoeff();
    model_sample s;
    s.input.resize(from.rows(), from.cols());
    for (index i = 0; i < side; ++i) {
      for (index j = 0; j < side; ++j) {
        const index y = i - down;
        const index x = (mirror ? side - 1 - j : j) - right;
        const bool inside = y >= 0 && y < side && x >= 0 && x < side;
        pixel(s.input, i, j) = inside ? pixel(from, y, x) : dark;
      }
    }
    return s;
  };
}

}  // namespace examples
