// SPDX-License-Identifier: MIT
/// For the person with a block: write its float function once, quantize it on a few samples, run it in
/// integers, save it.
#include <repquant/block.hpp>

#include <cstdio>
#include <vector>

namespace rq = repquant;

namespace {

// [quote]
struct mlp {
  rq::layer_norm ln;
  rq::linear fc1, fc2;
  rq::value forward(rq::trace& t, rq::value x) const {
    const rq::value h = t.activate(rq::activation::gelu_erf, t.linear("fc1", fc1, t.norm("ln", ln, x)));
    return t.add(x, t.linear("fc2", fc2, h));
  }
};
rq::result<rq::quantized_model> quantize(const mlp& block, std::span<const rq::matrix<>> samples) {
  return rq::quantize_block(block, samples, rq::with_bits(rq::repquant_recipe{}, 4, 8));  // W4A8
}
// [end]

int fail(const rq::failure& f) {
  char sentence[192];
  rq::describe(f, sentence);
  std::fprintf(stderr, "%s\n", sentence);
  return 1;
}

}  // namespace

int main() {
  std::srand(1);
  const rq::index d = 64;
  mlp block{{rq::column<>::Ones(d), rq::column<>::Zero(d)},
            {rq::matrix<>::Random(2 * d, d) / 8, rq::column<>::Random(2 * d)},
            {rq::matrix<>::Random(d, 2 * d) / 8, rq::column<>::Random(d)}};
  block.ln.gamma(7) = 20;  // a channel that is much larger than the others
  std::vector<rq::matrix<>> samples(32);
  for (rq::matrix<>& x : samples) x = rq::matrix<>::Random(16, d);  // [tokens x channels]

  const auto model = quantize(block, samples);
  if (!model) return fail(model.error());
  const auto again = rq::quantized_model::load(model->bytes());  // save these bytes, load them anywhere
  if (!again) return fail(again.error());

  const rq::matrix<> x = rq::matrix<>::Random(16, d);
  const auto integer = again->run(x);
  const auto floats = rq::evaluate(*rq::record(block, d), x);
  if (!integer || !floats) return 1;
  const double error = (*integer - *floats).squaredNorm() / floats->squaredNorm();
  std::printf("%zu bytes packed, squared error %.2f %% of the float output\n", model->packed_bytes(),
              100 * error);
  for (const rq::site_report& s : model->report().sites) {
    std::printf("  %-8s %d bits, %s\n", s.path.c_str(), s.bits, s.codec.c_str());
  }
  return error < 0.05 ? 0 : 1;
}
