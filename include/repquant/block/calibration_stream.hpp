// SPDX-License-Identifier: MIT
/// calibration_stream: the samples on their way through a program, as floats (the target) and as the integer
/// engine computes them from the instructions written so far.
#pragma once

#include <repquant/block/evaluate.hpp>
#include <repquant/block/model_writer.hpp>
#include <repquant/block/quantized_model.hpp>
#include <repquant/infer/integer_products.hpp>
#include <repquant/parallel/concept.hpp>

#include <string>
#include <utility>
#include <vector>

namespace repquant {

/// All samples, step by step. Registers of floats are numbered as the program's values; registers of codes
/// get numbers after them.
///
/// Cost  memory: what lives of every sample, twice; a step runs once per sample and stream
template<Executor E>
class calibration_stream {
 public:
  calibration_stream(const program& p, const E& exec)
      : program_(p), exec_(exec), registers_(static_cast<std::int32_t>(p.value_cols.size())) {}

  /// Errors  empty (no samples), and for each sample ("calibration sample 3") what check_input and
  ///         check_finite find
  failure start(std::span<const matrix<>> samples) {
    if (failure f = detail::check_samples(program_, samples)) return f;
    samples_.resize(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      samples_[i].target.resize(program_.value_cols.size());
      samples_[i].reals.resize(program_.value_cols.size());
      samples_[i].target[0] = samples_[i].reals[0] = samples[i];
    }
    return {};
  }

  [[nodiscard]] index samples() const noexcept { return static_cast<index>(samples_.size()); }
  [[nodiscard]] model_writer& writer() noexcept { return writer_; }
  [[nodiscard]] std::int32_t real(int v) const noexcept { return v; }
  [[nodiscard]] std::int32_t new_codes() noexcept { return registers_++; }
  [[nodiscard]] const E& executor() const noexcept { return exec_; }

  /// Value v of sample i in the quantized stream, and in the float stream.
  [[nodiscard]] const matrix<>& reals(index i, int v) const {
    return at(i).reals[static_cast<std::size_t>(v)];
  }
  [[nodiscard]] const matrix<>& target(index i, int v) const {
    return at(i).target[static_cast<std::size_t>(v)];
  }
  /// The codes of sample i in a register that new_codes() numbered.
  [[nodiscard]] const matrix<std::uint8_t>& codes(index i, std::int32_t number) const {
    return at(i).codes[static_cast<std::size_t>(number) - program_.value_cols.size()];
  }

  /// Computes the result of step s in the float stream.
  void advance_target(std::size_t s) {
    const step& now = program_.steps[s];
    exec_(samples(), [&](index i) {
      activations& x = samples_[static_cast<std::size_t>(i)].target;
      x[static_cast<std::size_t>(now.out)] = evaluate(program_, now, x);
    });
  }
  /// Runs an instruction on every sample and adds it to the model.
  failure run(const instruction& s) {
    if (failure f = preview(s)) return f;
    writer_.add(s);
    return {};
  }
  /// Runs an instruction on every sample without adding it.
  ///
  /// Errors  too_large, as the engine's prepare would say
  failure preview(const instruction& s) {
    if (failure f = check_products(s, writer_.constants())) return f;
    const packed_weights_buffer weights(s, writer_.constants());
    exec_(samples(), [&](index i) { run_sample(s, weights, samples_[static_cast<std::size_t>(i)]); });
    return {};
  }
  /// Frees what no step after step s reads, in both streams.
  void free_unused(std::size_t s) {
    for (sample& x : samples_) {
      repquant::free_unused(program_, s, x.target);
      repquant::free_unused(program_, s, x.reals);
    }
  }
  /// Frees codes that were read for the last time.
  void free_codes(std::int32_t number) {
    for (sample& x : samples_)
      x.codes[static_cast<std::size_t>(number) - program_.value_cols.size()].resize(0, 0);
  }

  /// Noise summed over the samples: f(sample, noise_power&), in sample order whatever the executor.
  template<class F>
  [[nodiscard]] noise_power measure(const F& f) const {
    std::vector<noise_power> parts(samples_.size());
    exec_(samples(), [&](index i) { f(i, parts[static_cast<std::size_t>(i)]); });
    noise_power sum;
    for (const noise_power& p : parts) sum.add(p);
    return sum;
  }

  /// The bytes of the model written so far.
  ///
  /// Errors  those of model_writer::finish
  [[nodiscard]] result<std::vector<std::byte>> finish() const {
    return writer_.finish(0, program_.input_cols(), program_.output, program_.output_cols());
  }

 private:
  struct sample {
    activations target;
    activations reals;
    std::vector<matrix<std::uint8_t>> codes;
  };
  /// Weights of a linear instruction as the integer products want them; nothing for other instructions.
  struct packed_weights_buffer {
    packed_weights_buffer(const instruction& s, std::span<const std::byte> constants) {
      bytes.resize(packed_bytes(s, constants));
      pack_products(s, constants, bytes);
    }
    std::vector<std::byte> bytes;
  };

  const sample& at(index i) const { return samples_[static_cast<std::size_t>(i)]; }

  void run_sample(const instruction& s, const packed_weights_buffer& weights, sample& x) const {
    const std::size_t values = program_.value_cols.size();
    x.codes.resize(static_cast<std::size_t>(registers_) - values);
    std::vector<activation_register> file(static_cast<std::size_t>(registers_));
    const auto bind = [&](std::int32_t number) {
      if (number < 0) return;
      const auto r = static_cast<std::size_t>(number);
      if (r < values) {
        file[r] = {reinterpret_cast<std::byte*>(x.reals[r].data()), x.reals[r].rows()};
      } else {
        file[r] = {reinterpret_cast<std::byte*>(x.codes[r - values].data()), x.codes[r - values].rows()};
      }
    };
    bind(s.a);
    const index rows = result_rows(s, file[static_cast<std::size_t>(s.a)].rows);
    if (const auto out = static_cast<std::size_t>(s.out); out < values) {
      x.reals[out].resize(rows, s.cols);
    } else {
      x.codes[out - values].resize(rows, s.cols);
    }
    index most = rows;
    for (std::int32_t number : {s.a, s.b, s.c, s.out}) {
      bind(number);
      if (number >= 0) most = std::max(most, file[static_cast<std::size_t>(number)].rows);
    }
    std::vector<std::byte> scratch(integer_products::scratch_bytes(s, most, most));
    integer_products products{weights.bytes, scratch};
    execute(s, writer_.constants(), file, products);
  }

  const program& program_;
  const E& exec_;
  std::int32_t registers_;
  std::vector<sample> samples_;
  model_writer writer_;
};

}  // namespace repquant
