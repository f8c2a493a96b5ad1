// SPDX-License-Identifier: MIT
/// A small LLaMA tells a story in integers, token by token with its keys and values kept as codes, beside the
/// float model: how fast both are, and where their stories part.
#include <repquant/block.hpp>
#include <repquant/infer/decoder.hpp>
#include <repquant/parallel/threads.hpp>

#include "models/stories260k.hpp"
#include "support/fail.hpp"
#include "support/float_decoder.hpp"
#include "support/options.hpp"
#include "support/progress.hpp"
#include "support/table.hpp"
#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <vector>

namespace {

namespace rq = repquant;
using clock_type = std::chrono::steady_clock;

constexpr const char* program = "generate";
constexpr rq::index positions = 512;

struct settings {
  std::string data;
  std::string prompt = "Once upon a time";
  int weight_bits = 8;
  int activation_bits = 8;
  int tokens = 120;
  int calibration = 16;
  int threads = 0;
};

/// A quantized model that is given one token at a time. All memory is taken at the start.
class integer_decoder {
 public:
  static rq::result<integer_decoder> make(const rq::quantized_model& m, rq::index most) {
    integer_decoder d;
    d.storage_.resize((rq::decoder::storage_bytes(m.view()) + 7) / 8);
    if (rq::failure f = d.decoder_.prepare(m.view(), std::as_writable_bytes(std::span(d.storage_)))) return f;
    d.memory_.resize(d.decoder_.cache_bytes(most));
    d.workspace_.resize(d.decoder_.workspace_bytes(most, 1));
    d.logits_.resize(static_cast<std::size_t>(m.view().header().output_cols));
    d.cache_ = {d.memory_, most};
    return d;
  }
  /// Logits of the token that follows the one whose row of the embedding is `x`.
  std::span<const float> step(std::span<const float> x) {
    decoder_.run(x.data(), 1, logits_, cache_, workspace_);
    return logits_;
  }
  [[nodiscard]] std::size_t cache_bytes_per_token() const { return decoder_.cache_bytes(32) / 32; }

 private:
  std::vector<std::uint64_t> storage_;
  std::vector<std::byte> memory_;
  std::vector<std::byte> workspace_;
  std::vector<float> logits_;
  rq::decoder decoder_;
  rq::token_cache cache_;
};

/// A story, and how fast it was told.
struct story {
  std::vector<std::int32_t> ids;
  double tokens_per_second = 0;
};

/// Appends the most likely token `count` times. step(id) -> logits of the token that follows.
template<class F>
story tell(std::vector<std::int32_t> prompt, int count, const F& step) {
  story s{std::move(prompt), 0};
  const auto start = clock_type::now();
  const auto end = s.ids.size() + static_cast<std::size_t>(count);
  for (std::size_t i = 0; s.ids.size() < end; ++i) {
    const auto logits = step(s.ids[i]);
    if (i + 1 < s.ids.size()) continue;  // still reading
    const auto best = std::max_element(logits.begin(), logits.end());
    s.ids.push_back(static_cast<std::int32_t>(best - logits.begin()));
  }
  const double seconds = std::chrono::duration<double>(clock_type::now() - start).count();
  s.tokens_per_second = static_cast<double>(s.ids.size() - 1) / seconds;
  return s;
}

/// Of the tokens of a told story behind its prompt, how many a model would have told, too, at their place.
template<class F>
int tokens_agreed(const story& told, std::size_t prompt, const F& step) {
  int agreed = 0;
  for (std::size_t i = 0; i + 1 < told.ids.size(); ++i) {
    const auto logits = step(told.ids[i]);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    if (i + 1 >= prompt && best == told.ids[i + 1]) ++agreed;
  }
  return agreed;
}

rq::failure run(const settings& s) {
  auto sources = examples::load_stories260k(s.data);
  if (!sources) return sources.error();
  const auto weights = examples::load_stories260k_weights(s.data + "/stories260k/stories260K.bin");
  if (!weights) return weights.error();
  const auto vocabulary = examples::byte_pairs::read(s.data + "/stories260k/tok512.bin", 512);
  if (!vocabulary) return vocabulary.error();

  std::vector<rq::matrix<>> samples;
  for (int i = 0; i < s.calibration && i < static_cast<int>(sources->calibration.size()); ++i)
    samples.push_back(sources->calibration[static_cast<std::size_t>(i)].input);
  examples::progress bar;
  bar.begin("quantize");
  const auto model = rq::quantize_program(
      sources->network, std::span<const rq::matrix<>>(samples),
      rq::with_bits(rq::repquant_recipe{}, s.weight_bits, s.activation_bits), rq::threads{.count = s.threads},
      [&](rq::index done, rq::index all) { return bar(done, all); });
  bar.end();
  if (!model) return model.error();

  std::vector<std::int32_t> prompt = vocabulary->ids(s.prompt);
  prompt.insert(prompt.begin(), examples::byte_pairs::beginning);
  const auto length = static_cast<rq::index>(prompt.size()) + s.tokens;
  if (length > positions) return {rq::errc::too_large, "prompt and tokens", length, positions};

  const auto row_of = [&](std::int32_t id) { return rq::matrix_view(weights->tokens).row(id); };
  auto integer = integer_decoder::make(*model, length);
  auto again = integer_decoder::make(*model, length);
  if (!integer) return integer.error();
  if (!again) return again.error();
  examples::float_decoder in_float(*weights, length);
  const story of_float = tell(prompt, s.tokens, [&](std::int32_t id) {
    const rq::matrix<>& y = in_float.step(id);
    return std::span<const float>(y.data(), static_cast<std::size_t>(y.size()));
  });
  const story of_codes = tell(prompt, s.tokens, [&](std::int32_t id) { return integer->step(row_of(id)); });
  const int agreed =
      tokens_agreed(of_float, prompt.size(), [&](std::int32_t id) { return again->step(row_of(id)); });

  const auto parted = std::mismatch(of_float.ids.begin(), of_float.ids.end(), of_codes.ids.begin()).first;
  const auto same = parted - of_float.ids.begin() - static_cast<std::ptrdiff_t>(prompt.size());
  const std::string bits = "W" + std::to_string(s.weight_bits) + "A" + std::to_string(s.activation_bits);
  std::printf("float:  %s\n\n%s:   %s\n\n", vocabulary->text(of_float.ids).c_str(), bits.c_str(),
              vocabulary->text(of_codes.ids).c_str());
  std::printf(
      "The two stories are the same for %td of %d tokens. Given the float story so far, the integer model "
      "tells the same token %d times of %d.\n\n",
      same, s.tokens, agreed, s.tokens);
  rq::index parameters = 0;
  for (const rq::linear& l : sources->network.linears) parameters += l.weight.size();
  const auto kv_cols = weights->blocks.front().k.out();
  examples::table table(
      {{"engine", examples::align::left}, {"tokens/s"}, {"bytes of weights"}, {"cache bytes a token"}});
  table.row(
      {"float", examples::fixed(of_float.tokens_per_second, 0), examples::thousands(4 * parameters),
       examples::thousands(static_cast<std::int64_t>(2 * weights->blocks.size() * sizeof(float)) * kv_cols)});
  table.row({bits + " integer", examples::fixed(of_codes.tokens_per_second, 0),
             examples::thousands(static_cast<std::int64_t>(model->packed_bytes())),
             examples::thousands(static_cast<std::int64_t>(integer->cache_bytes_per_token()))});
  table.print(stdout);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  examples::options o(program, "quantizes a small language model and lets it tell a story in integers.");
  o.add("data", "DIR", "the folder that holds stories260k (docs/accuracy.md)", s.data);
  o.add("prompt", "TEXT", "how the story begins", s.prompt);
  o.add("weight-bits", "N", "width of weights", s.weight_bits, 2, 8);
  o.add("activation-bits", "N", "width of activations", s.activation_bits, 2, 8);
  o.add("tokens", "N", "tokens to tell", s.tokens, 1, static_cast<int>(positions) - 1);
  o.add("calibration", "N", "windows of 511 tokens to calibrate with", s.calibration, 1, 64);
  o.add("threads", "N", "threads to quantize with, 0 for all cores", s.threads, 0, 256);
  if (const auto code = o.parse(argc, argv)) return *code;
  if (s.data.empty()) {
    return examples::fail(
        program, "needs --data DIR, a directory with the trained models that docs/accuracy.md lists");
  }
  if (const rq::failure f = run(s)) return examples::fail(program, f);
  return 0;
}
