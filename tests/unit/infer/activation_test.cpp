// SPDX-License-Identifier: MIT
#include <repquant/infer/activation.hpp>

#include "catch.hpp"
#include "oracle/infer.hpp"

namespace rq = repquant;

TEST_CASE("activate applies the named function to every length of row") {
  for (std::size_t n = 0; n < 70; ++n) {
    std::vector<float> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = 0.37F * static_cast<float>(i) - 8.0F;
    for (rq::activation f :
         {rq::activation::relu, rq::activation::gelu_erf, rq::activation::gelu_tanh, rq::activation::silu}) {
      std::vector<float> wide(n);
      std::vector<float> scalar(n);
      rq::activate(f, x, wide);
      rq::activate<rq::scalar_arch>(f, x, scalar);
      std::vector<float> in_place = x;
      rq::activate(f, in_place, in_place);
      CHECK((oracle::same_bits(wide, scalar) && oracle::same_bits(wide, in_place)));
      double worst = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double v = static_cast<double>(x[i]);
        const double want = f == rq::activation::relu        ? std::fmax(v, 0.0)
                            : f == rq::activation::gelu_erf  ? oracle::gelu_erf(v)
                            : f == rq::activation::gelu_tanh ? oracle::gelu_tanh(v)
                                                             : oracle::silu(v);
        worst = std::fmax(worst, std::fabs(wide[i] - want) / std::fmax(1.0, std::fabs(v)));
      }
      CHECK(worst <= 2.5e-7);  // elementary.hpp; the functions differ from each other by 1e-4 and more
    }
  }
}
