// SPDX-License-Identifier: MIT
/// engine: runs a saved model. Two phases: prepare (checks, packs the weights into the caller's memory), then
/// run (noexcept, no heap, cannot fail, memory from the caller).
#pragma once

#include <repquant/infer/execute.hpp>
#include <repquant/infer/integer_products.hpp>

namespace repquant {

/// Runs a model for one sequence of tokens at a time. Holds no memory of its own; one engine serves any
/// number of threads, each with its own workspace.
///
///   rq::model_view model;
///   if (rq::failure f = rq::model_view::open(bytes, model)) ...
///   rq::engine engine;
///   if (rq::failure f = engine.prepare(model, storage)) ...      // engine::storage_bytes(model) of them
///   engine.run(x, rows, out, workspace);                         // engine.workspace_bytes(rows) of them
class engine {
 public:
  /// Bytes of storage that prepare needs.
  ///
  /// Cost    a few passes over the weights: counts over them choose the kernels
  template<class Arch = default_arch>
  [[nodiscard]] static std::size_t storage_bytes(const model_view& m) noexcept {
    std::size_t n = table_of_offsets(m);
    for (const instruction& s : m.instructions()) {
      n += detail::round_up(packed_bytes<Arch>(s, m.constants()), alignment);
    }
    return n;
  }

  /// Packs the weights for Arch; another Arch can run them too, by the plain definition. `storage` must live
  /// as long as the engine and start on a multiple of 8, better of 64.
  ///
  /// Errors  shape_mismatch (storage too small), bad_format (alignment), too_large (a sum that 32 bits could
  ///         not hold and no wider kernel serves)
  template<class Arch = default_arch>
  failure prepare(const model_view& m, std::span<std::byte> storage) noexcept {
    const std::size_t need = storage_bytes<Arch>(m);
    if (storage.size() < need) {
      return {errc::shape_mismatch, "engine: storage bytes", static_cast<std::int64_t>(storage.size()),
              static_cast<std::int64_t>(need)};
    }
    if (reinterpret_cast<std::uintptr_t>(storage.data()) % 8 != 0)
      return {errc::bad_format, "engine: alignment", 1, 8};
    auto* offsets = reinterpret_cast<std::uint64_t*>(storage.data());
    std::size_t used = table_of_offsets(m);
    index keys = std::numeric_limits<index>::max();
    for (std::size_t i = 0; i < m.instructions().size(); ++i) {
      const instruction& s = m.instructions()[i];
      if (failure f = check_products(s, m.constants())) return f;
      keys = std::min(keys, repquant::most_keys(s, m.constants()));
      offsets[i] = used;
      const std::size_t bytes = packed_bytes<Arch>(s, m.constants());
      pack_products<Arch>(s, m.constants(), storage.subspan(used, bytes));
      used += detail::round_up(bytes, alignment);
    }
    offsets[m.instructions().size()] = used;
    model_ = m;
    storage_ = storage;
    most_keys_ = keys;
    return {};
  }

  [[nodiscard]] const model_view& model() const noexcept { return model_; }

  /// Nothing, or why a sequence of `rows` tokens cannot run: no token, fewer than the row that the model
  /// picks, more than it has positions, more than the sums of an attention hold (too_large; only zero points
  /// far beyond the codes make that a limit).
  [[nodiscard]] failure check_rows(index rows) const noexcept {
    const index most = model_.header().max_rows;
    const index least = model_.header().min_rows;
    if (rows < 1) return {errc::empty, "engine: rows", rows, 1};
    if (rows < least) return {errc::shape_mismatch, "engine: rows", rows, least};
    if (most > 0 && rows > most) return {errc::shape_mismatch, "engine: rows", rows, most};
    const index longest = most_keys_ - model_.header().extra_rows;
    if (rows > longest) return {errc::too_large, "engine: rows", rows, longest};
    return {};
  }
  /// Rows of the result for an input of `rows` tokens.
  [[nodiscard]] index output_rows(index rows) const noexcept {
    const index n = model_.header().output_rows;
    return n < 0 ? -n : rows + n;
  }
  /// Bytes of workspace for a sequence of `rows` tokens, with products of the given kind.
  template<class Products = integer_products>
  [[nodiscard]] std::size_t workspace_bytes(index rows) const noexcept {
    return scratch_offset(rows) + scratch_size<Products>(rows);
  }

  /// Runs the model.
  ///
  /// Shapes    x [rows x input_cols] contiguous, out [output_rows(rows) x output_cols]
  /// Requires  prepare and check_rows said nothing; the workspace is large enough and starts on a multiple of
  ///           64 for speed, of 8 for correctness
  /// Errors    none. NaN in x gives the codes that the codecs state for it, never undefined behaviour
  /// Cost      the model's; no heap
  template<class Arch = default_arch, class Products = integer_products, class Sink = no_sink>
  void run(const float* x, index rows, std::span<float> out, std::span<std::byte> workspace,
           Sink&& sink = Sink{}) const noexcept {
    REPQUANT_ASSERT(workspace.size() >= workspace_bytes<Products>(rows));
    const std::span<const std::int32_t> widths = model_.row_bytes();
    const std::span<activation_register> file(reinterpret_cast<activation_register*>(workspace.data()),
                                              widths.size());
    std::size_t used = table_bytes();
    const index most = rows + model_.header().extra_rows;
    for (std::size_t r = 0; r < widths.size(); ++r) {
      file[r] = {workspace.data() + used, 0};
      used += register_bytes(widths[r], most);
    }
    std::memcpy(file[0].data, x, static_cast<std::size_t>(rows * model_.header().input_cols) * sizeof(float));
    file[0].rows = rows;
    const auto* offsets = reinterpret_cast<const std::uint64_t*>(storage_.data());
    for (std::size_t i = 0; i < model_.instructions().size(); ++i) {
      const instruction& s = model_.instructions()[i];
      Products products{storage_.subspan(offsets[i], offsets[i + 1] - offsets[i]), workspace.subspan(used)};
      execute<Arch>(s, model_.constants(), file, products, sink);
    }
    const activation_register& result = file[static_cast<std::size_t>(model_.header().output)];
    const auto bytes = static_cast<std::size_t>(result.rows * model_.header().output_cols) * sizeof(float);
    REPQUANT_ASSERT(out.size_bytes() >= bytes);
    std::memcpy(out.data(), result.data, bytes);
  }

 private:
  static constexpr std::size_t alignment = 64;
  /// Bytes of the table that says where the packed weights of each instruction begin, and the last ends.
  static std::size_t table_of_offsets(const model_view& m) noexcept {
    return detail::round_up((m.instructions().size() + 1) * sizeof(std::uint64_t), alignment);
  }
  static std::size_t register_bytes(std::int32_t width, index rows) noexcept {
    return detail::round_up(static_cast<std::uint64_t>(width) * static_cast<std::uint64_t>(rows), alignment);
  }
  [[nodiscard]] std::size_t table_bytes() const noexcept {
    return detail::round_up(model_.row_bytes().size() * sizeof(activation_register), alignment);
  }
  [[nodiscard]] std::size_t scratch_offset(index rows) const noexcept {
    std::size_t n = table_bytes();
    for (std::int32_t width : model_.row_bytes())
      n += register_bytes(width, rows + model_.header().extra_rows);
    return n;
  }
  template<class Products>
  [[nodiscard]] std::size_t scratch_size(index rows) const noexcept {
    std::size_t most = 0;
    for (const instruction& s : model_.instructions()) {
      const std::size_t n = Products::scratch_bytes(s, rows + model_.header().extra_rows);
      most = n > most ? n : most;
    }
    return most;
  }

  model_view model_;
  std::span<std::byte> storage_;
  index most_keys_ = std::numeric_limits<index>::max();
};

}  // namespace repquant
