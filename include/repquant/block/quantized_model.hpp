// SPDX-License-Identifier: MIT
/// quantized_model: a quantized block on the host. Owns the saved bytes and an engine prepared for this
/// machine.
///
/// Length: what a model is made of, what is reported of it, and the ways to run it.
#pragma once

#include <repquant/infer/engine.hpp>
#include <repquant/infer/simulated_products.hpp>
#include <repquant/matrix/matrix.hpp>
#include <repquant/reconstruct/concept.hpp>
#include <repquant/reparam/equivalence.hpp>

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace repquant {

/// Power of a float signal and of the difference that quantization made to it.
struct noise_power {
  double signal = 0;
  double noise = 0;

  void add(double original, double quantized) noexcept {
    signal += original * original;
    noise += (original - quantized) * (original - quantized);
  }
  void add(const noise_power& other) noexcept {
    signal += other.signal;
    noise += other.noise;
  }
  /// 10 log10(signal / noise); 200 where there is no noise.
  [[nodiscard]] double decibels() const noexcept {
    return noise > 0 && signal > 0 ? std::fmin(10 * std::log10(signal / noise), 200) : 200;
  }
};

/// One quantized activation: its path, its width, what its codes mean.
struct site_report {
  std::string path;
  site_role role = site_role::linear_input;
  int bits = 0;
  std::string codec;
  /// Of the codes against the values that they encode, over the calibration samples. With feedback it grows
  /// while what the readers make of it shrinks.
  noise_power noise;
};
/// One quantized weight, and what the reconstructor did.
struct weight_report {
  std::string path;
  int bits = 0;
  reconstruction_report reconstruction;
  double correction = 0;  ///< the share of the least-squares change that the float weights took first
  noise_power noise;      ///< of the layer's output against the float network, all errors before it included
};
/// One folded norm, and the equivalence that was measured on calibration samples.
struct fold_report {
  std::string path;
  equivalence measured;

  /// Takes in the equivalence of more samples, or of another fold.
  void add(const equivalence& e) noexcept {
    measured.largest_absolute = std::fmax(measured.largest_absolute, e.largest_absolute);
    measured.largest_relative = std::fmax(measured.largest_relative, e.largest_relative);
    measured.codes += e.codes;
    measured.codes_differ += e.codes_differ;
    measured.near_ties += e.near_ties;
    measured.codes_broken += e.codes_broken;
  }
};
/// What quantize_block did, site by site, in the order of the program.
struct quantization_report {
  std::vector<site_report> sites;
  std::vector<weight_report> weights;
  std::vector<fold_report> folds;
};

/// Memory that runs take their workspace from, one after the other: as much as the largest of them needed.
class run_memory {
 public:
  /// At least so many bytes, on a multiple of 64.
  [[nodiscard]] std::span<std::byte> at_least(std::size_t bytes) {
    const std::size_t lines = (bytes + sizeof(line) - 1) / sizeof(line);
    if (lines > lines_.size()) lines_.resize(lines);
    return std::as_writable_bytes(std::span(lines_));
  }

 private:
  struct alignas(64) line {
    std::array<std::byte, 64> bytes;
  };
  std::vector<line> lines_;
};

/// A model that runs in integers. May be used by several threads at once. Not copied by accident: moves only.
class quantized_model {
 public:
  quantized_model(quantized_model&&) noexcept = default;
  quantized_model& operator=(quantized_model&&) noexcept = default;
  quantized_model(const quantized_model&) = delete;
  quantized_model& operator=(const quantized_model&) = delete;
  ~quantized_model() = default;

  /// A model from its saved bytes.
  ///
  /// Errors  what model_view::open and engine::prepare find
  static result<quantized_model> load(std::span<const std::byte> bytes, quantization_report report = {}) {
    quantized_model m;
    m.bytes_.resize((bytes.size() + 7) / 8);  // words, so that the bytes lie on a multiple of 8
    if (!bytes.empty()) std::memcpy(m.bytes_.data(), bytes.data(), bytes.size());
    m.size_ = bytes.size();
    model_view view;
    if (failure f = model_view::open(m.bytes(), view)) return f;
    m.storage_.resize((engine::storage_bytes(view) + 7) / 8);
    if (failure f = m.engine_.prepare(view, std::as_writable_bytes(std::span(m.storage_)))) return f;
    m.report_ = std::move(report);
    return m;
  }

  /// The saved form.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return std::as_bytes(std::span(bytes_)).first(size_);
  }
  [[nodiscard]] const engine& prepared() const noexcept { return engine_; }
  [[nodiscard]] const model_view& view() const noexcept { return engine_.model(); }
  [[nodiscard]] const quantization_report& report() const noexcept { return report_; }
  /// Bytes that the quantized weights, their parameters and all other constants would take packed to their
  /// bit widths: the size of the model on a device.
  [[nodiscard]] std::size_t packed_bytes() const noexcept {
    std::size_t bits = 0;
    std::vector<std::uint64_t> seen;
    for (const instruction& s : view().instructions()) {
      for (int i = 0; i < 4; ++i) {
        const std::uint64_t n = model_view::data_bytes(s, i);
        if (n == 0 || std::find(seen.begin(), seen.end(), s.data[i]) != seen.end()) continue;
        seen.push_back(s.data[i]);
        const bool codes = s.kind == opcode::linear && i == 0;
        bits += n * (codes ? static_cast<std::size_t>(s.bits) : 8);
      }
    }
    return (bits + 7) / 8 + view().instructions().size() * sizeof(instruction);
  }

  /// Runs one sample in integers.
  ///
  /// Shapes  x [tokens x input_cols], result [tokens' x output_cols]
  /// Errors  shape_mismatch, empty
  /// Cost    the model's, and a workspace from the heap
  template<class Arch = default_arch, class Sink = no_sink>
  [[nodiscard]] result<matrix<>> run(matrix_view x, Sink&& sink = Sink{}) const {
    run_memory memory;
    return run_with<Arch, integer_products>(x, 1, 1, memory, inline_executor{}, sink);
  }
  /// The same with memory that is kept from run to run.
  template<class Arch = default_arch, class Sink = no_sink>
  [[nodiscard]] result<matrix<>> run(matrix_view x, run_memory& memory, Sink&& sink = Sink{}) const {
    return run_with<Arch, integer_products>(x, 1, 1, memory, inline_executor{}, sink);
  }
  /// Runs several samples of as many tokens each, cut into `parts` for exec: the same bits as one by one.
  ///
  /// Shapes  x [samples tokens x input_cols], result [samples tokens' x output_cols], sample after sample
  /// Errors  as run; shape_mismatch too where the rows are no multiple of the samples; bad_option: samples or
  ///         parts below 1
  template<class Arch = default_arch, Executor Exec = inline_executor>
  [[nodiscard]] result<matrix<>> run_batch(matrix_view x, index samples, run_memory& memory, index parts = 1,
                                           const Exec& exec = Exec{}) const {
    no_sink sink;
    return run_with<Arch, integer_products>(x, samples, parts, memory, exec, sink);
  }
  /// Runs one sample with the products computed on exact integers held in double: the same bits as run().
  template<class Arch = default_arch, class Sink = no_sink>
  [[nodiscard]] result<matrix<>> simulate(matrix_view x, Sink&& sink = Sink{}) const {
    run_memory memory;
    return run_with<Arch, simulated_products>(x, 1, 1, memory, inline_executor{}, sink);
  }

 private:
  quantized_model() = default;

  template<class Arch, class Products, class Exec, class Sink>
  result<matrix<>> run_with(matrix_view x, index samples, index parts, run_memory& memory, const Exec& exec,
                            Sink& sink) const {
    if (samples < 1) return failure{errc::bad_option, "model input: samples", samples, 1};
    if (parts < 1) return failure{errc::bad_option, "model input: parts", parts, 1};
    const batch b{.rows = x.rows() / samples, .samples = samples, .parts = parts};
    if (b.rows * samples != x.rows())
      return failure{errc::shape_mismatch, "model input: rows", x.rows(), b.rows * samples};
    if (failure f = engine_.check_rows(b.rows)) return f;
    if (x.cols() != view().header().input_cols) {
      return failure{errc::shape_mismatch, "model input: columns", x.cols(), view().header().input_cols};
    }
    matrix<> contiguous;
    if (x.stride() != x.cols()) contiguous = x.eigen();
    matrix<> out(samples * engine_.output_rows(b.rows), view().header().output_cols);
    engine_.run<Arch, Products>(x.stride() == x.cols() ? x.data() : contiguous.data(), b,
                                {out.data(), static_cast<std::size_t>(out.size())},
                                memory.at_least(engine_.workspace_bytes<Products>(b)), exec, sink);
    return out;
  }

  std::vector<std::uint64_t> bytes_;
  std::size_t size_ = 0;
  std::vector<std::uint64_t> storage_;
  engine engine_;
  quantization_report report_;
};

}  // namespace repquant
