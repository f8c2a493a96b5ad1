// SPDX-License-Identifier: MIT
/// The network of the main job with its images, and its quantized form.
#pragma once

#include <repquant/block/program.hpp>

#include "settings.hpp"
#include <cstddef>
#include <vector>

namespace compare {

struct main_job {
  repquant::program network;
  std::vector<repquant::matrix<>> calibration;
  std::vector<repquant::matrix<>> images;
};
/// The network, and as many images to calibrate with and to run.
repquant::result<main_job> load_main_job(index calibration, index images);
/// What quantized_model::load reads: the network with that many bits, by the recipe of the main job, with
/// feedback where asked for.
repquant::result<std::vector<std::byte>> quantize_main_job(const main_job& job, int bits, bool feedback);

}  // namespace compare
