// SPDX-License-Identifier: MIT
/// For one program that runs on every CPU of its kind at that CPU's speed: built without flags, it asks which
/// instruction sets run here and takes the widest, or the one that REPQUANT_INSTRUCTION_SET names. Given a
/// saved model (quantize_vit --save), it runs that on each and compares. CMake:
/// repquant_add_dispatch(<target>).
#include <repquant/infer/dispatched_engine.hpp>
#include <repquant/io/file.hpp>

#include "support/fail.hpp"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace rq = repquant;

namespace {

constexpr const char* program = "04_dispatch";

// [quote]
/// Runs a saved model on the chosen instruction set.
rq::failure run(const rq::model_view& model, std::span<const float> x, rq::index rows,
                std::vector<float>& y) {
  rq::dispatched_engine engine;
  std::vector<std::byte> storage(engine.storage_bytes(model));
  if (rq::failure f = engine.prepare(model, storage)) return f;
  std::vector<std::byte> workspace(engine.workspace_bytes(rows));
  y.resize(static_cast<std::size_t>(engine.output_rows(rows) * model.header().output_cols));
  engine.run(x.data(), rows, y, workspace);
  return {};
}
// [end]

int run_on_each(const char* path) {
  const auto bytes = rq::read_file(path);
  if (!bytes) return examples::fail(program, bytes.error());
  rq::model_view model;
  if (rq::failure f = rq::model_view::open(*bytes, model)) return examples::fail(program, f);
  const rq::index rows = std::max(model.header().min_rows, model.header().max_rows);
  std::vector<float> x(static_cast<std::size_t>(rows * model.header().input_cols));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) / 8 - 1;
  std::vector<float> wanted;
  if (rq::failure f = run(model, x, rows, wanted)) return examples::fail(program, f);
  int status = 0;
  const rq::engine_units here = rq::engine_units_here();
  for (const auto* unit : here.all()) {
    const auto set = static_cast<rq::instruction_set>(unit->set);
    std::vector<float> y;
    rq::failure f = rq::choose_instruction_set(set);
    if (!f) f = run(model, x, rows, y);
    if (f) return examples::fail(program, f);
    std::printf("%-12s %s\n", rq::name_of(set),
                y == wanted ? "the same result, bit for bit" : "another result");
    if (y != wanted) status = 1;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (const char* name = std::getenv("REPQUANT_INSTRUCTION_SET")) {
    rq::instruction_set forced{};
    if (!rq::parse_instruction_set(name, forced)) return examples::fail(program, "no such instruction set");
    if (rq::failure f = rq::choose_instruction_set(forced)) return examples::fail(program, f);
  }
  std::printf("this CPU runs:");
  for (rq::instruction_set s : rq::all_instruction_sets) {
    if (rq::runs_here(s)) std::printf(" %s", rq::name_of(s));
  }
  std::printf("\nchosen: %s\n", rq::name_of(rq::chosen_instruction_set()));
  return argc > 1 ? run_on_each(argv[1]) : 0;
}
