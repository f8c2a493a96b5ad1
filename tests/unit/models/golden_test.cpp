// SPDX-License-Identifier: MIT
/// The trained models as programs in float: the outputs that they were published with, and their quality.
#include <repquant/block/evaluate.hpp>

#include "models/all.hpp"
#include "unit/models/data.hpp"

namespace rq = repquant;

namespace {

/// Largest difference, as a part of the largest golden value.
double difference(const rq::matrix<>& got, const rq::matrix<>& want) {
  REQUIRE(got.rows() == want.rows());
  REQUIRE(got.cols() == want.cols());
  const auto size = static_cast<double>(want.cwiseAbs().maxCoeff());
  return static_cast<double>((got - want).cwiseAbs().maxCoeff()) / size;
}

rq::safetensors golden(const std::string& file) {
  return rq::safetensors::open(models::data_dir() + "/" + file).value();
}

/// What a model says about samples that have labels.
struct quality {
  rq::index count = 0;
  double right = 0;          ///< share of the labels
  double cross_entropy = 0;  ///< nats per label
};
quality quality_of(const rq::program& p, std::span<const examples::model_sample> samples) {
  quality q;
  for (const examples::model_sample& s : samples) {
    const rq::matrix<double> y = rq::evaluate(p, s.input).value().cast<double>();
    for (std::size_t i = 0; i < s.labels.size(); ++i) {
      const auto logits = y.row(s.rows.empty() ? static_cast<rq::index>(i) : s.rows[i]);
      rq::index best = 0;
      const double top = logits.maxCoeff(&best);
      q.right += best == s.labels[i] ? 1 : 0;
      q.cross_entropy += top + std::log((logits.array() - top).exp().sum()) - logits(s.labels[i]);
      ++q.count;
    }
  }
  q.right /= static_cast<double>(q.count);
  q.cross_entropy /= static_cast<double>(q.count);
  return q;
}

std::span<const examples::model_sample> first(const std::vector<examples::model_sample>& all,
                                              std::size_t count) {
  return std::span(all).first(std::min(count, all.size()));
}

/// The outputs of the first samples, one row each.
rq::matrix<> outputs(const rq::program& p, std::span<const examples::model_sample> samples) {
  rq::matrix<> all(static_cast<rq::index>(samples.size()), p.output_cols());
  for (rq::index i = 0; i < all.rows(); ++i)
    all.row(i) = rq::evaluate(p, samples[static_cast<std::size_t>(i)].input).value();
  return all;
}

}  // namespace

TEST_CASE("the vision transformer on MNIST gives its published logits", "[models]") {
  if (models::lacks("vit_mnist")) return;
  const examples::model_case m = examples::load_vit_mnist(models::data_dir()).value();
  const rq::matrix<> want =
      golden("vit_mnist/golden.safetensors").matrix("dev_logits_first64", 64, 10).value();
  const double d = difference(outputs(m.network, first(m.evaluation, 64)), want);
  CAPTURE(d);
  CHECK(d < 1e-5);
}

TEST_CASE("the vision transformers on Fashion-MNIST give their published logits", "[models]") {
  if (models::lacks("fashion_mnist")) return;
  const rq::matrix<> want =
      golden("fashion_mnist/vit_golden.safetensors").matrix("dev_logits_first64", 64, 10).value();
  const examples::model_case plain = examples::load_fashion_vit(models::data_dir(), false, "").value();
  const rq::matrix<> got = outputs(plain.network, first(plain.evaluation, 64));
  const double d = difference(got, want);
  CAPTURE(d);
  CHECK(d < 1e-5);
  const examples::model_case unbalanced = examples::load_fashion_vit(models::data_dir(), true, "").value();
  CHECK(outputs(unbalanced.network, first(unbalanced.evaluation, 64)) == got);  // powers of two
  if (!models::sanitized) CHECK(quality_of(plain.network, plain.evaluation).right == Approx(0.8865));
}

TEST_CASE("KWT-1 gives its published logits", "[models]") {
  if (models::lacks("kwt1_audio")) return;
  const examples::model_case m = examples::load_kwt1(models::data_dir()).value();
  const rq::matrix<> want = golden("kwt1_audio/dev.safetensors").matrix("fp32_logits", 250, 12).value();
  const std::size_t count = models::sanitized ? 10 : 250;
  const auto clips = first(m.evaluation, count);
  const double d = difference(outputs(m.network, clips), want.topRows(static_cast<rq::index>(count)));
  CAPTURE(d);
  CHECK(d < 1e-5);
  if (!models::sanitized) CHECK(quality_of(m.network, clips).right == Approx(0.972));
}

TEST_CASE("ALBERT gives its published hidden state and logits", "[models]") {
  if (models::lacks("albert_smiles")) return;
  const std::string folder = models::data_dir() + "/albert_smiles";
  examples::albert_model model = examples::load_albert_weights(folder + "/weights.safetensors").value();
  const rq::safetensors file = golden("albert_smiles/golden.safetensors");
  const std::vector<std::int32_t> ids = file.ints("ids", 93).value();
  const rq::matrix<> x = model.embed(ids).value();
  const rq::matrix<> logits = rq::evaluate(rq::record(model, 128).value(), x).value();
  model.head = false;
  const rq::matrix<> hidden = rq::evaluate(rq::record(model, 128).value(), x).value();
  const double of_hidden = difference(hidden, file.matrix("hidden_last", 93, 256).value());
  const double of_logits = difference(logits.topRows(4), file.matrix("mlm_logits_first4", 4, 591).value());
  CAPTURE(of_hidden, of_logits);
  CHECK(of_hidden < 1e-5);
  CHECK(of_logits < 1e-5);
  // the tokenizer: the golden ids are the first reaction of the text
  const std::string text = examples::read_text(folder + "/reactions_dev.txt").value();
  const auto vocabulary = examples::read_vocabulary(folder + "/vocab.txt").value();
  CHECK(vocabulary.ids(examples::split(text, '\n').front()) == ids);
}

TEST_CASE("ALBERT guesses masked tokens", "[models]") {
  if (models::lacks("albert_smiles")) return;
  const examples::model_case m = examples::load_albert(models::data_dir()).value();
  REQUIRE(m.evaluation.size() == 400);
  rq::index masked = 0;
  for (const examples::model_sample& s : m.evaluation) masked += static_cast<rq::index>(s.rows.size());
  CHECK(masked == 6857);
  // all 400 give 98.56 % and 0.0477 nats; 40 of them show that masks and labels are where they belong
  const quality q = quality_of(m.network, first(m.evaluation, models::sanitized ? 2 : 40));
  CAPTURE(q.count, q.right, q.cross_entropy);
  CHECK(q.right > 0.95);
  CHECK(q.cross_entropy < 0.1);
}

TEST_CASE("stories260K gives its published tokens, logits and story", "[models]") {
  if (models::lacks("stories260k")) return;
  const std::string folder = models::data_dir() + "/stories260k";
  const auto model = examples::load_stories260k_weights(folder + "/stories260K.bin").value();
  const auto vocabulary = examples::byte_pairs::read(folder + "/tok512.bin", 512).value();
  const rq::program p = rq::record(model, 64).value();
  const rq::safetensors file = golden("stories260k/golden.safetensors");

  const std::vector<std::int32_t> window = file.ints("dev_window_ids", 512).value();
  const std::string text = examples::read_text(folder + "/tinystories_val_dev.txt").value();
  const std::vector<std::int32_t> ids = vocabulary.ids(text);
  REQUIRE(ids.size() > 511);
  CHECK(std::equal(window.begin() + 1, window.end(), ids.begin()));
  CHECK(window[0] == examples::byte_pairs::beginning);

  const auto sample = examples::next_token_sample(model, std::span(window).subspan(1)).value();
  const rq::matrix<> logits = rq::evaluate(p, sample.input).value();
  const double d = difference(logits.topRows(64), file.matrix("dev_window_logits_first64", 64, 512).value());
  CAPTURE(d);
  CHECK(d < 1e-5);
  CHECK(quality_of(p, {&sample, 1}).cross_entropy == Approx(1.311).margin(6e-4));

  const std::vector<std::int32_t> story = file.ints("greedy_ids", 125).value();
  std::vector<std::int32_t> told = file.ints("prompt_ids", 5).value();
  std::vector<std::int32_t> prompt = vocabulary.ids("Once upon a time");
  prompt.insert(prompt.begin(), examples::byte_pairs::beginning);
  CHECK(prompt == told);
  const std::size_t length = models::sanitized ? 10 : story.size();
  while (told.size() < length) {
    const rq::matrix<> x = examples::rows_of(model.tokens, told, "story").value();
    rq::index best = 0;
    rq::evaluate(p, x).value().bottomRows(1).row(0).maxCoeff(&best);
    told.push_back(static_cast<std::int32_t>(best));
  }
  CHECK(std::equal(told.begin(), told.end(), story.begin()));
}

TEST_CASE("stories260K reads its text as published", "[models]") {
  if (models::lacks("stories260k")) return;
  const examples::model_case m = examples::load_stories260k(models::data_dir()).value();
  if (models::sanitized) return;
  const quality q = quality_of(m.network, first(m.evaluation, 8));
  CHECK(q.count == 4088);
  CHECK(q.cross_entropy == Approx(1.387).margin(6e-4));
}

TEST_CASE("the GPT of characters gives its published logits", "[models]") {
  if (models::lacks("gpt_char4k")) return;
  const auto model =
      examples::load_gpt_char4k_weights(models::data_dir() + "/gpt_char4k/weights.safetensors").value();
  const rq::program p = rq::record(model, 64).value();
  const rq::safetensors file = golden("gpt_char4k/golden.safetensors");
  const std::vector<std::int32_t> ids = file.ints("ids", 129).value();
  const rq::matrix<> logits = rq::evaluate(p, model.sample(ids).value().input).value();
  const double d = difference(logits, file.matrix("logits", 128, 54).value());
  CAPTURE(d);
  CHECK(d < 1e-5);
  const examples::model_case m = examples::load_gpt_char4k(models::data_dir()).value();
  CHECK(quality_of(m.network, m.evaluation).cross_entropy == Approx(0.0698).margin(1e-3));
}

TEST_CASE("both towers of CLIP give their published embeddings", "[models]") {
  if (models::lacks("clip_tiny_multimodal")) return;
  const rq::safetensors file = golden("clip_tiny_multimodal/golden.safetensors");
  const examples::model_case m = examples::load_clip(models::data_dir()).value();
  rq::matrix<> captions = outputs(m.network, m.evaluation);
  captions.rowwise().normalize();
  const double of_text = difference(captions, file.matrix("caption_embeddings", 45, 128).value());

  const auto weights =
      examples::load_clip_weights(models::data_dir() + "/clip_tiny_multimodal/weights.safetensors").value();
  const rq::program image = rq::record(weights.image, 75).value();
  rq::matrix<> patches(256, 75);  // patches row by row, in a patch channel, row, column
  for (rq::index c = 0; c < 3; ++c) {
    for (rq::index y = 0; y < 80; ++y) {
      for (rq::index x = 0; x < 80; ++x) {
        patches(y / 5 * 16 + x / 5, c * 25 + y % 5 * 5 + x % 5) =
            static_cast<float>((7 * x + 13 * y + 29 * c) % 256) / 255.0F;
      }
    }
  }
  rq::matrix<> pattern = rq::evaluate(image, patches).value();
  pattern.rowwise().normalize();
  const double of_image = difference(pattern, file.matrix("pattern_image_embedding", 1, 128).value());
  CAPTURE(of_text, of_image);
  CHECK(of_text < 1e-5);
  CHECK(of_image < 1e-5);
}
