// SPDX-License-Identifier: MIT
/// Models with one class of sites left in float, and the tables of the worst sites.
#include "support/float_sites.hpp"

#include "catch.hpp"
#include "support/site_tables.hpp"
#include "unit/block/networks.hpp"
#include <map>

namespace rq = repquant;

namespace {

using networks::samples;
using shared_model = std::shared_ptr<const rq::quantized_model>;

shared_model share(rq::result<rq::quantized_model> m) {
  REQUIRE(m);
  return std::make_shared<const rq::quantized_model>(*std::move(m));
}
/// The paths of the sites of each class.
std::map<std::string, std::vector<std::string>> paths_by_class(const rq::model_view& m) {
  std::map<std::string, std::vector<std::string>> paths;
  for (std::size_t i = 0; i < m.instructions().size(); ++i) {
    const std::int32_t site = m.instructions()[i].site;
    if (site < 0) continue;
    paths[examples::site_class(m, i)].emplace_back(m.path(m.sites()[static_cast<std::size_t>(site)]));
  }
  return paths;
}
/// |float - quantized|^2 over samples.
template<class Run>
double noise(const rq::program& p, const samples& x, const Run& run) {
  double sum = 0;
  for (const rq::matrix<>& one : x) sum += (*rq::evaluate(p, one) - *run(one)).squaredNorm();
  return sum;
}

}  // namespace

TEST_CASE("float sites: every site has a class", "[examples]") {
  const samples x = networks::random_samples(4, 6, 16, 5);
  const auto encoder = share(networks::quantize(networks::encoder_program(), x, "naive", 8, 8));
  const std::map<std::string, std::size_t> expected = {
      {"norm_output", 2},   {"query_key", 2},        {"value", 1},
      {"probabilities", 1}, {"attention_output", 1}, {"mlp_hidden", 1}};
  std::size_t sites = 0;
  const auto found = paths_by_class(encoder->view());
  for (const auto& [name, paths] : found) {
    INFO(name);
    REQUIRE(expected.count(name) == 1);
    CHECK(paths.size() == expected.at(name));
    CHECK(examples::float_sites_model(encoder, name).exact_sites() == static_cast<rq::index>(paths.size()));
    sites += paths.size();
  }
  CHECK(found.size() == expected.size());
  CHECK(sites == encoder->view().sites().size());
  const auto decoder = share(networks::quantize(networks::decoder_program(), x, "naive", 8, 8));
  CHECK(paths_by_class(decoder->view()).at("mlp_hidden").size() == 1);  // the gated product
  const auto post = share(networks::quantize(networks::post_norm(), x, "naive", 8, 8));
  CHECK(paths_by_class(post->view()).at("other").size() == 1);  // the model's input
  CHECK(examples::float_sites_model(post, "").exact_sites() == 0);
}

TEST_CASE("float sites: with none in float it is the model", "[examples]") {
  const samples x = networks::random_samples(6, 7, 16, 5);
  for (const rq::program& p :
       {networks::encoder_program(), networks::decoder_program(), networks::post_norm()}) {
    for (const std::string recipe : {"naive", "repq", "repquant", "feedback"}) {
      INFO(recipe);
      const auto m = share(networks::quantize(p, x, recipe, 4, 4));
      const examples::float_sites_model none(m, "");
      for (const rq::matrix<>& one : x) CHECK(*none.run(one) == *m->run(one));
    }
  }
}

TEST_CASE("float sites: the class that holds a model back is the one whose float mends it", "[examples]") {
  const samples x = networks::random_samples(6, 7, 16, 5);
  for (const rq::program& p : {networks::encoder_program(), networks::decoder_program()}) {
    const auto fine = share(networks::quantize(p, x, "naive", 8, 8));
    for (const auto& [name, paths] : paths_by_class(fine->view())) {
      if (name == "other") continue;
      INFO(name);
      rq::naive_recipe coarse;  // this class at 2 bits, all else at 8
      for (const std::string& path : paths) coarse.overrides.push_back({path, 2});
      const auto m = share(networks::quantize(p, x, coarse));
      const double before = noise(p, x, [&](const auto& one) { return m->run(one); });
      for (const std::string& exact : examples::site_classes()) {
        INFO(exact);
        const examples::float_sites_model partly(m, exact);
        const double after = noise(p, x, [&](const auto& one) { return partly.run(one); });
        // at 8 bits the rest leaves a few thousandths of the noise of 2 bits (4^-6 where sites are alike)
        if (exact == name) {
          CHECK(after < 0.05 * before);
        } else {
          CHECK(after > 0.5 * before);
        }
      }
    }
  }
}

TEST_CASE("float sites: a wrong input is refused as the model refuses it", "[examples]") {
  const samples x = networks::random_samples(2, 6, 16, 5);
  const auto m = share(networks::quantize(networks::encoder_program(), x, "naive", 8, 8));
  const examples::float_sites_model partly(m, "value");
  CHECK(partly.run(rq::matrix<>::Zero(6, 15)).error().code == rq::errc::shape_mismatch);
  CHECK(partly.run(rq::matrix<>(0, 16)).error().code == rq::errc::empty);
}

TEST_CASE("site tables: the worst stand first", "[examples]") {
  rq::quantization_report report;
  const auto site = [](const std::string& path, double noise) {
    rq::site_report s;
    s.path = path;
    s.bits = 4;
    s.codec = "uniform";
    s.noise = {1000, noise};
    return s;
  };
  report.sites = {site("fine", 1), site("worst", 100), site("poor", 10), site("poor too", 10)};
  const auto first = examples::worst(report.sites, 3);
  REQUIRE(first.size() == 3);
  CHECK(first[0].path == "worst");
  CHECK(first[1].path == "poor");
  CHECK(first[2].path == "poor too");
  CHECK(examples::worst(report.sites, 9).size() == 4);
  CHECK(examples::site_table(report, 1).text() ==
        "site   codec    bits     dB\n-----  -------  ----  -----\nworst  uniform     4  10.00\n");
  rq::weight_report layer;
  layer.path = "fc1";
  layer.bits = 3;
  layer.correction = 0.25;
  layer.noise = {100, 1};
  report.weights = {layer};
  CHECK(
      examples::layer_table(report, 5).text() ==
      "layer  bits     dB  corrected %\n-----  ----  -----  -----------\nfc1       3  20.00           25\n");
}
