// SPDX-License-Identifier: MIT
/// The whole network of the main job.
#include <repquant/block.hpp>
#include <repquant/block/evaluate.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/parallel/threads.hpp>

#include "cases.hpp"
#include "main_job.hpp"
#include "team.hpp"
#include <algorithm>
#include <iterator>

namespace compare {
namespace {

namespace rq = repquant;

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
  struct network {
    const char* name;
    int bits;
    bool feedback;
  };
  constexpr network networks[] = {
      {"vit_w8a8", 8, false}, {"vit_w4a4", 4, false}, {"vit_w4a4_feedback", 4, true}};
  if (std::none_of(std::begin(networks), std::end(networks),
                   [&](const network& n) { return s.options.wants(n.name); }))
    return {};
  const auto job = load_main_job(s.options.brief ? 16 : 32, 64);
  if (!job) return job.error();
  const team exec(s.options.threads);
  for (const auto& [called, bits, feedback] : networks) {
    const std::string name = called;
    if (!s.options.wants(name)) continue;
    const auto saved = quantize_main_job(*job, bits, feedback);
    if (!saved) return saved.error().within(name);
    const auto model = rq::quantized_model::load(*saved);
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
      s.rows.add(name, "batch " + std::to_string(batch), "eigen_f32",
                 {"images/s", static_cast<double>(batch)}, times[0], times[1], {},
                 std::to_string(same) + " of " + std::to_string(batch) + " classes as in float");
    }
  }
  return {};
}

}  // namespace compare
