// SPDX-License-Identifier: MIT
/// The main job: quantizes a real vision transformer with four recipes at three widths and runs the result
/// in integers, beside the float network; then the same for a network whose LayerNorm channels are
/// unbalanced, which is where layer-wise quantizers fail.
#include <repquant/block.hpp>
#include <repquant/io/file.hpp>
#include <repquant/parallel/threads.hpp>

#include "support/data_directory.hpp"
#include "support/fail.hpp"
#include "support/fashion_mnist.hpp"
#include "support/options.hpp"
#include "support/progress.hpp"
#include "support/report.hpp"
#include "support/speed.hpp"
#include "support/table.hpp"
#include "support/vit_model.hpp"
#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

namespace rq = repquant;
using clock_type = std::chrono::steady_clock;

constexpr const char* program = "quantize_vit";

struct settings {
  std::string data = examples::data_directory();
  std::string weights = examples::data_directory() + "/vit_weights.safetensors";
  std::string report;
  std::string save;
  std::vector<int> bits = {8, 6, 4};
  std::vector<std::string> recipes = {"naive", "repq", "repquant", "feedback"};
  std::vector<std::string> networks = {"plain", "unbalanced"};
  std::vector<std::string> engines = {"integer"};
  bool verify = false;
  int calibration = 128;
  int images = 0;
  int threads = 0;
};

/// The images of an evaluation as the network reads them, with their labels.
struct samples {
  std::vector<rq::matrix<>> patches;
  std::vector<std::uint8_t> labels;
};

samples patches_of(const examples::labelled_images& images, rq::index count) {
  samples s;
  for (rq::index i = 0; i < std::min(count, images.size()); ++i) {
    s.patches.push_back(examples::patches_of(images.images.image(i)));
    s.labels.push_back(images.labels[static_cast<std::size_t>(i)]);
  }
  return s;
}

double seconds_since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

/// Logits of all images, [images x classes], and how long they took.
struct evaluation {
  rq::matrix<> logits;
  double seconds = 0;
};

/// Runs f(image) -> result<matrix<>> on all images.
template<class F>
rq::result<evaluation> evaluate(const samples& s, rq::index classes, const rq::threads& exec,
                                examples::progress& bar, const F& f) {
  const auto count = static_cast<rq::index>(s.patches.size());
  evaluation e{rq::matrix<>(count, classes), 0};
  std::vector<rq::failure> failures(s.patches.size());
  constexpr rq::index chunk = 64;
  const auto start = clock_type::now();
  for (rq::index first = 0; first < count; first += chunk) {
    exec(std::min(chunk, count - first), [&](rq::index i) {
      const auto at = static_cast<std::size_t>(first + i);
      const rq::result<rq::matrix<>> y = f(s.patches[at]);
      if (y) {
        e.logits.row(first + i) = y->row(0);
      } else {
        failures[at] = y.error();
      }
    });
    bar(first + chunk, count);
  }
  e.seconds = seconds_since(start);
  for (const rq::failure& f2 : failures) {
    if (f2) return f2;
  }
  return e;
}

/// How good the logits of a network are.
struct quality {
  double top1 = 0;          ///< percent of the images whose label has the largest logit
  double agreement = 0;     ///< percent of the images with the float network's class
  double logits_error = 0;  ///< |logits - float logits|^2 over |float logits|^2, in percent
};

quality compare(const rq::matrix<>& logits, const rq::matrix<>& reference,
                const std::vector<std::uint8_t>& labels) {
  quality q;
  double error = 0;
  double size = 0;
  for (rq::index i = 0; i < logits.rows(); ++i) {
    rq::index best = 0;
    rq::index expected = 0;
    logits.row(i).maxCoeff(&best);
    reference.row(i).maxCoeff(&expected);
    q.top1 += best == labels[static_cast<std::size_t>(i)] ? 1 : 0;
    q.agreement += best == expected ? 1 : 0;
    error += (logits.row(i) - reference.row(i)).cast<double>().squaredNorm();
    size += reference.row(i).cast<double>().squaredNorm();
  }
  const auto percent = 100.0 / static_cast<double>(logits.rows());
  q.top1 *= percent;
  q.agreement *= percent;
  q.logits_error = 100 * error / size;
  return q;
}

/// Calls f(recipe) with the recipe of that name.
template<class F>
auto with_recipe(const std::string& name, int bits, F f) {
  if (name == "naive") return f(rq::with_bits(rq::naive_recipe{}, bits, bits));
  if (name == "repq") return f(rq::with_bits(rq::repq_recipe{}, bits, bits));
  if (name == "feedback") return f(rq::with_bits(rq::feedback_recipe{}, bits, bits));
  return f(rq::with_bits(rq::repquant_recipe{}, bits, bits));
}

/// Seconds an image on the calling thread, in float and in integers: one image at a time, and in batches.
struct speeds {
  examples::speed_pair one;
  examples::speed_pair batch;
};

/// Measures both in turns on the first images. The float run has no form for several images, so a batch of it
/// is one image after the other.
speeds measure_speeds(const rq::program& in_float, const rq::quantized_model& m, const samples& images) {
  constexpr rq::index most = 64;
  const rq::index count = std::min(most, static_cast<rq::index>(images.patches.size()));
  const rq::index rows = images.patches.front().rows();
  rq::matrix<> stacked(count * rows, in_float.input_cols());
  for (rq::index i = 0; i < count; ++i)
    stacked.middleRows(i * rows, rows) = images.patches[static_cast<std::size_t>(i)];
  rq::run_memory memory;
  float kept = 0;  // what is computed is used
  const auto image = [&](rq::index i) {
    return rq::matrix_view(stacked.row(i * rows).data(), rows, stacked.cols());
  };
  const auto float_image = [&](rq::index i) { kept += (*rq::evaluate(in_float, image(i)))(0, 0); };
  rq::index next[2] = {0, 0};
  speeds s;
  s.one = examples::measure_in_turns(
      301, [&] { float_image(next[0]++ % count); },
      [&] { kept += (*m.run(image(next[1]++ % count), memory))(0, 0); });
  s.batch = examples::measure_in_turns(
      15,
      [&] {
        for (rq::index i = 0; i < count; ++i) float_image(i);
      },
      [&] { kept += (*m.run_batch(stacked, count, memory))(0, 0); });
  s.batch.first /= static_cast<double>(count);
  s.batch.second /= static_cast<double>(count);
  volatile float used = kept;
  static_cast<void>(used);
  return s;
}

/// Everything that is the same for all rows of a network.
struct bench {
  const settings& options;
  const samples& calibration;
  const samples& evaluation_set;
  rq::threads exec;
  examples::progress& bar;
  examples::table& table;
  examples::report& report;
};

/// Prints what the folds of a model kept, over all norms.
void print_folds(const std::string& title, const rq::quantized_model& m) {
  rq::fold_report all;
  for (const rq::fold_report& f : m.report().folds) all.add(f.measured);
  const rq::equivalence& e = all.measured;
  if (e.codes == 0) return;
  std::printf(
      "%s: %zu norms folded; float outputs within %.1e relative; of %s codes %s differ, %s at a tie, %s "
      "not\n",
      title.c_str(), m.report().folds.size(), e.largest_relative, examples::thousands(e.codes).c_str(),
      examples::thousands(e.codes_differ).c_str(), examples::thousands(e.near_ties).c_str(),
      examples::thousands(e.codes_broken).c_str());
}

/// Runs both engines on every image and compares all codes and all logits, bit for bit.
rq::result<std::int64_t> codes_compared(const rq::quantized_model& m, const samples& images,
                                        const rq::threads& exec) {
  std::vector<rq::failure> failures(images.patches.size());
  std::vector<std::int64_t> counts(images.patches.size());
  exec(static_cast<rq::index>(images.patches.size()), [&](rq::index i) {
    const auto at = static_cast<std::size_t>(i);
    std::vector<std::uint8_t> codes[2];
    std::vector<std::int32_t> sites[2];
    const auto keep = [&](int engine) {
      return
          [&codes, &sites, engine](std::int32_t site, const std::uint8_t* q, rq::index rows, rq::index cols) {
            codes[engine].insert(codes[engine].end(), q, q + rows * cols);
            sites[engine].insert(sites[engine].end(), static_cast<std::size_t>(rows * cols), site);
          };
    };
    const auto integer = m.run(images.patches[at], keep(0));
    const auto simulated = m.simulate(images.patches[at], keep(1));
    if (!integer || !simulated) {
      failures[at] = integer ? simulated.error() : integer.error();
      return;
    }
    counts[at] = static_cast<std::int64_t>(codes[0].size());
    const auto differs = std::mismatch(codes[0].begin(), codes[0].end(), codes[1].begin(), codes[1].end());
    if (differs.first != codes[0].end() || sites[0] != sites[1]) {
      const auto place = static_cast<std::size_t>(std::min<std::ptrdiff_t>(
          differs.first - codes[0].begin(), static_cast<std::ptrdiff_t>(sites[0].size()) - 1));
      const rq::site_record& site = m.view().sites()[static_cast<std::size_t>(sites[0][place])];
      failures[at] = {rq::errc::shape_mismatch, "verify: codes at " + std::string(m.view().path(site)), i, 0};
    } else if (std::memcmp(integer->data(), simulated->data(),
                           sizeof(float) * static_cast<std::size_t>(integer->size())) != 0) {
      failures[at] = {rq::errc::shape_mismatch, "verify: logits of image", i, 0};
    }
  });
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < failures.size(); ++i) {
    if (failures[i]) return failures[i];
    sum += counts[i];
  }
  return sum;
}

rq::failure run_network(const std::string& network, const examples::vit_weights& weights, const bench& b) {
  const auto traced = rq::record(examples::vit_model{weights}, weights.patch_embed.in());
  if (!traced) return traced.error();
  const rq::index classes = weights.head.out();
  const samples& images = b.evaluation_set;
  const auto count = static_cast<double>(images.patches.size());

  b.bar.begin(network + " float");
  const auto reference = evaluate(images, classes, b.exec, b.bar,
                                  [&](const rq::matrix<>& x) { return rq::evaluate(*traced, x); });
  if (!reference) return reference.error();
  rq::index parameters = 0;
  for (const rq::linear& l : traced->linears) parameters += l.weight.size() + l.bias.size();
  for (const auto& n : traced->norms) {
    parameters += std::visit([](const auto& v) { return v.gamma.size(); }, n) * 2;
  }
  for (const rq::matrix<>& m : traced->constants) parameters += m.size();

  const auto add_row = [&](const std::string& recipe, int bits, const char* engine, const quality& q,
                           std::size_t bytes, double quantize_seconds, double images_per_second,
                           const speeds& speed) {
    b.bar.end();
    const bool is_float = recipe == "float";
    b.table.row(
        {network, recipe, is_float ? "W32A32" : "W" + std::to_string(bits) + "A" + std::to_string(bits),
         engine, examples::fixed(q.top1, 2), examples::fixed(q.agreement, 2),
         examples::significant(q.logits_error, 3), examples::thousands(static_cast<std::int64_t>(bytes)),
         is_float ? "-" : examples::fixed(quantize_seconds, 2), examples::fixed(1e6 * speed.one.second, 0),
         examples::fixed(speed.one.ratio(), 2), examples::fixed(1 / speed.batch.second, 0),
         examples::fixed(speed.batch.ratio(), 2)});
    examples::report::object row = {{"network", network},
                                    {"recipe", recipe},
                                    {"weight_bits", bits},
                                    {"activation_bits", bits},
                                    {"engine", engine},
                                    {"top1", q.top1},
                                    {"agreement", q.agreement},
                                    {"logits_error_percent", q.logits_error},
                                    {"images", images.patches.size()},
                                    {"bytes", bytes},
                                    {"quantize_seconds", quantize_seconds},
                                    {"images_per_second", images_per_second},
                                    {"one_thread_us_per_image", 1e6 * speed.one.second},
                                    {"one_thread_times_float", speed.one.ratio()},
                                    {"batch_images_per_second", 1 / speed.batch.second},
                                    {"batch_times_float", speed.batch.ratio()}};
    b.report.row(std::move(row));
  };
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  constexpr speeds not_measured{{none, none}, {none, none}};  // the float run is measured beside each model
  add_row("float", 32, "float", compare(reference->logits, reference->logits, images.labels),
          static_cast<std::size_t>(parameters) * sizeof(float), 0, count / reference->seconds, not_measured);
  b.table.rule();

  for (const int bits : b.options.bits) {
    for (const std::string& name : b.options.recipes) {
      const std::string title =
          network + " " + name + " W" + std::to_string(bits) + "A" + std::to_string(bits);
      b.bar.begin(title + ": quantize");
      const auto start = clock_type::now();
      const auto model = with_recipe(name, bits, [&](const auto& recipe) {
        return rq::quantize_program(*traced, std::span<const rq::matrix<>>(b.calibration.patches), recipe,
                                    b.exec, [&](rq::index done, rq::index all) { return b.bar(done, all); });
      });
      if (!model) return model.error().within(title);
      const double quantize_seconds = seconds_since(start);
      if (!b.options.save.empty()) {
        const std::string file = b.options.save + "/" + network + "_" + name + "_w" + std::to_string(bits) +
                                 "a" + std::to_string(bits) + ".rqm";
        if (rq::failure f = rq::write_file(file, model->bytes())) return f;
      }
      for (const std::string& engine : b.options.engines) {
        b.bar.begin(title + ": " + engine + " run");
        const auto e = evaluate(images, classes, b.exec, b.bar, [&](const rq::matrix<>& x) {
          return engine == "simulated" ? model->simulate(x) : model->run(x);
        });
        if (!e) return e.error().within(title);
        add_row(name, bits, engine.c_str(), compare(e->logits, reference->logits, images.labels),
                model->packed_bytes(), quantize_seconds, count / e->seconds,
                engine == "integer" ? measure_speeds(*traced, *model, images) : not_measured);
      }
      if (b.options.verify) {
        b.bar.begin(title + ": verify");
        const auto codes = codes_compared(*model, images, b.exec);
        b.bar.end();
        if (!codes) return codes.error().within(title);
        std::printf(
            "%s: integer and simulated run: %s codes at %zu sites and all logits equal, bit for bit\n",
            title.c_str(), examples::thousands(*codes).c_str(), model->view().sites().size());
      }
      for (const rq::site_report& s : model->report().sites) {
        b.report.row({{"network", network},
                      {"recipe", name},
                      {"weight_bits", bits},
                      {"activation_bits", bits},
                      {"site", s.path},
                      {"site_bits", s.bits},
                      {"codec", s.codec}});
      }
      for (const rq::weight_report& w : model->report().weights) {
        b.report.row({{"network", network},
                      {"recipe", name},
                      {"weight_bits", bits},
                      {"activation_bits", bits},
                      {"site", w.path + ".weight"},
                      {"site_bits", w.bits},
                      {"codec", "uniform per output channel"}});
      }
      if (name == "repquant") print_folds(title, *model);
    }
    b.table.rule();
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  examples::options o(program, "quantizes a vision transformer for Fashion-MNIST and runs it in integers.");
  o.add("data", "DIR", "images: calib-* and dev-*, or the original train-* and t10k-* files", s.data);
  o.add("weights", "FILE", "the network, a safetensors file", s.weights);
  o.add("bits", "LIST", "widths of weights and activations", s.bits, 2, 8);
  o.add("recipe", "LIST", "recipes", s.recipes, {"naive", "repq", "repquant", "feedback"});
  o.add("network", "LIST", "networks", s.networks, {"plain", "unbalanced"});
  o.add("engine", "LIST", "engines", s.engines, {"integer", "simulated"});
  o.flag("verify", "compare every code and logit of both engines; slow", s.verify);
  o.add("calibration", "N", "images to calibrate with", s.calibration, 1, 256);
  o.add("images", "N", "images to evaluate on, 0 for all", s.images, 0, std::numeric_limits<int>::max());
  o.add("threads", "N", "threads, 0 for all cores", s.threads, 0, 256);
  o.add("report", "FILE", "where to write the rows as JSON", s.report);
  o.add("save", "DIR", "where to write the models, one file each", s.save);
  if (const auto code = o.parse(argc, argv)) return *code;
  if (!s.report.empty()) {
    if (rq::failure f = examples::check_writable(s.report)) return examples::fail(program, f);
  }

  const auto weights = examples::load_vit(s.weights);
  if (!weights) return examples::fail(program, weights.error());
  const auto data = examples::load_fashion_mnist(s.data, s.images == 0 ? examples::all_of_them : s.images);
  if (!data) return examples::fail(program, data.error());
  const samples calibration = patches_of(data->calibration, s.calibration);
  const samples images = patches_of(data->evaluation, data->evaluation.size());

  examples::progress bar;
  examples::report report;
  const rq::threads exec{.count = s.threads};
  const std::string heading = "A vision transformer on " + examples::thousands(data->evaluation.size()) +
                              " Fashion-MNIST images, calibrated on " +
                              std::to_string(calibration.patches.size());
  report.set("program", program);
  report.set("calibration_images", calibration.patches.size());
  std::printf("%s.\n", heading.c_str());
  for (const std::string& network : s.networks) {
    examples::table table({{"network", examples::align::left},
                           {"recipe", examples::align::left},
                           {"bits", examples::align::left},
                           {"engine", examples::align::left},
                           {"top-1 %"},
                           {"as float %"},
                           {"logits error %"},
                           {"bytes"},
                           {"quantize s"},
                           {"us/image"},
                           {"x float"},
                           {"images/s"},
                           {"x float"}});
    examples::vit_weights copy = *weights;
    if (network == "unbalanced") examples::unbalance(copy);
    if (rq::failure f = run_network(network, copy, {s, calibration, images, exec, bar, table, report})) {
      bar.end();
      return examples::fail(program, f);
    }
    std::printf("\n");
    table.print(stdout);
    std::printf("\n");
  }
  if (!s.report.empty()) {
    if (rq::failure f = report.write(s.report)) return examples::fail(program, f);
  }
  return 0;
}
