// SPDX-License-Identifier: MIT
/// The vision transformer of the examples, its images, and how many of them a test looks at.
#pragma once

#include "networks.hpp"
#include "sanitized.hpp"
#include "support/data_directory.hpp"
#include "support/fashion_mnist.hpp"
#include "support/vit_model.hpp"
#include <cstdlib>

namespace networks {

inline const std::string& example_data() {
  static const std::string path = examples::data_directory();
  return path;
}
inline const examples::vit_weights& vit_weights() {
  static const examples::vit_weights w =
      examples::load_vit(example_data() + "/vit_weights.safetensors").value();
  return w;
}
inline const examples::image_data& vit_images() {
  static const examples::image_data d = examples::load_fashion_mnist(example_data()).value();
  return d;
}
inline samples patches_of(const examples::labelled_images& images, rq::index count) {
  samples s;
  for (rq::index i = 0; i < std::min(count, images.size()); ++i)
    s.push_back(examples::patches_of(images.images.image(i)));
  return s;
}
inline rq::program vit_program(const examples::vit_weights& w = vit_weights()) {
  return rq::record(examples::vit_model{w}, w.patch_embed.in()).value();
}

/// So many calibration images, or fewer where a sanitizer slows all down and a few show it the same.
inline samples calibration_images(rq::index usual) {
#if defined(REPQUANT_TEST_SANITIZED)
  usual = std::min<rq::index>(usual, 8);
#endif
  return patches_of(vit_images().calibration, usual);
}
/// `usual` images, or as many as the environment variable REPQUANT_TEST_IMAGES says (at most 2,000 are
/// there); a fortieth of the usual under a sanitizer.
inline rq::index image_count(rq::index usual) {
#if defined(REPQUANT_TEST_SANITIZED)
  usual /= 40;
#endif
  const char* asked = std::getenv("REPQUANT_TEST_IMAGES");
  return std::max<rq::index>(1, asked == nullptr ? usual : std::atoi(asked));
}

}  // namespace networks
