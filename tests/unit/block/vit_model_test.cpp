// SPDX-License-Identifier: MIT
/// The vision transformer through the whole way: the traced float function, what the folds kept, the
/// reconstruction of every layer, and the same network with unbalanced norms.
#include <repquant/io/safetensors.hpp>

#include "catch.hpp"
#include "oracle/gptq.hpp"
#include "unit/block/vit.hpp"

namespace rq = repquant;

namespace {

oracle::double_rows table_of(const rq::matrix<double>& m) {
  oracle::double_rows t(static_cast<std::size_t>(m.rows()));
  for (rq::index i = 0; i < m.rows(); ++i)
    t[static_cast<std::size_t>(i)].assign(m.row(i).data(), m.row(i).data() + m.cols());
  return t;
}

/// W - Q in double, from the quantizer's parameters and the codes.
template<class G>
oracle::double_rows difference(const rq::matrix_view& w, const rq::quantized<rq::uniform, G>& q) {
  rq::matrix<double> d(w.rows(), w.cols());
  for (rq::index i = 0; i < w.rows(); ++i) {
    for (rq::index j = 0; j < w.cols(); ++j) {
      const rq::affine p = q.quantizer().params_of(i, j);
      d(i, j) = static_cast<double>(w(i, j)) -
                static_cast<double>(static_cast<float>(q.codes()(i, j) - p.zero_point) * p.scale);
    }
  }
  return table_of(d);
}

/// What the reconstruction of one layer achieved, in the oracle's terms.
struct layer_result {
  rq::index out = 0;
  rq::index in = 0;
  double nearest = 0;     ///< output error of rounding to nearest under the same quantizer and inputs
  double gptq = 0;        ///< output error of gptq
  double reported = 0;    ///< what gptq says of it
  double damped = 0;      ///< tr(D (H + damping) D^T)
  double by_columns = 0;  ///< the same as gptq sums it up, column by column: sum of (e / U_jj)^2
};

/// gptq, with notes on every layer it was given: the quantizer, the folded weights and the Gram matrix of
/// codes are those of the quantization it is part of.
struct watched_gptq {
  std::vector<layer_result>* notes = nullptr;

  template<class C, class G>
  rq::result<rq::reconstruction<C, G>> operator()(const rq::quantizer<C, G>& q, rq::matrix_view w,
                                                  const rq::gram& h) const {
    const rq::result<rq::reconstruction<C, G>> answer = rq::gptq{}(q, w, h);
    const auto rounded = rq::round_to_nearest{}(q, w, h);
    if (!answer || !rounded || notes == nullptr) return answer;
    const oracle::double_rows gram = table_of(h.sum);
    const oracle::double_rows d = difference(w, answer->weights);
    double live = 0;
    double trace = 0;
    for (rq::index j = 0; j < h.size(); ++j) {
      live += h.sum(j, j) != 0 ? 1 : 0;
      trace += h.sum(j, j);
    }
    oracle::double_rows damped = gram;
    for (std::size_t j = 0; j < damped.size(); ++j)
      damped[j][j] += damped[j][j] != 0 ? answer->report.damping * trace / live : 0;
    notes->push_back({w.rows(), w.cols(), oracle::quadratic(difference(w, rounded->weights), gram),
                      oracle::quadratic(d, gram), answer->report.loss, oracle::quadratic(d, damped),
                      answer->report.damped_loss});
    return answer;
  }
};
struct watched_recipe : rq::repquant_recipe {
  watched_gptq solver;
};

rq::index class_of(const rq::matrix<>& logits) {
  rq::index c = 0;
  logits.row(0).maxCoeff(&c);
  return c;
}

}  // namespace

TEST_CASE("the traced vision transformer is the published one", "[block][vit]") {
  const rq::program p = networks::vit_program();
  const rq::safetensors golden =
      rq::safetensors::open(networks::example_data() + "/vit_golden.safetensors").value();
  const rq::matrix<> want = golden.matrix("dev_logits_first64", 64, 10).value();
  const networks::samples images = networks::patches_of(networks::vit_images().evaluation, 64);
  float from_golden = 0;
  float from_plain = 0;
  for (rq::index i = 0; i < 64; ++i) {
    const rq::matrix<>& x = images[static_cast<std::size_t>(i)];
    const rq::matrix<> y = rq::evaluate(p, x).value();
    REQUIRE(y.rows() == 1);
    from_golden = std::max(from_golden, (y - want.row(i)).cwiseAbs().maxCoeff());
    const rq::column<> plain = examples::logits(networks::vit_weights(), x);
    from_plain = std::max(from_plain, (y.transpose() - plain).cwiseAbs().maxCoeff());
  }
  CAPTURE(from_golden, from_plain);
  CHECK(from_golden < 1e-4F);
  CHECK(from_plain < 1e-4F);
}

TEST_CASE("folding the vision transformer keeps its function and its codes", "[block][vit]") {
  const networks::samples calibration = networks::calibration_images(16);
  examples::vit_weights unbalanced = networks::vit_weights();
  examples::unbalance(unbalanced);
  for (const bool plain : {true, false}) {
    for (const int bits : {8, 4}) {
      const rq::program p = plain ? networks::vit_program() : networks::vit_program(unbalanced);
      const auto m = networks::quantize(p, calibration, "repq", bits, bits);
      REQUIRE(m);
      // ln1 and ln2 of four blocks; the last norm is read through select_row, so it is not folded
      REQUIRE(m->report().folds.size() == 8);
      for (const rq::fold_report& f : m->report().folds) {
        const rq::equivalence& e = f.measured;
        CAPTURE(plain, bits, f.path, e.largest_relative, e.codes, e.codes_differ, e.near_ties);
        CHECK(e.codes == 8 * 50 * 64);  // eight samples
        CHECK(e.largest_relative < 1e-5);
        CHECK(e.codes_broken == 0);
        CHECK(e.codes_differ == e.near_ties);
      }
    }
  }
}

TEST_CASE("gptq on every layer of the vision transformer", "[block][vit]") {
  const networks::samples calibration = networks::calibration_images(32);
  for (const int bits : {4, 8}) {
    std::vector<layer_result> solved;
    watched_recipe r;
    r.weight.bits = r.activation.bits = bits;
    r.solver.notes = &solved;
    r.weight_range_by_output = false;  // one run of the solver for each layer
    r.scale_rounds = 0;
    const rq::program p = networks::vit_program();
    const auto m = rq::quantize_program(p, calibration, r, networks::executor{});
    REQUIRE(m);
    REQUIRE(solved.size() == 26);
    REQUIRE(m->report().weights.size() == 26);
    for (std::size_t i = 0; i < solved.size(); ++i) {
      const layer_result& l = solved[i];
      CAPTURE(bits, m->report().weights[i].path, l.nearest, l.gptq, l.reported, l.damped, l.by_columns);
      CHECK(l.gptq < l.nearest);
      // sums of up to 128 128 128 doubles in another order differ by far less than 1e-6
      CHECK(l.by_columns == Approx(l.damped).epsilon(1e-6));
      CHECK(l.reported == Approx(l.gptq).epsilon(1e-6));
      CHECK_FALSE(m->report().weights[i].reconstruction.rounded_to_nearest);
    }
  }
}

TEST_CASE("unbalanced norms change next to nothing", "[block][vit]") {
  const networks::samples calibration = networks::calibration_images(32);
  const networks::samples images =
      networks::patches_of(networks::vit_images().evaluation, networks::image_count(100));
  examples::vit_weights unbalanced = networks::vit_weights();
  examples::unbalance(unbalanced);
  const auto classes = [&](const examples::vit_weights& w, const char* recipe) {
    const auto m = networks::quantize(networks::vit_program(w), calibration, recipe, 4, 4);
    REQUIRE(m);
    std::vector<rq::index> c;
    for (const rq::matrix<>& x : images) c.push_back(class_of(m->run(x).value()));
    return c;
  };
  const auto same = [](const std::vector<rq::index>& a, const std::vector<rq::index>& b) {
    rq::index n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) n += a[i] == b[i] ? 1 : 0;
    return static_cast<double>(n) / static_cast<double>(a.size());
  };
  const std::vector<rq::index> plain = classes(networks::vit_weights(), "repquant");
  // The channels' scales are moved by powers of two, and so is all that was unbalanced.
  CHECK(same(plain, classes(unbalanced, "repquant")) >= 0.98);
  CHECK(same(classes(networks::vit_weights(), "repq"), classes(unbalanced, "repq")) >= 0.98);
  // what the channel-wise parameters are for: one scale for all channels loses most classes
  CHECK(same(plain, classes(unbalanced, "naive")) < 0.5);
}
