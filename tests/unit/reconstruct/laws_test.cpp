// SPDX-License-Identifier: MIT
#include <repquant/reconstruct/gptq.hpp>
#include <repquant/testing/host_laws.hpp>

#include "catch.hpp"
#include "problem.hpp"
#include <string>

namespace rq = repquant;

namespace {

/// The laws hold for logarithmic codes too.
template<class R>
void keeps_all_laws(const R& r) {
  problem::keeps_the_laws(r);
  problem::keeps_the_laws_for(r, rq::log2{4}, rq::per_row{});
  problem::keeps_the_laws_for(r, rq::log_sqrt2{4}, rq::per_row{});
}

/// Breaks one law each.
struct always_last {
  template<rq::Codec C, rq::Granularity G>
  rq::result<rq::reconstruction<C, G>> operator()(const rq::quantizer<C, G>& q, rq::matrix_view w,
                                                  const rq::gram& h) const {
    auto r = rq::round_to_nearest{}(q, w, h);
    if (!r) return r;
    rq::matrix<rq::code_type_t<C>> codes = r->weights.codes();
    codes.setConstant(static_cast<rq::code_type_t<C>>(q.codec().levels() - 1 + beyond));
    return rq::reconstruction<C, G>{rq::quantized<C, G>(q, codes), r->report};
  }
  int beyond = 0;
};
struct ignores_nan {
  template<rq::Codec C, rq::Granularity G>
  rq::result<rq::reconstruction<C, G>> operator()(const rq::quantizer<C, G>& q, rq::matrix_view w,
                                                  const rq::gram& h) const {
    rq::matrix<> clean = w.eigen();
    for (rq::index i = 0; i < clean.size(); ++i) {
      if (std::isnan(clean.data()[i])) clean.data()[i] = 0;
    }
    return rq::round_to_nearest{}(q, clean, h);
  }
};

}  // namespace

TEST_CASE("round_to_nearest and gptq keep the laws of a reconstructor", "[reconstruct]") {
  keeps_all_laws(rq::round_to_nearest{});
  keeps_all_laws(rq::gptq{});
  keeps_all_laws(rq::gptq{0.1, rq::column_order::natural, 7});
}

TEST_CASE("the laws of a reconstructor see what breaks them", "[reconstruct]") {
  const auto broken = [](const auto& r) {
    const char* law = rq::testing::broken_reconstructor_law(r, rq::uniform{4}, rq::per_row{});
    return std::string(law != nullptr ? law : "none");
  };
  CHECK(broken(always_last{1}) == "codes must be in range");
  CHECK(broken(always_last{0}) == "the output error must not exceed that of rounding to nearest");
  CHECK(broken(ignores_nan{}) == "NaN in the weight must be refused, with the count");
}
