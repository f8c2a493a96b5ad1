// SPDX-License-Identifier: MIT
/// dispatched_engine: an engine whose instruction set is chosen when the program runs. Opt-in: the program is
/// linked with the units that cmake's repquant_add_dispatch(target) compiles.
#pragma once

#include <repquant/infer/engine_unit.hpp>
#include <repquant/kernel/cpu.hpp>

#include <array>
#include <span>

/// The units that are linked, each behind those that it is wider than; written by repquant_add_dispatch.
extern "C" const repquant_units::engine_unit* const* repquant_linked_engine_units(
    std::size_t* count) noexcept;

namespace repquant {

/// The units of the engine that this program has and this CPU runs; `count` says how many, the rest is null.
struct engine_units {
  std::array<const repquant_units::engine_unit*, std::size(all_instruction_sets)> unit = {};
  std::size_t count = 0;

  [[nodiscard]] std::span<const repquant_units::engine_unit* const> all() const& noexcept {
    return {unit.data(), count};
  }
  /// The span would outlive its units.
  std::span<const repquant_units::engine_unit* const> all() const&& = delete;
};

/// The units that run here, each behind those that it is wider than. The first, scalar, always runs.
inline engine_units engine_units_here() noexcept {
  engine_units here;
  std::size_t count = 0;
  const auto* const linked = repquant_linked_engine_units(&count);
  for (std::size_t i = 0; i < count && here.count < here.unit.size(); ++i) {
    if (runs_here(static_cast<instruction_set>(linked[i]->set))) here.unit[here.count++] = linked[i];
  }
  return here;
}

/// The engine of infer/engine.hpp with the same phases, the same codes and the same sums, for the widest
/// instruction set that chosen_instruction_set() allows.
class dispatched_engine {
 public:
  /// The unit of the chosen instruction set, or the widest linked one below it.
  dispatched_engine() noexcept : dispatched_engine(widest()) {}
  /// This unit, one of engine_units_here().
  explicit dispatched_engine(const repquant_units::engine_unit& unit) noexcept : unit_(&unit) {
    REPQUANT_ASSERT(unit.engine_bytes == sizeof(engine));
  }

  /// What runs.
  [[nodiscard]] instruction_set set() const noexcept { return static_cast<instruction_set>(unit_->set); }

  /// As engine::storage_bytes, for this unit.
  [[nodiscard]] std::size_t storage_bytes(const model_view& m) const noexcept {
    return unit_->storage_bytes(&m);
  }
  /// As engine::prepare.
  failure prepare(const model_view& m, std::span<std::byte> storage) noexcept {
    failure f;
    unit_->prepare(&m, storage.data(), storage.size(), engine_.data(), &f);
    return f;
  }
  /// As engine::check_rows.
  [[nodiscard]] failure check_rows(index rows) const noexcept {
    failure f;
    unit_->check_rows(engine_.data(), rows, &f);
    return f;
  }
  [[nodiscard]] index output_rows(index rows) const noexcept {
    return unit_->output_rows(engine_.data(), rows);
  }
  [[nodiscard]] std::size_t workspace_bytes(index rows) const noexcept {
    return unit_->workspace_bytes(engine_.data(), rows);
  }
  /// As engine::run.
  ///
  /// Requires  as there
  void run(const float* x, index rows, std::span<float> out, std::span<std::byte> workspace) const noexcept {
    unit_->run(engine_.data(), x, rows, out.data(), out.size(), workspace.data(), workspace.size(), nullptr,
               nullptr);
  }
  /// The same with a sink, which receives the codes of every site as in execute().
  template<class Sink>
  void run(const float* x, index rows, std::span<float> out, std::span<std::byte> workspace,
           Sink&& sink) const noexcept {
    const auto call = [](void* context, std::int32_t site, const std::uint8_t* codes, std::ptrdiff_t n,
                         std::ptrdiff_t cols) {
      (*static_cast<std::remove_reference_t<Sink>*>(context))(site, codes, n, cols);
    };
    unit_->run(
        engine_.data(), x, rows, out.data(), out.size(), workspace.data(), workspace.size(), call,
        const_cast<void*>(static_cast<const void*>(&sink)));  // `call` gives a const sink its const back
  }

 private:
  static const repquant_units::engine_unit& widest() noexcept {
    const engine_units here = engine_units_here();
    const repquant_units::engine_unit* best = here.unit[0];
    for (const auto* unit : here.all()) {
      if (unit->set <= static_cast<std::uint8_t>(chosen_instruction_set())) best = unit;
    }
    return *best;
  }

  const repquant_units::engine_unit* unit_;
  alignas(engine) std::array<std::byte, sizeof(engine)> engine_ = {};
};

}  // namespace repquant
