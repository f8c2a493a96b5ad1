// SPDX-License-Identifier: MIT
/// The engine as one instruction set has it, behind a table of functions. cmake/repquantDispatch.cmake
/// compiles this header once for each, with that set's flags and with `repquant` and `xsimd` spelled
/// otherwise, so that no function compiled with those flags has the name of one that runs everywhere
/// (docs/decisions/0015).
///
/// What crosses from unit to unit is pointers, numbers, and bytes of trivially copyable structs.
#pragma once

#include <repquant/infer/engine.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

/// Shared by all units, hence not inside namespace repquant, whose spelling differs between them.
namespace repquant_units {

/// Receives the codes of a site; `context` is what the caller of run gave.
using site_sink = void (*)(void* context, std::int32_t site, const std::uint8_t* codes, std::ptrdiff_t rows,
                           std::ptrdiff_t cols);

/// The engine's functions in one unit. `model`, `engine` and `failure` point to the bytes of a model_view, an
/// engine and a failure.
struct engine_unit {
  std::uint8_t set;  ///< the instruction_set it needs
  std::size_t engine_bytes;
  std::size_t (*storage_bytes)(const void* model) noexcept;
  void (*prepare)(const void* model, std::byte* storage, std::size_t bytes, void* engine,
                  void* failure) noexcept;
  void (*check_rows)(const void* engine, std::ptrdiff_t rows, void* failure) noexcept;
  std::ptrdiff_t (*output_rows)(const void* engine, std::ptrdiff_t rows) noexcept;
  std::size_t (*workspace_bytes)(const void* engine, std::ptrdiff_t rows) noexcept;
  void (*run)(const void* engine, const float* x, std::ptrdiff_t rows, float* out, std::size_t out_size,
              std::byte* workspace, std::size_t bytes, site_sink sink, void* context) noexcept;
};

}  // namespace repquant_units

namespace repquant {

static_assert(std::is_trivially_copyable_v<engine> && std::is_trivially_copyable_v<model_view>);

namespace detail {

/// A T from its bytes, which another unit wrote.
template<class T>
T from_bytes(const void* bytes) noexcept {
  T value;
  std::memcpy(static_cast<void*>(&value), bytes, sizeof value);
  return value;
}

}  // namespace detail

/// The table of this unit, with lanes of Arch and integer products of instruction_set_of<Arch>.
template<class Arch>
constexpr repquant_units::engine_unit make_engine_unit() noexcept {
  using detail::from_bytes;
  return {
      .set = static_cast<std::uint8_t>(instruction_set_of<Arch>),
      .engine_bytes = sizeof(engine),
      .storage_bytes = [](const void* model) noexcept -> std::size_t {
        return engine::storage_bytes<Arch>(from_bytes<model_view>(model));
      },
      .prepare =
          [](const void* model, std::byte* storage, std::size_t bytes, void* prepared, void* why) noexcept {
            engine e;
            const failure f = e.template prepare<Arch>(from_bytes<model_view>(model), {storage, bytes});
            std::memcpy(prepared, static_cast<const void*>(&e), sizeof e);
            std::memcpy(why, &f, sizeof f);
          },
      .check_rows =
          [](const void* prepared, std::ptrdiff_t rows, void* why) noexcept {
            const failure f = from_bytes<engine>(prepared).check_rows(rows);
            std::memcpy(why, &f, sizeof f);
          },
      .output_rows = [](const void* prepared, std::ptrdiff_t rows) noexcept -> std::ptrdiff_t {
        return from_bytes<engine>(prepared).output_rows(rows);
      },
      .workspace_bytes = [](const void* prepared, std::ptrdiff_t rows) noexcept -> std::size_t {
        return from_bytes<engine>(prepared).workspace_bytes(rows);
      },
      .run =
          [](const void* prepared, const float* x, std::ptrdiff_t rows, float* out, std::size_t out_size,
             std::byte* workspace, std::size_t bytes, repquant_units::site_sink sink,
             void* context) noexcept {
            const engine e = from_bytes<engine>(prepared);
            if (sink == nullptr) {
              e.template run<Arch>(x, rows, {out, out_size}, {workspace, bytes});
            } else {
              e.template run<Arch>(x, rows, {out, out_size}, {workspace, bytes},
                                   [sink, context](std::int32_t site, const std::uint8_t* codes, index n,
                                                   index cols) { sink(context, site, codes, n, cols); });
            }
          },
  };
}

}  // namespace repquant
