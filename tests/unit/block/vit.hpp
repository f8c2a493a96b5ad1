// SPDX-License-Identifier: MIT
/// The vision transformer of the examples, its images, and how many of them a test looks at.
#pragma once

#include "networks.hpp"
#include "support/fashion_mnist.hpp"
#include "support/vit_model.hpp"
#include <cstdlib>

namespace networks {

inline const std::string& example_data() {
  static const std::string path = REPQUANT_EXAMPLE_DATA;
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

// A sanitizer sees all there is to see in a few images, and takes ten times as long for each.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr rq::index image_share = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr rq::index image_share = 10;
#else
inline constexpr rq::index image_share = 1;
#endif
#else
inline constexpr rq::index image_share = 1;
#endif

/// `usual` images, or as many as the environment variable REPQUANT_TEST_IMAGES says (at most 2,000 are
/// there).
inline rq::index image_count(rq::index usual) {
  const char* asked = std::getenv("REPQUANT_TEST_IMAGES");
  return std::max<rq::index>(1, asked == nullptr ? usual / image_share : std::atoi(asked));
}

}  // namespace networks
