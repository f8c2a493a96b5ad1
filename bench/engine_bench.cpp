// SPDX-License-Identifier: MIT
/// The whole model: the Fashion-MNIST vision transformer in integers (in registers, and the scalar
/// definition), beside the float network with Eigen's products, one image and batches of 64, all on the
/// calling thread; then the same run kind of step by kind of step.
///
/// A round is one image or one batch; items are images. `step/...` runs all instructions of one kind of the
/// W4A4 model on what a whole image left in the registers.
#include <repquant/block.hpp>

#include "support/data_directory.hpp"
#include "support/fashion_mnist.hpp"
#include "support/vit_model.hpp"
#include "workload.hpp"
#include <map>

namespace {

namespace rq = repquant;

constexpr rq::index images_in_batch = 64;
constexpr rq::index patches = 49;

/// The network, images, and models at both widths.
struct network {
  rq::program in_float;
  rq::matrix<> images;  ///< [64 x 49 rows], image after image
  std::map<int, rq::quantized_model> models;
};

network load() {
  auto weights = examples::load_vit(examples::data_directory() + "/vit_weights.safetensors");
  auto data = examples::load_fashion_mnist(examples::data_directory(), images_in_batch);
  network n{rq::record(examples::vit_model{weights.value()}, 16).value(), {}, {}};
  n.images.resize(images_in_batch * patches, 16);
  std::vector<rq::matrix<>> calibration;
  for (rq::index i = 0; i < 16; ++i)
    calibration.push_back(examples::patches_of(data.value().calibration.images.image(i)));
  for (rq::index i = 0; i < images_in_batch; ++i) {
    n.images.middleRows(i * patches, patches) =
        examples::patches_of(data.value().evaluation.images.image(i % data.value().evaluation.size()));
  }
  for (const int bits : {8, 4}) {
    n.models.emplace(bits,
                     std::move(rq::quantize_program(n.in_float, std::span<const rq::matrix<>>(calibration),
                                                    rq::with_bits(rq::repquant_recipe{}, bits, bits))
                                   .value()));
  }
  return n;
}

void in_float(benchmark::State& state, const network& n, rq::index images) {
  for (auto _ : state) {
    for (rq::index i = 0; i < images; ++i) {
      const rq::matrix_view x(n.images.data() + i * patches * 16, patches, 16);
      benchmark::DoNotOptimize(rq::evaluate(n.in_float, x));
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * images);
}

template<class Arch>
void in_integers(benchmark::State& state, const network& n, int bits, rq::index images) {
  const rq::model_view& m = n.models.at(bits).view();
  rq::run_memory storage;
  rq::engine engine;
  if (engine.prepare<Arch>(m, storage.at_least(rq::engine::storage_bytes<Arch>(m)))) return;
  const rq::batch batch{.rows = patches, .samples = images};
  rq::run_memory workspace;
  const std::span<std::byte> memory = workspace.at_least(engine.workspace_bytes(batch));
  std::vector<float> logits(static_cast<std::size_t>(images * m.header().output_cols));
  for (auto _ : state) {
    engine.run<Arch>(n.images.data(), batch, logits, memory, rq::inline_executor{});
    benchmark::DoNotOptimize(logits.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * images);
}

/// All instructions of one kind, on registers that a run of all instructions has filled.
template<class Arch>
void steps(benchmark::State& state, const network& n, rq::opcode kind) {
  const rq::model_view& m = n.models.at(4).view();
  const rq::index most = patches + m.header().extra_rows;
  std::vector<rq::run_memory> values(m.row_bytes().size());
  std::vector<rq::activation_register> file;
  for (std::size_t r = 0; r < values.size(); ++r) {
    file.push_back({values[r].at_least(static_cast<std::size_t>(m.row_bytes()[r] * most)).data(), 0});
  }
  struct ready {
    const rq::instruction* s;
    std::vector<rq::activation_register> file;
    rq::run_memory weights;
    rq::integer_products products;
  };
  std::vector<ready> all;
  rq::run_memory scratch;
  std::size_t largest = 0;
  for (const rq::instruction& s : m.instructions())
    largest = std::max(largest, rq::integer_products::scratch_bytes(s, most, most));
  std::memcpy(file[0].data, n.images.data(), sizeof(float) * patches * 16);
  file[0].rows = patches;
  for (const rq::instruction& s : m.instructions()) {
    ready r{&s, file, {}, {}};
    const std::size_t bytes = rq::packed_bytes<Arch>(s, m.constants());
    r.products = {r.weights.at_least(bytes).first(bytes), scratch.at_least(largest)};
    rq::pack_products<Arch>(s, m.constants(), r.weights.at_least(bytes).first(bytes));
    rq::execute<Arch>(s, m.constants(), file, r.products);
    if (s.kind == kind) all.push_back(std::move(r));
  }
  for (auto _ : state) {
    for (ready& r : all) rq::execute<Arch>(*r.s, m.constants(), r.file, r.products);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}

template<class Arch>
void all(const network& n, const std::string& arch) {
  const auto add = [](const std::string& name, auto run) {
    benchmark::RegisterBenchmark(name.c_str(), run)->Unit(benchmark::kMicrosecond);
  };
  for (const rq::index images : {rq::index{1}, images_in_batch}) {
    for (const int bits : {8, 4}) {
      add("vit/w" + std::to_string(bits) + "a" + std::to_string(bits) + arch +
              "/images:" + std::to_string(images),
          [&n, bits, images](benchmark::State& s) { in_integers<Arch>(s, n, bits, images); });
    }
  }
  const std::pair<rq::opcode, const char*> kinds[] = {
      {rq::opcode::encode, "encode"},     {rq::opcode::linear, "linear"},
      {rq::opcode::norm, "norm"},         {rq::opcode::attention, "attention"},
      {rq::opcode::add, "add"},           {rq::opcode::activate, "activate"},
      {rq::opcode::hadamard, "hadamard"}, {rq::opcode::mix_heads, "mix_heads"}};
  for (const auto& [kind, name] : kinds) {
    add(std::string("step/") + name + arch,
        [&n, kind = kind](benchmark::State& s) { steps<Arch>(s, n, kind); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  const network n = load();
  for (const rq::index images : {rq::index{1}, images_in_batch}) {
    benchmark::RegisterBenchmark(("vit/float/images:" + std::to_string(images)).c_str(),
                                 [&n, images](benchmark::State& s) { in_float(s, n, images); })
        ->Unit(benchmark::kMicrosecond);
  }
  all<rq::scalar_arch>(n, "/scalar");
  all<rq::default_arch>(n, "/lanes");
  return workload::run(argc, argv);
}
