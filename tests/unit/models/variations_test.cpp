// SPDX-License-Identifier: MIT
/// What the variations of samples are made of: images between their pixels, planes that are bent, tokens
/// drawn, reactions rewritten.
#include "models/albert.hpp"
#include "models/stories260k.hpp"
#include "models/vit_images.hpp"
#include "unit/models/data.hpp"

namespace rq = repquant;

TEST_CASE("images between pixels are bilinear, and dark outside", "[models][variations]") {
  rq::matrix<> image = rq::matrix<>::Random(49, 16);
  const auto at = [&image](rq::index i, rq::index j) { return examples::pixel(image, i, j); };
  const float dark = -3;
  for (rq::index i = 0; i < 28; i += 3) {
    for (rq::index j = 0; j < 28; j += 5) {
      const auto y = static_cast<float>(i);
      const auto x = static_cast<float>(j);
      CHECK(examples::between_pixels(image, y, x, dark) == at(i, j));
      if (i == 27 || j == 27) continue;
      const float middle = (at(i, j) + at(i + 1, j) + at(i, j + 1) + at(i + 1, j + 1)) / 4;
      CHECK(examples::between_pixels(image, y + 0.5F, x + 0.5F, dark) == Approx(middle).margin(1e-6));
    }
  }
  CHECK(examples::between_pixels(image, -0.5F, 4, dark) == Approx((dark + at(0, 4)) / 2).margin(1e-6));
  CHECK(examples::between_pixels(image, 5, 27.25F, dark) ==
        Approx(0.75 * at(5, 27) + 0.25 * dark).margin(1e-6));
  CHECK(examples::between_pixels(image, 40, 4, dark) == dark);
  CHECK(examples::between_pixels(image, -7.5F, -2, dark) == dark);
}

TEST_CASE("bent planes stay near what they bend", "[models][variations]") {
  double furthest = 0;
  double moved = 0;
  for (std::uint64_t number = 0; number < 200; ++number) {
    rq::splitmix64 random = rq::splitmix64::of(1, number);
    const examples::bent_plane bent(random);
    for (float y = -13.5F; y <= 13.5F; y += 4.5F) {
      for (float x = -13.5F; x <= 13.5F; x += 4.5F) {
        const auto [to_y, to_x] = bent(y, x);
        const double distance = std::hypot(static_cast<double>(to_y - y), static_cast<double>(to_x - x));
        furthest = std::max(furthest, distance);
        moved += distance / (200 * 49);
      }
    }
  }
  // scale, angle and shear move a corner by at most (1.062 * 0.163 + 0.062) * 13.5 * sqrt(2), then half a
  // pixel and three waves of 0.6 in both directions
  CHECK(furthest < 4.5 + 0.71 + 2.55);
  // the shift alone moves by 0.38 in the mean; two pixels would be half of a patch
  CHECK(moved > 0.4);
  CHECK(moved < 2);
}

TEST_CASE("a variation of an image has its range of greys", "[models][variations]") {
  std::vector<examples::model_sample> samples;
  for (int k = 0; k < 3; ++k) samples.push_back({rq::matrix<>::Random(49, 16), {}, {k}});
  const auto vary = examples::image_variations(samples, true);
  const std::vector<rq::index> one{1};
  rq::splitmix64 random = rq::splitmix64::of(2, 0);
  for (int k = 0; k < 20; ++k) {
    // of one image alone: what is mixed with it is itself
    const rq::matrix<> x = vary(one, random).input;
    CHECK(x.minCoeff() >= samples[1].input.minCoeff() - 1e-5F);
    CHECK(x.maxCoeff() <= samples[1].input.maxCoeff() + 1e-5F);
    CHECK(x != samples[1].input);
  }
  // one grey alone has no range
  const auto flat = examples::image_variations({{rq::matrix<>::Constant(49, 16, 0.5F), {}, {0}}}, false);
  const std::vector<rq::index> first{0};
  CHECK(flat(first, random).input.isApproxToConstant(0.5F, 1e-5F));
}

TEST_CASE("tokens are drawn with the probabilities that logits give", "[models][variations]") {
  rq::matrix<> logits(1, 5);
  logits << std::log(2.0F), std::log(5.0F), -200, 0, std::log(2.0F);
  const double share[] = {0.2, 0.5, 0, 0.1, 0.2};
  std::vector<int> seen(5, 0);
  rq::splitmix64 random = rq::splitmix64::of(3, 0);
  constexpr int draws = 20000;
  for (int k = 0; k < draws; ++k) ++seen.at(static_cast<std::size_t>(examples::drawn_token(logits, random)));
  for (std::size_t k = 0; k < 5; ++k) {
    const double deviation = std::sqrt(share[k] * (1 - share[k]) / draws);
    CHECK(std::abs(seen[k] / static_cast<double>(draws) - share[k]) <= 4 * deviation);
  }
}

TEST_CASE("ALBERT rewrites a part of a reaction, most of it as it was", "[models][variations]") {
  if (models::lacks("albert_smiles")) return;
  const std::string folder = models::data_dir() + "/albert_smiles";
  const auto network = examples::load_albert_weights(folder + "/weights.safetensors").value();
  const rq::program program = rq::record(network, 128).value();
  const auto reactions = examples::read_masked_reactions(folder + "/mlm_dev.tsv").value();
  std::size_t tokens = 0;
  std::size_t changed = 0;
  for (std::size_t k = 0; k < 20; ++k) {
    rq::splitmix64 random = rq::splitmix64::of(5, k);
    const std::vector<std::int32_t>& before = reactions[k].ids;
    std::vector<std::int32_t> after = before;
    examples::rewrite_tokens(network, program, random, after);
    REQUIRE(after.size() == before.size());
    CHECK(after.front() == before.front());
    CHECK(after.back() == before.back());
    CHECK(std::ranges::count(after, examples::smiles_vocabulary::mask) == 0);
    tokens += before.size();
    for (std::size_t i = 0; i < before.size(); ++i) changed += before[i] == after[i] ? 0 : 1;
  }
  CHECK(changed > 0);
  // a fifth of the tokens is masked in the mean, and the network finds most of what was there
  CHECK(changed < tokens / 10);
}

TEST_CASE("stories260K goes on where a window of its text ends", "[models][variations]") {
  if (models::lacks("stories260k")) return;
  const auto network =
      examples::load_stories260k_weights(models::data_dir() + "/stories260k/stories260K.bin").value();
  std::vector<std::int32_t> text(511);
  for (std::size_t k = 0; k < text.size(); ++k) text[k] = static_cast<std::int32_t>(300 + k % 7);
  const auto vary = examples::window_variations(network, text);
  const std::vector<rq::index> first{0};
  for (std::uint64_t number = 0; number < 3; ++number) {
    rq::splitmix64 random = rq::splitmix64::of(4, number);
    const rq::matrix<> x = vary(first, random).input;
    REQUIRE(x.rows() == 511);
    CHECK(x.row(0) == network.tokens.row(examples::byte_pairs::beginning));
    CHECK(x.row(1) == network.tokens.row(text[0]));
    rq::index same = 1;
    while (same < 511 && x.row(same) == network.tokens.row(text[static_cast<std::size_t>(same) - 1])) ++same;
    CHECK(same <= 64 + 8);  // what it writes is not this nonsense, but for a token or two
  }
}
