// SPDX-License-Identifier: MIT
/// The main job up to the quantized network: of its own, because it takes long to compile and nothing of it
/// is timed.
#include "main_job.hpp"

#include <repquant/block.hpp>
#include <repquant/parallel/threads.hpp>

#include "support/data_directory.hpp"
#include "support/fashion_mnist.hpp"
#include "support/vit_model.hpp"

namespace compare {

namespace rq = repquant;

rq::result<main_job> load_main_job(index calibration, index images) {
  const auto weights = examples::load_vit(examples::data_directory() + "/vit_weights.safetensors");
  if (!weights) return weights.error();
  const auto data = examples::load_fashion_mnist(examples::data_directory(), std::max(calibration, images));
  if (!data) return data.error();
  auto network = rq::record(examples::vit_model{*weights}, weights->patch_embed.in());
  if (!network) return network.error();
  main_job job{std::move(*network), {}, {}};
  const auto take = [](const examples::labelled_images& from, index count) {
    std::vector<rq::matrix<>> all;
    for (index i = 0; i < std::min(count, from.size()); ++i)
      all.push_back(examples::patches_of(from.images.image(i)));
    return all;
  };
  job.calibration = take(data->calibration, calibration);
  job.images = take(data->evaluation, images);
  return job;
}

rq::result<std::vector<std::byte>> quantize_main_job(const main_job& job, int bits, bool feedback) {
  rq::repquant_recipe recipe = rq::with_bits(rq::repquant_recipe{}, bits, bits);
  if (feedback) recipe.feedback_block = rq::feedback_recipe{}.feedback_block;
  const auto model = rq::quantize_program(job.network, std::span<const rq::matrix<>>(job.calibration), recipe,
                                          rq::threads{});
  if (!model) return model.error();
  return std::vector<std::byte>(model->bytes().begin(), model->bytes().end());
}

}  // namespace compare
