// SPDX-License-Identifier: MIT
/// Low-bit weights with float activations: plain rounding, plain GPTQ and this library's recipe on a trained
/// model, per output channel and per group, by cross-entropy and by divergence from the float model.
#include <repquant/block/quantize_weights.hpp>

#include "models/all.hpp"
#include "support/accuracy_evaluate.hpp"
#include "support/accuracy_rows.hpp"
#include "support/fail.hpp"
#include "support/options.hpp"
#include "support/progress.hpp"
#include <chrono>

namespace {

namespace rq = repquant;
using clock_type = std::chrono::steady_clock;

constexpr const char* program = "weight_only";

/// GPTQ with ranges of least squared error of the weights: what one gets before looking at outputs.
struct gptq_least_error_recipe : rq::gptq_weight_recipe {
  rq::least_error range;
};

struct settings {
  std::string data;
  std::string report;
  std::vector<std::string> models = {"stories260k"};
  std::vector<int> bits = {4, 3};
  std::vector<int> groups = {32, 0};
  int samples = 0;
  int threads = 0;
};

/// What is measured for one model, and where it goes.
struct experiment {
  const examples::model_case& model;
  rq::threads exec;
  examples::progress& bar;
  std::vector<rq::matrix<>> inputs;
  std::vector<rq::matrix<>> reference;
  examples::model_quality of_float;
  examples::table table;
  examples::report& report;

  [[nodiscard]] rq::result<examples::model_quality> quality(const rq::program& p) {
    const auto logits = examples::logits_of(
        model, [&](const rq::matrix<>& x) { return rq::evaluate(p, x); }, exec, bar);
    if (!logits) return logits.error();
    if (reference.empty()) reference = *logits;
    return examples::quality_of(examples::scores_of(model, reference, *logits, exec));
  }
  void row(const std::string& recipe, const std::string& bits, const std::string& group,
           const examples::model_quality& q, double seconds) {
    table.row({recipe, bits, group, examples::with_error(q.kl, 4), examples::with_error(q.cross_entropy, 4),
               examples::with_error(q.accuracy, 2), seconds > 0 ? examples::fixed(seconds, 1) : "-"});
  }

  template<class Recipe>
  rq::failure measure(const char* name, const Recipe& recipe) {
    const std::string bits = "W" + std::to_string(recipe.weight.bits) + "A16";
    const std::string group = recipe.group == 0 ? "channel" : std::to_string(recipe.group);
    bar.begin(model.name + " " + name + " " + bits + " " + group);
    const auto start = clock_type::now();
    const auto q = rq::quantize_weights(model.network, std::span<const rq::matrix<>>(inputs), recipe, exec);
    if (!q) return q.error().within(name);
    const double seconds = std::chrono::duration<double>(clock_type::now() - start).count();
    const auto measured = quality(q->network);
    if (!measured) return measured.error().within(name);
    row(name, bits, group, *measured, seconds);
    const auto add = [&](const char* metric, double value, double float_value) {
      if (std::isnan(value)) return;
      report.row({{"model", model.name},
                  {"metric", metric},
                  {"higher_is_better", false},
                  {"recipe", name},
                  {"weight_bits", recipe.weight.bits},
                  {"activation_bits", 16},
                  {"group", static_cast<int>(recipe.group)},
                  {"value", value},
                  {"float_value", float_value},
                  {"calibration_samples", inputs.size()},
                  {"seconds", seconds}});
    };
    add("kl", measured->kl.mean, of_float.kl.mean);
    add("cross_entropy", measured->cross_entropy.mean, of_float.cross_entropy.mean);
    return {};
  }
  rq::failure measure_all(int bits, int group) {
    const auto with = [&](auto recipe) { return rq::with_weights(recipe, bits, group); };
    if (rq::failure f = measure("rounding", with(rq::rounding_weight_recipe{}))) return f;
    if (rq::failure f = measure("gptq", with(rq::gptq_weight_recipe{}))) return f;
    if (rq::failure f = measure("gptq, least-error ranges", with(gptq_least_error_recipe{}))) return f;
    return measure("repquant", with(rq::weight_recipe{}));
  }
};

rq::failure run(const examples::model_case& m, const settings& s, examples::report& report) {
  examples::progress bar(examples::plain_output::lines);
  experiment e{m,
               {.count = s.threads},
               bar,
               {},
               {},
               {},
               examples::table({{"recipe", examples::align::left},
                                {"bits", examples::align::left},
                                {"group", examples::align::left},
                                {"KL"},
                                {"cross-entropy"},
                                {"accuracy %"},
                                {"quantize s"}}),
               report};
  for (const examples::model_sample& x : m.calibration) e.inputs.push_back(x.input);
  bar.begin(m.name + " float");
  const auto q = e.quality(m.network);
  if (!q) return q.error();
  e.of_float = *q;
  e.row("float", "", "", *q, 0);
  for (const int bits : s.bits) {
    for (const int group : s.groups) {
      e.table.rule();
      if (rq::failure f = e.measure_all(bits, group)) return f;
    }
  }
  bar.end();
  std::printf("\n%s: %zu samples to calibrate, %zu to measure\n", m.name.c_str(), m.calibration.size(),
              m.evaluation.size());
  e.table.print(stdout);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  examples::options o(program, "quantizes only the weights of trained models and says what is left of them.");
  o.add("data", "DIR", "the folders of the models (docs/accuracy.md)", s.data);
  o.add("model", "LIST", "models", s.models, examples::model_names());
  o.add("bits", "LIST", "widths of the weights", s.bits, 2, 8);
  o.add("group", "LIST", "inputs that share a scale, 0 for all of a row", s.groups, 0, 4096);
  o.add("samples", "N", "samples to evaluate on, 0 for all", s.samples, 0, 1000000);
  o.add("threads", "N", "threads, 0 for all cores", s.threads, 0, 256);
  o.add("report", "FILE", "where to write the rows as JSON", s.report);
  if (const auto code = o.parse(argc, argv)) return *code;
  if (s.data.empty()) {
    return examples::fail(
        program, "needs --data DIR, a directory with the trained models that docs/accuracy.md lists");
  }
  if (!s.report.empty()) {
    if (rq::failure f = examples::check_writable(s.report)) return examples::fail(program, f);
  }
  examples::report report;
  report.set("program", program);
  for (const std::string& name : s.models) {
    auto m = examples::load_model(name, s.data);
    if (!m) return examples::fail(program, m.error());
    if (s.samples > 0 && static_cast<std::size_t>(s.samples) < m->evaluation.size()) {
      m->evaluation.resize(static_cast<std::size_t>(s.samples));
    }
    if (rq::failure f = run(*m, s, report)) return examples::fail(program, f.within(name));
  }
  if (!s.report.empty()) {
    if (rq::failure f = report.write(s.report)) return examples::fail(program, f);
  }
  return 0;
}
