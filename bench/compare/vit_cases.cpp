// SPDX-License-Identifier: MIT
#include <repquant/parallel/threads.hpp>
#include <repquant/repquant.hpp>

#include "cases.hpp"
#include "support/fashion_mnist.hpp"
#include "support/vit_model.hpp"
#include "team.hpp"

namespace compare {
namespace {

namespace rq = repquant;

/// The main job's network with its images.
struct main_job {
  rq::program network;
  std::vector<rq::matrix<>> calibration;
  std::vector<rq::matrix<>> images;
};
rq::result<main_job> load(index calibration, index images) {
  const auto weights = examples::load_vit(REPQUANT_EXAMPLE_DATA "/vit_weights.safetensors");
  if (!weights) return weights.error();
  const auto data = examples::load_fashion_mnist(REPQUANT_EXAMPLE_DATA, images);
  if (!data) return data.error();
  auto network = rq::record(examples::vit_model{*weights}, weights->patch_embed.in());
  if (!network) return network.error();
  main_job job{std::move(*network), {}, {}};
  for (index i = 0; i < calibration; ++i)
    job.calibration.push_back(examples::patches_of(data->calibration.images.image(i)));
  for (index i = 0; i < images; ++i)
    job.images.push_back(examples::patches_of(data->evaluation.images.image(i)));
  return job;
}

/// The first `count` images, one below the other.
rq::matrix<> rows_of(const std::vector<rq::matrix<>>& images, index count) {
  const index rows = images[0].rows();
  rq::matrix<> all(count * rows, images[0].cols());
  for (index i = 0; i < count; ++i) all.middleRows(i * rows, rows) = images[static_cast<std::size_t>(i)];
  return all;
}
template<class Row>
index class_of(const Row& logits) {
  index c = 0;
  logits.maxCoeff(&c);
  return c;
}

}  // namespace

rq::failure vit_cases(const session& s) {
  if (!s.options.wants("vit_w8a8") && !s.options.wants("vit_w4a4")) return {};
  const auto job = load(s.options.brief ? 16 : 32, 64);
  if (!job) return job.error();
  const team exec(s.options.threads);
  for (const int bits : {8, 4}) {
    const std::string name = bits == 8 ? "vit_w8a8" : "vit_w4a4";
    if (!s.options.wants(name)) continue;
    const auto model = rq::quantize_program(job->network, std::span<const rq::matrix<>>(job->calibration),
                                            rq::with_bits(rq::repquant_recipe{}, bits, bits), rq::threads{});
    if (!model) return model.error().within(name);
    for (const index batch : {index{1}, index{64}}) {
      const rq::matrix<> stacked = rows_of(job->images, batch);
      rq::run_memory memory;
      rq::matrix<> ours;
      std::vector<rq::matrix<>> floats(static_cast<std::size_t>(batch));
      const std::vector<contender> both = {
          {"ours", [&] { ours = *model->run_batch(stacked, batch, memory, s.options.threads, exec); }},
          {"eigen_f32", [&] {
             exec(batch, [&](index i) {
               const auto at = static_cast<std::size_t>(i);
               floats[at] = *rq::evaluate(job->network, job->images[at]);
             });
           }}};
      const std::vector<timing> times = race(both, s.options.rules);
      index same = 0;
      for (index i = 0; i < batch; ++i) {
        if (class_of(ours.row(i)) == class_of(floats[static_cast<std::size_t>(i)].row(0))) ++same;
      }
      s.rows.add(name, "batch " + std::to_string(batch), "eigen_f32", {"images/s", static_cast<double>(batch)},
                 times[0], times[1], {}, std::to_string(same) + " of " + std::to_string(batch) + " classes as in float");
    }
  }
  return {};
}

}  // namespace compare
