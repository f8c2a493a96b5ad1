// SPDX-License-Identifier: MIT
/// Fashion-MNIST: images, labels, and the patches that a vision transformer reads.
#pragma once

#include <repquant/matrix/matrix.hpp>

#include "support/idx.hpp"
#include <array>
#include <filesystem>
#include <string>
#include <utility>

namespace examples {

/// Images with what is on them.
struct labelled_images {
  idx_images images;
  std::vector<std::uint8_t> labels;

  [[nodiscard]] index size() const noexcept { return images.count; }
};

/// Images to calibrate with and images to evaluate on; no image is in both.
struct image_data {
  labelled_images calibration;
  labelled_images evaluation;
};

/// Images of a file and labels of another, and that they belong together.
///
/// Errors  those of read_idx_images; shape_mismatch: another count of labels than images, or images that
///         are not 28 x 28; bad_format: a label above 9
inline result<labelled_images> read_labelled_images(const std::string& images, const std::string& labels,
                                                    index limit = all_of_them) {
  result<idx_images> pictures = read_idx_images(images, limit);
  if (!pictures) return pictures.error();
  const std::string picture_file = repquant::detail::file_name(images, 40);
  if (pictures->rows != 28) return failure{errc::shape_mismatch, picture_file + ": rows", pictures->rows, 28};
  if (pictures->cols != 28)
    return failure{errc::shape_mismatch, picture_file + ": columns", pictures->cols, 28};
  if (pictures->count == 0) return failure{errc::empty, picture_file + ": images", 0, 1};
  result<std::vector<std::uint8_t>> numbers = read_idx_labels(labels, limit);
  if (!numbers) return numbers.error();
  const std::string label_file = repquant::detail::file_name(labels, 40);
  const auto count = static_cast<index>(numbers->size());
  if (count != pictures->count) {
    return failure{errc::shape_mismatch, label_file + ": labels", count, pictures->count};
  }
  for (const std::uint8_t label : *numbers) {
    if (label > 9) return failure{errc::bad_format, label_file + ": largest label", label, 9};
  }
  return labelled_images{std::move(*pictures), std::move(*numbers)};
}

/// The data of a directory of one of two kinds:
///
///   calib-*, dev-*     this project's examples/data: 256 and 2,000 images
///   train-*, t10k-*    the original files, compressed or not (Debian: /usr/share/datasets/fashion-mnist):
///                      the first 256 training images, all 10,000 test images
///
/// `limit` bounds the images to evaluate on.
///
/// Errors  io: no such directory, neither kind of files in it; those of read_labelled_images
inline result<image_data> load_fashion_mnist(const std::string& directory, index limit = all_of_them) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::is_directory(directory, ignored)) {
    const int reason = fs::exists(directory, ignored) ? ENOTDIR : ENOENT;
    return failure{errc::io, repquant::detail::path_tail(directory, 90), reason};
  }
  const auto found = [&](const std::string& name) -> std::string {
    for (const char* ending : {"", ".gz"}) {
      const fs::path path = fs::path(directory) / (name + ending);
      std::error_code none;
      if (fs::exists(path, none)) return path.string();
    }
    return {};
  };
  struct kind {
    std::string calibration;
    std::string evaluation;
    std::string images;
    std::string labels;
  };
  for (const kind& k : {kind{"calib-", "dev-", "images.idx3-ubyte", "labels.idx1-ubyte"},
                        kind{"train-", "t10k-", "images-idx3-ubyte", "labels-idx1-ubyte"}}) {
    const std::string first = found(k.calibration + k.images);
    if (first.empty()) continue;
    const auto path = [&](const std::string& name) {
      std::string p = found(name);  // where it is missing, reading its plain name fails and says so
      return p.empty() ? (fs::path(directory) / name).string() : p;
    };
    result<labelled_images> calibration = read_labelled_images(first, path(k.calibration + k.labels), 256);
    if (!calibration) return calibration.error();
    result<labelled_images> evaluation =
        read_labelled_images(path(k.evaluation + k.images), path(k.evaluation + k.labels), limit);
    if (!evaluation) return evaluation.error();
    return image_data{std::move(*calibration), std::move(*evaluation)};
  }
  return failure{errc::io,
                 repquant::detail::path_tail(directory, 50) + ": no calib-images and no train-images"};
}

/// Mean and standard deviation of the training pixels, in units of white = 1.
inline constexpr float fashion_mnist_mean = 0.2860F;
inline constexpr float fashion_mnist_deviation = 0.3530F;

/// The 49 patches of 4 x 4 pixels of a 28 x 28 image: patches row by row, pixels row by row in a patch.
///
///   value = (pixel / 255 - mean) / deviation
///
/// Shapes    image [784], result [49 x 16]
inline repquant::matrix<> patches_of(std::span<const std::uint8_t> image, float mean = fashion_mnist_mean,
                                     float deviation = fashion_mnist_deviation) {
  constexpr index side = 28;
  constexpr index patch = 4;
  constexpr index across = side / patch;
  repquant::matrix<> m(across * across, patch * patch);
  for (index i = 0; i < side; ++i) {
    for (index j = 0; j < side; ++j) {
      const auto pixel = static_cast<float>(image[static_cast<std::size_t>(i * side + j)]);
      const float value = (pixel / 255.0F - mean) / deviation;
      m(i / patch * across + j / patch, i % patch * patch + j % patch) = value;
    }
  }
  return m;
}

}  // namespace examples
