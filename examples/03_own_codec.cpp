// SPDX-License-Identifier: MIT
/// A codec of your own: weights that are -s, 0 or s. One params type and four functions; calibration and
/// GPTQ take it as it is.
#include <repquant/ptq.hpp>
#include <repquant/testing/codec_laws.hpp>

#include <cstdio>

namespace rq = repquant;

// [quote]
struct ternary {
  struct params {
    float scale;
  };
  int levels() const { return 3; }
  params fit(rq::range r) const { return {0.7F * std::max(-r.lo, r.hi)}; }
  std::int32_t encode(float x, params p) const { return x > p.scale / 2 ? 2 : x < -p.scale / 2 ? 0 : 1; }
  float decode(std::int32_t q, params p) const { return static_cast<float>(q - 1) * p.scale; }
};
static_assert(rq::Codec<ternary>);  // names the missing member if there is one
// [end]

static int fail(const rq::failure& f) {
  char sentence[192];
  rq::describe(f, sentence);
  std::fprintf(stderr, "%s\n", sentence);
  return 1;
}

int main() {
  if (const char* law = rq::testing::broken_law(ternary{}, {-1, 1})) return std::puts(law), 1;

  // A layer and the activations it sees: 64 channels that are mixtures of 8.
  std::srand(1);
  const rq::matrix<> w = rq::matrix<>::Random(32, 64);                                // [out x in]
  const rq::matrix<> x = rq::matrix<>::Random(500, 8) * rq::matrix<>::Random(8, 64);  // [tokens x in]
  const auto h = rq::gram_of(x);
  if (!h) return fail(h.error());

  const auto q = rq::fit(ternary{}, rq::per_group{32}, rq::min_max{}, w);
  if (!q) return fail(q.error());
  const auto rounded = rq::round_to_nearest{}(*q, w, *h);
  if (!rounded) return fail(rounded.error());
  const auto mended = rq::gptq{}(*q, w, *h);
  if (!mended) return fail(mended.error());

  const double all = (x * w.transpose()).cast<double>().squaredNorm();
  std::printf("squared output error at log2(3) = 1.58 bits a weight\n");
  std::printf("  rounded to nearest  %5.1f %%\n", 100 * rounded->report.loss / all);
  std::printf("  gptq                %5.1f %%\n", 100 * mended->report.loss / all);
  return mended->report.loss < rounded->report.loss ? 0 : 1;
}
