// SPDX-License-Identifier: MIT
/// What the two vision transformers on 28 x 28 images share: their images as samples.
#pragma once

#include "models/model_case.hpp"
#include "models/vary.hpp"
#include "support/fashion_mnist.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numbers>
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
template<class Patches>
auto& pixel(Patches& patches, index i, index j) {
  constexpr index patch = 4;
  constexpr index across = 7;
  return patches(i / patch * across + j / patch, i % patch * patch + j % patch);
}

/// A map of the image plane near the identity: stretched, turned and sheared a little about the middle, moved
/// by at most half a pixel, and bent by three waves.
///
/// Units  pixels from the middle
class bent_plane {
 public:
  explicit bent_plane(repquant::splitmix64& random) {
    const float angle = between(random, -0.08F, 0.08F);
    const float shear = between(random, -0.08F, 0.08F);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const float size = std::exp(between(random, -0.06F, 0.06F));
      const float sign = axis == 0 ? 1.0F : -1.0F;
      matrix_[axis][axis] = size * std::cos(angle);
      matrix_[axis][1 - axis] = size * (sign * std::sin(angle) + (axis == 0 ? 0.0F : shear));
      shift_[axis] = between(random, -0.5F, 0.5F);
    }
    for (wave& w : waves_) {
      // no wave is shorter than a third of an image
      w = {between(random, -0.45F, 0.45F), between(random, -0.45F, 0.45F),
           between(random, 0.0F, 2 * std::numbers::pi_v<float>), between(random, -0.6F, 0.6F),
           between(random, -0.6F, 0.6F)};
    }
  }
  [[nodiscard]] std::array<float, 2> operator()(float y, float x) const {
    std::array<float, 2> to = shift_;
    for (std::size_t axis = 0; axis < 2; ++axis) to[axis] += matrix_[axis][0] * y + matrix_[axis][1] * x;
    for (const wave& w : waves_) {
      const float height = std::sin(w.down * y + w.right * x + w.phase);
      to[0] += w.moves_down * height;
      to[1] += w.moves_right * height;
    }
    return to;
  }

 private:
  struct wave {
    float down, right, phase, moves_down, moves_right;
  };
  std::array<std::array<float, 2>, 2> matrix_{};
  std::array<float, 2> shift_{};
  std::array<wave, 3> waves_{};
};

/// An image between pixels, bilinear; `outside` beyond its borders.
inline float between_pixels(const repquant::matrix<>& patches, float y, float x, float outside) {
  constexpr index side = 28;
  const auto at = [&](index i, index j) {
    return i >= 0 && i < side && j >= 0 && j < side ? pixel(patches, i, j) : outside;
  };
  const auto i = static_cast<index>(std::floor(y));
  const auto j = static_cast<index>(std::floor(x));
  const float down = y - std::floor(y);
  const float right = x - std::floor(x);
  return (1 - down) * ((1 - right) * at(i, j) + right * at(i, j + 1)) +
         down * ((1 - right) * at(i + 1, j) + right * at(i + 1, j + 1));
}

/// An image, half of the time mixed with the most similar of 40 others, of which it keeps at least half; bent
/// a little, with other brightness and contrast, mirrored half of the time where that is `mirrored`.
inline sample_variation image_variations(const std::vector<model_sample>& samples, bool mirrored) {
  auto images = std::make_shared<std::vector<repquant::matrix<>>>();
  for (const model_sample& s : samples) images->push_back(s.input);
  return [images, mirrored](std::span<const index> among, repquant::splitmix64& random) {
    constexpr index side = 28;
    constexpr float middle = 13.5F;
    const auto some_image = [&]() -> const repquant::matrix<>& {
      return (*images)[static_cast<std::size_t>(any(random, among))];
    };
    repquant::matrix<> from = some_image();
    if (chance(random, 0.5F)) {
      const repquant::matrix<>* similar = &some_image();
      for (index tried = 1; tried < 40; ++tried) {
        const repquant::matrix<>& other = some_image();
        // its like, not itself
        const float least = (*similar - from).squaredNorm();
        const float distance = (other - from).squaredNorm();
        if (distance > 0 && (distance < least || least == 0)) similar = &other;
      }
      const float kept = between(random, 0.5F, 1.0F);
      from = kept * from + (1 - kept) * *similar;
    }
    const float dark = from.minCoeff();
    const float range = std::max(from.maxCoeff() - dark, 1e-6F);
    const float brightness = std::exp(between(random, -0.3F, 0.3F));
    const float contrast = std::exp(between(random, -0.2F, 0.2F));
    const bool mirror = mirrored && chance(random, 0.5F);
    const bent_plane bent(random);
    model_sample s;
    s.input.resize(from.rows(), from.cols());
    for (index i = 0; i < side; ++i) {
      for (index j = 0; j < side; ++j) {
        const float x = static_cast<float>(mirror ? side - 1 - j : j) - middle;
        const auto [to_y, to_x] = bent(static_cast<float>(i) - middle, x);
        const float grey = (between_pixels(from, to_y + middle, to_x + middle, dark) - dark) / range;
        const float other = brightness * std::pow(std::max(grey, 0.0F), contrast);
        pixel(s.input, i, j) = dark + range * std::min(other, 1.0F);
      }
    }
    return s;
  };
}

}  // namespace examples
