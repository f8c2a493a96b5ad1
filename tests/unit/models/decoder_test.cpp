// SPDX-License-Identifier: MIT
/// A trained decoder, quantized, fed with tokens as they come: the logits of the whole sequence, bit for bit.
#include <repquant/infer/decoder.hpp>

#include "models/stories260k.hpp"
#include "unit/block/networks.hpp"
#include "unit/models/data.hpp"

namespace rq = repquant;

TEST_CASE("stories260K gives the same logits token by token", "[models][decoder]") {
  if (models::lacks("stories260k")) return;
  const examples::model_case m = examples::load_stories260k(models::data_dir()).value();
  const rq::index length = models::sanitized ? 40 : 200;
  for (const int bits : {8, 4}) {
    const networks::samples calibration = {m.calibration[0].input.topRows(96)};
    const auto quantized = networks::quantize(m.network, calibration, "repq", bits, bits);
    REQUIRE(quantized);
    const rq::matrix<> x = m.evaluation[0].input.topRows(length);
    const rq::matrix<> whole = quantized->run(x).value();

    std::vector<std::uint64_t> storage((rq::engine::storage_bytes(quantized->view()) + 7) / 8);
    rq::decoder decoder;
    REQUIRE_FALSE(decoder.prepare(quantized->view(), std::as_writable_bytes(std::span(storage))));
    std::vector<std::byte> memory(decoder.cache_bytes(length));
    std::vector<std::byte> workspace(decoder.workspace_bytes(length, 70));
    rq::token_cache cache{memory, length};
    rq::matrix<> y(length, whole.cols());
    for (rq::index t = 0; t < length;) {
      const rq::index rows = std::min(length - t, rq::index{t == 0 ? 30 : t % 7 == 0 ? 70 : 1});
      REQUIRE_FALSE(decoder.check_rows(cache, rows));
      decoder.run(x.row(t).data(), rows, {y.row(t).data(), static_cast<std::size_t>(rows * y.cols())}, cache,
                  workspace);
      t += rows;
    }
    CHECK(std::memcmp(y.data(), whole.data(), sizeof(float) * static_cast<std::size_t>(y.size())) == 0);
  }
}
