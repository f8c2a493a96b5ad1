// SPDX-License-Identifier: MIT
#include <repquant/block/quantize_weights.hpp>
#include <repquant/parallel/threads.hpp>

#include "catch.hpp"
#include "data.hpp"
#include "models/stories260k.hpp"
#include "support/metrics.hpp"

namespace rq = repquant;

TEST_CASE("three-bit weights of a language model: better than gptq, which beats rounding", "[models]") {
  if (models::lacks("stories260k")) return;
  const auto m = examples::load_stories260k(models::data_dir()).value();
  std::vector<rq::matrix<>> calibration;
  for (std::size_t i = 0; i < (models::sanitized ? 2U : 12U); ++i) {
    calibration.push_back(m.calibration[i].input.topRows(256));
  }
  const auto divergence = [&](const auto& recipe, rq::index group) {
    const auto q = rq::quantize_weights(m.network, std::span<const rq::matrix<>>(calibration),
                                        rq::with_weights(recipe, 3, group), rq::threads{2})
                       .value();
    double sum = 0;
    for (std::size_t i = 0; i < (models::sanitized ? 1U : 6U); ++i) {
      const rq::matrix<> x = m.evaluation[i].input.topRows(256);
      sum += examples::score(rq::evaluate(m.network, x).value(), rq::evaluate(q.network, x).value(), {}).kl;
    }
    return sum;
  };
  for (const rq::index group : {0, 32}) {
    const double rounded = divergence(rq::rounding_weight_recipe{}, group);
    const double solved = divergence(rq::gptq_weight_recipe{}, group);
    const double ours = divergence(rq::weight_recipe{}, group);
    INFO("group " << group << ": " << rounded << " " << solved << " " << ours);
    CHECK(solved < 0.8 * rounded);
    CHECK(ours < 0.8 * solved);
  }
}
