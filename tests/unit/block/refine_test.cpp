// SPDX-License-Identifier: MIT
#include <repquant/block/refine.hpp>

#include "catch.hpp"
#include "vit.hpp"
#include <algorithm>
#include <atomic>

namespace rq = repquant;

namespace {

using networks::same_bytes;
using networks::samples;

rq::result<rq::quantized_model> refine(const rq::program& p, const rq::quantized_model& m, const samples& x,
                                       const rq::refinement& o, networks::executor exec = {},
                                       const rq::refine_progress& progress = {},
                                       std::span<const std::vector<rq::index>> rows = {}) {
  return rq::refine(p, m, x, rows, o, exec, progress);
}

rq::refinement short_settings() {
  rq::refinement o;
  o.block_steps = 6;
  o.end_to_end_steps = 6;
  o.batch = 3;
  o.at_once = 2;
  o.checks = 3;
  o.weight_rate = 0.05F;
  o.held_back = 0.25F;
  return o;
}

double divergence(const rq::program& p, const rq::quantized_model& m, std::span<const rq::matrix<>> x) {
  double sum = 0;
  for (const rq::matrix<>& s : x) {
    const rq::matrix<> target = rq::evaluate(p, s).value();
    const rq::matrix<> y = m.run(s).value();
    for (rq::index i = 0; i < y.rows(); ++i) {
      const Eigen::ArrayXd a = target.row(i).cast<double>().transpose().array();
      const Eigen::ArrayXd b = y.row(i).cast<double>().transpose().array();
      const Eigen::ArrayXd la = a - std::log((a - a.maxCoeff()).exp().sum()) - a.maxCoeff();
      const Eigen::ArrayXd lb = b - std::log((b - b.maxCoeff()).exp().sum()) - b.maxCoeff();
      sum += (la.exp() * (la - lb)).sum() / static_cast<double>(y.rows());
    }
  }
  return sum / static_cast<double>(x.size());
}

/// A model as refine() sees it.
struct opened {
  rq::detail::refine_flow flow;
  rq::detail::refine_parameters parameters;

  opened(const rq::program& p, const rq::quantized_model& m, const rq::refinement& o = {}) {
    REQUIRE_FALSE(rq::detail::make_flow(p, m.view(), flow));
    REQUIRE_FALSE(rq::detail::read_parameters(m.view(), flow, o, parameters));
  }
  rq::quantized_model written(const rq::quantized_model& m) const {
    return rq::quantized_model::load(rq::detail::write_model(m.view(), flow, parameters).value()).value();
  }
};

/// The feedback of all codes: blocks, orders, units and reaches.
std::vector<std::string> feedback_of(const rq::quantized_model& m) {
  std::vector<std::string> all;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind != rq::opcode::encode || s.inner == 0) continue;
    all.push_back(std::to_string(s.inner));
    for (const int k : {1, 2, 3}) {
      const auto bytes = m.view().numbers<char>(s.data[k], rq::model_view::data_bytes(s, k));
      all.emplace_back(bytes.begin(), bytes.end());
    }
  }
  return all;
}

rq::program program_of(const std::string& name) {
  if (name == "decoder") return networks::decoder_program();
  if (name == "post-norm") return networks::post_norm();
  return networks::encoder_program();
}

}  // namespace

TEST_CASE("refine: parameters are written back as the model they were read from", "[block][refine]") {
  // no step is taken, so every code, scale and zero point must come back through the parametrisation
  const std::string name = GENERATE("encoder", "decoder", "post-norm");
  const std::string recipe = GENERATE("naive", "repquant", "feedback");
  INFO(name << ", " << recipe);
  const rq::program p = program_of(name);
  const samples x = networks::random_samples(4, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, recipe, 4, 4).value();
  opened now(p, m);
  const rq::detail::refine_flow& flow = now.flow;
  rq::detail::refine_parameters& parameters = now.parameters;
  const rq::quantized_model again = now.written(m);
  REQUIRE(again.view().instructions().size() == m.view().instructions().size());
  for (const rq::matrix<>& s : x) CHECK(again.run(s).value() == m.run(s).value());
  CHECK(feedback_of(again) == feedback_of(m));
  // and the tape computes what the integers do, up to codes at a tie
  std::vector<rq::detail::refine_leaf_set> leaves(flow.code.size());
  const rq::detail::refine_forward forward{
      m.view(), flow, parameters, leaves, std::vector<bool>(flow.code.size(), false), 0};
  rq::detail::refine_forward::pass pass;
  pass.start(flow.code.size() + 1);
  pass.values[0] = pass.t.constant(x[0]);
  for (std::size_t i = 0; i < flow.code.size(); ++i) {
    rq::detail::make_leaves(flow, parameters, static_cast<int>(i), leaves[i]);
    forward.run(pass, static_cast<int>(i));
  }
  const rq::matrix<> have = pass.t.value(pass.values[static_cast<std::size_t>(flow.output)]);
  const rq::matrix<> want = m.run(x[0]).value();
  CHECK((have - want).norm() <= 0.05F * want.norm());
  CHECK((have - want).cwiseAbs().redux([](float a, float b) { return std::min(a, b); }) <= 1e-4F);
}

TEST_CASE("refine: scales that grow leave the meaning of a model as it is", "[block][refine]") {
  // every site's scale grows by a quarter at two widths more than it needs: the function stays about the
  // same, which it does not if one reader misses its factor
  const std::string name = GENERATE("encoder", "decoder", "post-norm");
  const rq::program p = program_of(name);
  const samples x = networks::random_samples(4, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 8, 8).value();
  opened now(p, m);
  const rq::detail::refine_flow& flow = now.flow;
  rq::detail::refine_parameters& parameters = now.parameters;
  int moved = 0;
  for (std::size_t i = 0; i < flow.code.size(); ++i) {
    if (flow.code[i].kind != rq::opcode::encode) continue;
    REQUIRE_FALSE(parameters.units[i].counted);
    parameters[parameters.units[i].first].x.setConstant(std::log(1.25F));
    parameters[parameters.units[i].second].x.array() *= 0.8F;
    ++moved;
  }
  CHECK(moved >= 6);
  const rq::quantized_model grown = now.written(m);
  samples before;
  samples after;
  samples real;
  for (const rq::matrix<>& s : x) {
    before.push_back(m.run(s).value());
    after.push_back(grown.run(s).value());
    real.push_back(rq::evaluate(p, s).value());
  }
  CHECK(before[0] != after[0]);
  CHECK(networks::decibels(real, after) > networks::decibels(real, before) - 5);
}

TEST_CASE("refine: zero points that move leave the meaning of a model as it is", "[block][refine]") {
  // one code up, all of them, where there is room: what linear layers read per column is made good by
  // offsets, the rest by the readers' zero points
  const std::string name = GENERATE("encoder", "decoder", "post-norm");
  const rq::program p = program_of(name);
  const samples x = networks::random_samples(4, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "repquant", 8, 8).value();
  opened now(p, m);
  const rq::detail::refine_flow& flow = now.flow;
  rq::detail::refine_parameters& parameters = now.parameters;
  int counted = 0;
  for (std::size_t i = 0; i < flow.code.size(); ++i) {
    if (flow.code[i].kind != rq::opcode::encode) continue;
    rq::detail::refine_parameter& zero = parameters[parameters.units[i].second];
    zero.x = (zero.x.array() + 1.0F).matrix().cwiseMin(zero.highest);
    counted += parameters.units[i].counted ? 1 : 0;
  }
  CHECK(counted >= 1);
  const rq::quantized_model moved = now.written(m);
  samples before;
  samples after;
  for (const rq::matrix<>& s : x) {
    before.push_back(m.run(s).value());
    after.push_back(moved.run(s).value());
  }
  CHECK_FALSE(same_bytes(m, moved));
  CHECK(networks::decibels(before, after) > 30);
}

TEST_CASE("refine: gradients of parameters are those of the loss", "[block][refine]") {
  // scales, offsets and score factors behind the last rounding have true gradients: those of the last layers
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(4, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 6, 6).value();
  opened now(p, m);
  const rq::detail::refine_flow& flow = now.flow;
  rq::detail::refine_parameters& parameters = now.parameters;
  std::vector<rq::detail::refine_leaf_set> leaves(flow.code.size());
  const rq::detail::refine_forward forward{
      m.view(), flow, parameters, leaves, std::vector<bool>(flow.code.size(), true), 0};
  const rq::matrix<> target = rq::evaluate(p, x[0]).value();
  rq::detail::refine_forward::pass pass;
  const auto loss = [&] {
    pass.start(flow.code.size() + 1);
    pass.values[0] = pass.t.constant(x[0]);
    for (std::size_t i = 0; i < flow.code.size(); ++i) {
      rq::detail::make_leaves(flow, parameters, static_cast<int>(i), leaves[i]);
      forward.run(pass, static_cast<int>(i));
    }
    return rq::differentiable::mean_squared_error(pass.t, pass.values[static_cast<std::size_t>(flow.output)],
                                                  target);
  };
  pass.t.backward(loss());
  for (rq::detail::refine_parameter& q : parameters.all) q.gradient.setZero(q.x.rows(), q.x.cols());
  std::size_t last = 0;
  for (std::size_t i = 0; i < flow.code.size(); ++i) {
    for (std::size_t l = 0; l < rq::detail::refine_leaf_set::most; ++l) {
      if (leaves[i].value[l].size() != 0) leaves[i].gradient[l] = pass.t.gradient(pass.leaf[i][l]);
    }
    rq::detail::pull_back(flow, parameters, static_cast<int>(i), leaves[i]);
    if (flow.code[i].kind == rq::opcode::linear) last = i;
  }
  const auto check = [&](int parameter, float h) {
    rq::detail::refine_parameter& q = parameters[parameter];
    for (rq::index k = 0; k < q.x.size(); ++k) {
      const float center = q.x.data()[k];
      q.x.data()[k] = center + h;
      const double above = static_cast<double>(pass.t.value(loss())(0, 0));
      q.x.data()[k] = center - h;
      const double below = static_cast<double>(pass.t.value(loss())(0, 0));
      q.x.data()[k] = center;
      const double want = (above - below) / (2 * static_cast<double>(h));
      CHECK(static_cast<double>(q.gradient.data()[k]) == Approx(want).epsilon(0.02).margin(1e-5));
    }
  };
  check(parameters.units[last].second, 0.01F);
  check(parameters.units[last].third, 0.01F);
  for (const rq::detail::refine_parameter& q : parameters.all) {
    CHECK(q.gradient.allFinite());
    // min-max ranges clamp nothing, and only clamped values depend on a zero point
    const bool moves = q.kind != rq::detail::refined::zero;
    CHECK((q.gradient.cwiseAbs().maxCoeff() > 0) == moves);
  }
}

TEST_CASE("refine: every kind of block, any number of threads, never worse", "[block][refine]") {
  const std::string name = GENERATE("encoder", "decoder", "post-norm");
  const std::string recipe = GENERATE("naive", "repquant", "feedback");
  INFO(name << ", " << recipe);
  const rq::program p = program_of(name);
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, recipe, 4, 4).value();
  const rq::refinement o = short_settings();
  const rq::quantized_model one = refine(p, m, x, o).value();
  const rq::quantized_model two = refine(p, m, x, o, {.count = 3}).value();
  CHECK(same_bytes(one, two));
  rq::refinement more = o;
  more.at_once = 5;
  CHECK(same_bytes(one, refine(p, m, x, more).value()));
  const std::span<const rq::matrix<>> held = std::span(x).last(2);
  CHECK(divergence(p, one, held) <= divergence(p, m, held) * (1 + 1e-6));
  for (const rq::matrix<>& s : x) CHECK(one.run(s).value() == one.simulate(s).value());
  CHECK(one.report().sites.size() == m.report().sites.size());
  CHECK(feedback_of(one) == feedback_of(m));
  CHECK(one.packed_bytes() <= m.packed_bytes() + 4096);  // equal constants may have become different
}

TEST_CASE("refine: samples from a source, any number of threads, never worse", "[block][refine]") {
  const std::string name = GENERATE("encoder", "decoder");
  const rq::program p = program_of(name);
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "repquant", 4, 4).value();
  rq::refinement o = short_settings();
  o.block_steps = 0;
  o.end_to_end_steps = 20;
  o.step_back = 1;
  o.weight_rate = 1;
  o.scale_rate = 5e-4F;
  o.zero_rate = 0.02F;
  o.offset_rate = 1e-3F;
  o.held_back = 0;  // eight samples teach nothing general: what they teach about themselves is enough
  const rq::refinement_source noisy = [&x](std::uint64_t number) {
    rq::splitmix64 random = rq::splitmix64::of(3, number);
    rq::refinement_sample s{x[static_cast<std::size_t>(random.below(8))], {}};
    for (rq::index k = 0; k < s.input.size(); ++k) s.input.data()[k] += 0.2F * (random.unit() - 0.5F);
    s.rows = {random.below(7)};
    return s;
  };
  bool different = false;
  for (const float hidden : {0.0F, 0.5F}) {
    o.hidden_weight = hidden;
    o.source = {};
    const rq::quantized_model fixed = refine(p, m, x, o).value();
    o.source = noisy;
    const rq::quantized_model one = refine(p, m, x, o).value();
    CHECK(same_bytes(one, refine(p, m, x, o, {.count = 3}).value()));
    rq::refinement more = o;
    more.at_once = 5;
    CHECK(same_bytes(one, refine(p, m, x, more).value()));
    different = different || !same_bytes(one, fixed);
    for (const rq::quantized_model* q : {&one, &fixed})
      CHECK(divergence(p, *q, x) <= divergence(p, m, x) * (1 + 1e-6));
  }
  CHECK(different);
  // every number once, and no other: batches of 3 in 20 steps
  std::vector<std::atomic<int>> asked(60);
  o.source = [&](std::uint64_t number) {
    ++asked.at(number);
    return rq::refinement_sample{x[number % 8], {}};
  };
  REQUIRE(refine(p, m, x, o, {.count = 2}));
  for (const std::atomic<int>& n : asked) CHECK(n == 1);
}

TEST_CASE("refine: the vision transformer's divergence falls on images held back", "[block][refine]") {
  const rq::program p = networks::vit_program();
  const samples x = networks::calibration_images(64);
  const networks::executor exec{.count = 2};
  const rq::quantized_model m = networks::quantize(p, x, "naive", 4, 4, exec).value();
  rq::refinement o;
  o.block_steps = 12;
  o.end_to_end_steps = 12;
  o.checks = 4;
  o.held_back = 0.25F;
  std::vector<rq::refinement_status> told;
  const rq::quantized_model better = refine(p, m, x, o, exec, [&](const rq::refinement_status& s) {
                                       told.push_back(s);
                                       return true;
                                     }).value();
  const std::span<const rq::matrix<>> held = std::span(x).last(x.size() / 4);
  CHECK(divergence(p, better, held) < 0.9 * divergence(p, m, held));
  REQUIRE(told.size() == static_cast<std::size_t>(told.front().steps));
  CHECK(told.back().done == told.back().steps);
  for (const rq::refinement_status& s : told) CHECK(s.best <= s.start);
  const rq::quantized_model loaded = rq::quantized_model::load(better.bytes()).value();
  CHECK(loaded.run(x[0]).value() == better.run(x[0]).value());
  CHECK(better.simulate(x[0]).value() == better.run(x[0]).value());
}

TEST_CASE("refine: ranges are cut at the residual values between numbered scopes", "[block][refine]") {
  const rq::program p = networks::vit_program();
  const samples x = networks::calibration_images(4);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 8, 8).value();
  rq::detail::refine_flow flow;
  REQUIRE_FALSE(rq::detail::make_flow(p, m.view(), flow));
  REQUIRE(flow.ranges.size() == 6);  // patches, four blocks, head
  std::size_t instructions = 0;
  for (std::size_t r = 0; r < flow.ranges.size(); ++r) {
    if (r > 0) CHECK(flow.ranges[r].input == flow.ranges[r - 1].output);
    instructions += flow.ranges[r].code.size();
  }
  CHECK(instructions == flow.code.size());
  CHECK(flow.ranges.back().output == flow.output);
  CHECK(rq::detail::numbered_scope("block.3.attn.q") == "block.3.");
  CHECK(rq::detail::numbered_scope("a.block.12.4.q") == "a.block.12.");
  CHECK(rq::detail::numbered_scope("head").empty());
  CHECK(rq::detail::numbered_scope("norm2.q").empty());
}

TEST_CASE("refine: a weight that two calls share stays one", "[block][refine]") {
  const rq::program p = rq::record(networks::block{[](rq::trace& t, rq::value x) {
                                     const rq::encoder_block b = networks::random_encoder(16, 32, 2, 3);
                                     for (rq::index i = 0; i < 2; ++i) {
                                       const auto scope = t.scope("call", i);
                                       x = b.forward(t, x);
                                     }
                                     return x;
                                   }},
                                   16)
                            .value();
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 4, 4).value();
  rq::refinement o = short_settings();
  o.block_steps = 0;  // they leave alone what other blocks use, too
  o.end_to_end_steps = 60;
  o.weight_rate = 30;  // the start's error is small, and rates go with its root
  o.scale_rate = 0.2F;
  o.zero_rate = 4;
  o.offset_rate = 0.2F;
  o.held_back = 0;  // eight samples teach nothing general: what they teach about themselves is enough
  o.batch = 8;
  o.checks = 10;
  o.loss = rq::refinement_loss::squared_error;
  const auto weights_of = [](const rq::quantized_model& q) {
    std::vector<std::uint64_t> offsets;
    for (const rq::instruction& s : q.view().instructions()) {
      if (s.kind == rq::opcode::linear) offsets.push_back(s.data[0]);
    }
    return offsets;
  };
  REQUIRE(weights_of(m)[0] == weights_of(m)[6]);  // or this test shows nothing
  const auto codes = [](const rq::quantized_model& q, std::uint64_t at) {
    return rq::matrix<>(rq::detail::read_matrix<std::uint8_t>(q.view(), at, 16, 16));
  };
  bool moved = false;
  for (const float rate : {0.3F, 1.0F}) {
    o.end_to_end_rate = rate;
    const rq::quantized_model r = refine(p, m, x, o).value();
    const std::vector<std::uint64_t> w = weights_of(r);
    REQUIRE(w.size() == 12);
    for (std::size_t k = 0; k < 6; ++k) CHECK(w[k] == w[k + 6]);
    moved = moved || codes(r, w[0]) != codes(m, weights_of(m)[0]);
  }
  CHECK(moved);
}

TEST_CASE("refine: a model that training makes worse comes back as it was", "[block][refine]") {
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "repquant", 8, 8).value();
  rq::refinement o = short_settings();
  o.weight_rate = 5e4F;
  o.scale_rate = 2e3F;
  const rq::quantized_model same = refine(p, m, x, o).value();
  CHECK(same_bytes(same, m));
}

TEST_CASE("refine: rows that count, squared error, and weights between codes", "[block][refine]") {
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 4, 4).value();
  rq::refinement o = short_settings();
  const std::vector<std::vector<rq::index>> rows(x.size(), {1, 6});
  const rq::quantized_model all = refine(p, m, x, o).value();
  const rq::quantized_model some = refine(p, m, x, o, {}, {}, rows).value();
  CHECK_FALSE(same_bytes(all, some));
  o.loss = rq::refinement_loss::squared_error;
  const rq::quantized_model squared = refine(p, m, x, o).value();
  samples want;
  samples before;
  samples after;
  for (const rq::matrix<>& s : std::span(x).last(2)) {
    want.push_back(rq::evaluate(p, s).value());
    before.push_back(m.run(s).value());
    after.push_back(squared.run(s).value());
  }
  CHECK(networks::decibels(want, after) >= networks::decibels(want, before));
  // continuous weights are moved to within half a step of the codes: the start is the model
  std::vector<rq::matrix<>> between;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind != rq::opcode::linear) continue;
    between.push_back(rq::detail::read_matrix<std::uint8_t>(m.view(), s.data[0], s.cols, s.inner) +
                      networks::random_matrix(s.cols, s.inner, 1, 7));
  }
  o.weights = between;
  const rq::quantized_model start = opened(p, m, o).written(m);
  CHECK(start.run(x[0]).value() == m.run(x[0]).value());
  CHECK_FALSE(same_bytes(refine(p, m, x, o).value(), squared));
}

/// What refine() takes for the loss of a result [7 x 16] of which `rows` count.
double loss_of_result(const rq::refinement& o, const rq::matrix<>& have, const rq::matrix<>& want,
                      const std::vector<rq::index>& rows, float temperature = 1) {
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(4, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 4, 4).value();
  rq::detail::refine_flow flow;
  REQUIRE_FALSE(rq::detail::make_flow(p, m.view(), flow));
  const rq::detail::refine_targets targets(p, flow, o);
  rq::tape t;
  return static_cast<double>(
      t.value(targets.result_loss(t, t.constant(have), want, rows, temperature))(0, 0));
}
/// KL(softmax(want) || softmax(have)).
double divergence(const Eigen::ArrayXd& want, const Eigen::ArrayXd& have) {
  const Eigen::ArrayXd a = want.exp() / want.exp().sum();
  const Eigen::ArrayXd b = have.exp() / have.exp().sum();
  return (a * (a / b).log()).sum();
}

TEST_CASE("refine: embeddings are compared by their similarities to others", "[block][refine]") {
  rq::refinement o;
  o.loss = rq::refinement_loss::similarity;
  o.references = networks::random_matrix(5, 16, 3, 8);
  const rq::matrix<> want = networks::random_matrix(7, 16, 1, 1);
  const rq::matrix<> have = networks::random_matrix(7, 16, 1, 2);
  const std::vector<rq::index> rows{2, 5};
  double expected = 0;
  for (const rq::index i : rows) {
    const auto logits = [&](const rq::matrix<>& y) -> Eigen::ArrayXd {
      const Eigen::VectorXd v = y.row(i).cast<double>().transpose();
      return (o.references.cast<double>() * (v / v.norm())).array();
    };
    expected += divergence(logits(want), logits(have)) / 2;
  }
  CHECK(expected > 0.01);
  CHECK(loss_of_result(o, have, want, rows) == Approx(expected).epsilon(1e-4));
  CHECK(loss_of_result(o, 3 * have, want, rows) == Approx(expected).epsilon(1e-4));
  CHECK(loss_of_result(o, want, want, rows) == Approx(0).margin(1e-5));
}

TEST_CASE("refine: logits are compared at a temperature", "[block][refine]") {
  const rq::matrix<> want = networks::random_matrix(7, 16, 5, 1);
  const rq::matrix<> have = networks::random_matrix(7, 16, 5, 2);
  const std::vector<rq::index> rows{0, 3};
  for (const double temperature : {1.0, 4.0}) {
    double expected = 0;
    for (const rq::index i : rows) {
      const auto logits = [&](const rq::matrix<>& y) -> Eigen::ArrayXd {
        return y.row(i).cast<double>().transpose().array() / temperature;
      };
      expected += temperature * temperature * divergence(logits(want), logits(have)) / 2;
    }
    const double found = loss_of_result(rq::refinement{}, have, want, rows, static_cast<float>(temperature));
    CHECK(found == Approx(expected).epsilon(1e-4));
  }
}

TEST_CASE("refine: a model that selects early is refined with the program it came from", "[block][refine]") {
  const rq::program p = rq::record(networks::block{[](rq::trace& t, rq::value v) {
                                     const rq::encoder_block e = networks::random_encoder(16, 48, 4, 10);
                                     return t.linear("head", networks::random_linear(5, 16, 3),
                                                     t.select_row(0, e.forward(t, v)));
                                   }},
                                   16)
                            .value();
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "repquant", 4, 4).value();
  const auto refined = refine(p, m, x, short_settings());
  REQUIRE(refined);
  CHECK(same_bytes(*refined, refine(rq::select_early(p), m, x, short_settings()).value()));
}

TEST_CASE("refine: the share held back is that of its decimal digits", "[block][refine]") {
  const auto trained = [](float share, rq::index samples) {
    rq::refinement o;
    o.held_back = share;
    return rq::training_samples(o, samples);
  };
  CHECK(trained(0.2F, 5) == 4);
  CHECK(trained(0.1F, 10) == 9);
  CHECK(trained(0.5F, 8) == 4);
  CHECK(trained(0.5F, 7) == 3);  // more than half is half, at least
  CHECK(trained(0.25F, 6) == 4);
  CHECK(trained(1e-7F, 4) == 3);  // at least one
  CHECK(trained(0.9F, 1) == 1);   // but one trains
  CHECK(trained(0, 4) == 4);
}

TEST_CASE("refine: what is wrong is named", "[block][refine]") {
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(4, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 4, 4).value();
  const rq::refinement o = short_settings();
  CHECK(refine(p, m, {}, o).error().code == rq::errc::empty);
  CHECK(refine(networks::decoder_program(), m, x, o).error().code == rq::errc::shape_mismatch);
  samples bad = x;
  bad[2](1, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK(refine(p, m, bad, o).error().code == rq::errc::non_finite);
  CHECK(std::string(refine(p, m, bad, o).error().where).find("sample 2") != std::string::npos);
  rq::refinement wrong = o;
  const auto refused = [&](float rq::refinement::*setting, float to) {
    rq::refinement changed = o;
    changed.*setting = to;
    return refine(p, m, x, changed).error();
  };
  rq::failure f = refused(&rq::refinement::drop, 1);
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "refine: drop (millionths)");
  CHECK(f.got == 1000000);
  CHECK(f.want == 999999);
  f = refused(&rq::refinement::step_back, 0);
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "refine: step_back (millionths)");
  CHECK(f.got == 0);
  CHECK(f.want == 1);
  f = refused(&rq::refinement::zero_rate, -0.5F);
  CHECK(f.code == rq::errc::bad_option);
  CHECK(std::string(f.where) == "refine: zero_rate (millionths)");
  CHECK(f.got == -500000);
  CHECK(f.want == 0);
  CHECK(refused(&rq::refinement::average, 1).code == rq::errc::bad_option);
  CHECK(refused(&rq::refinement::temperature, 0).code == rq::errc::bad_option);
  CHECK(refused(&rq::refinement::certainty, -1).code == rq::errc::bad_option);
  CHECK(refused(&rq::refinement::warm_up, 1).code == rq::errc::bad_option);
  CHECK(refused(&rq::refinement::held_back, std::nanf("")).code == rq::errc::bad_option);
  wrong.batch = 0;
  CHECK(refine(p, m, x, wrong).error().code == rq::errc::bad_option);
  wrong = o;
  wrong.loss = rq::refinement_loss::similarity;
  CHECK(refine(p, m, x, wrong).error().code == rq::errc::shape_mismatch);
  const std::vector<rq::matrix<>> few(1, rq::matrix<>::Zero(2, 2));
  wrong = o;
  wrong.weights = few;
  CHECK(refine(p, m, x, wrong).error().code == rq::errc::shape_mismatch);
  // of the right shapes, but one too few and one too many
  std::vector<rq::matrix<>> weights;
  for (const rq::instruction& s : m.view().instructions()) {
    if (s.kind == rq::opcode::linear) weights.push_back(rq::matrix<>::Zero(s.cols, s.inner));
  }
  const auto linears = static_cast<std::int64_t>(weights.size());
  wrong.weights = std::span(weights).first(weights.size() - 1);
  rq::failure count = refine(p, m, x, wrong).error();
  CHECK(count.code == rq::errc::shape_mismatch);
  CHECK(count.got == linears - 1);
  CHECK(count.want == linears);
  weights.push_back(rq::matrix<>::Zero(1, 1));
  wrong.weights = weights;
  count = refine(p, m, x, wrong).error();
  CHECK(count.code == rq::errc::shape_mismatch);
  CHECK(count.got == linears + 1);
  const std::vector<std::vector<rq::index>> rows(x.size(), {7});
  CHECK(refine(p, m, x, o, {}, {}, rows).error().code == rq::errc::shape_mismatch);
  int calls = 0;
  const auto stopped = refine(p, m, x, o, {}, [&](const rq::refinement_status&) { return ++calls < 3; });
  CHECK(stopped.error().code == rq::errc::cancelled);
  CHECK(calls == 3);
}

TEST_CASE("refine: a judge takes the square of the mean root", "[block][refine]") {
  const std::vector<double> losses{1e-4, 4e-4, 9};
  CHECK(rq::detail::judged(losses) == Approx(1.01 * 1.01));
  const std::vector<double> same(5, 0.3);
  CHECK(rq::detail::judged(same) == Approx(0.3));
  const std::vector<double> below{-1e-12, 0};  // a divergence of equal rows may be rounded below 0
  CHECK(rq::detail::judged(below) == 0);
}

TEST_CASE("refine: what is clearly lower is so by standard errors of the paired roots", "[block][refine]") {
  // roots 3, 2, 5 and 1 become 2, 2, 2 and 2: the differences 1, 0, 3 and -1 have the mean 0.75 and the
  // standard error sqrt(8.75 / 12), which is 0.8539
  const std::vector<double> before{9, 4, 25, 1};
  const std::vector<double> after{4, 4, 4, 4};
  CHECK(rq::detail::clearly_lower(after, before, 0));
  CHECK(rq::detail::clearly_lower(after, before, 0.878));
  CHECK_FALSE(rq::detail::clearly_lower(after, before, 0.879));
  CHECK_FALSE(rq::detail::clearly_lower(before, after, 0));
  CHECK_FALSE(rq::detail::clearly_lower(before, before, 0));
  const std::vector<double> one{4};
  const std::vector<double> less{1};
  CHECK(rq::detail::clearly_lower(less, one, 0));
  CHECK_FALSE(rq::detail::clearly_lower(less, one, 0.1));
}

TEST_CASE("refine: a gain that is not clear of luck does not count", "[block][refine]") {
  const rq::program p = networks::encoder_program();
  const samples x = networks::random_samples(8, 7, 16, 5);
  const rq::quantized_model m = networks::quantize(p, x, "naive", 4, 4).value();
  rq::refinement o = short_settings();
  CHECK_FALSE(same_bytes(refine(p, m, x, o).value(), m));
  o.certainty = 1e5F;
  CHECK(same_bytes(refine(p, m, x, o).value(), m));
  // the temperature is the judge's: what it judges was trained the same
  o.certainty = 0;
  o.checks = 1;
  o.block_steps = 0;
  const rq::quantized_model cold = refine(p, m, x, o).value();
  CHECK_FALSE(same_bytes(cold, m));
  o.temperature = 4;
  CHECK_FALSE(same_bytes(refine(p, m, x, o).value(), m));
  CHECK(same_bytes(refine(p, m, x, o).value(), cold));
}
