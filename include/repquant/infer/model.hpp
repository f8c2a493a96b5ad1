// SPDX-License-Identifier: MIT
/// model_view: a checked look at a saved model. Loading copies nothing and needs only run.hpp.
///
/// Length: the checks that running relies on stand in one place.
#pragma once

#include <repquant/core/failure.hpp>
#include <repquant/core/shape.hpp>
#include <repquant/infer/model_flow.hpp>
#include <repquant/infer/probability.hpp>
#include <repquant/kernel/error_feedback.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

namespace repquant {

/// The probability code of an attention instruction.
constexpr probability_code probability_of(const instruction& s) noexcept {
  return {s.probability,
          s.probability_bits,
          static_cast<zero_rule>(s.probability_zero_rule),
          s.probability_depth,
          s.probability_scale,
          s.probability_zero,
          s.probability_relative != 0};
}

/// A checked look at a saved model. Does not own the bytes.
class model_view {
 public:
  /// Checks everything that running relies on: magic, version, sizes, checksum, every register number,
  /// offset, width and setting, every code of a weight, and, by a walk through the instructions, what they
  /// find in the registers.
  ///
  /// Requires  bytes on a multiple of 8, alive and unchanged while the view is used
  /// Errors    bad_format (place says which part), bad_checksum, bad_bits, empty, shape_mismatch (truncated,
  ///           or what follow says), too_large (registers)
  /// Cost      one pass over the bytes
  static failure open(std::span<const std::byte> bytes, model_view& view) noexcept;

  [[nodiscard]] const model_header& header() const noexcept { return header_; }
  [[nodiscard]] std::span<const instruction> instructions() const noexcept { return instructions_; }
  /// Bytes that a row of each register needs.
  [[nodiscard]] std::span<const std::int32_t> row_bytes() const noexcept { return row_bytes_; }
  [[nodiscard]] std::span<const site_record> sites() const noexcept { return sites_; }
  [[nodiscard]] std::string_view path(const site_record& s) const noexcept {
    return {reinterpret_cast<const char*>(constants_.data()) + s.path_offset, s.path_size};
  }
  [[nodiscard]] std::span<const std::byte> constants() const noexcept { return constants_; }
  /// `count` numbers of type T at a byte offset of the constants.
  template<class T>
  [[nodiscard]] std::span<const T> numbers(std::uint64_t offset, std::size_t count) const noexcept {
    return {reinterpret_cast<const T*>(constants_.data() + offset), count};
  }
  /// The range of constants that instruction field `data[i]` points to, in bytes.
  [[nodiscard]] static std::uint64_t data_bytes(const instruction& s, int i) noexcept;

 private:
  friend class model_writer;
  failure check_instruction(std::size_t i) const noexcept;
  failure check_codes(const instruction& s, std::int64_t at) const noexcept;
  failure check_order(const instruction& s, std::int64_t at) const noexcept;
  failure check_numbers(const instruction& s, std::int64_t at) const noexcept;
  model_header header_;
  std::span<const instruction> instructions_;
  std::span<const std::int32_t> row_bytes_;
  std::span<const site_record> sites_;
  std::span<const std::byte> constants_;
};

namespace detail {
constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) noexcept {
  return (n + to - 1) / to * to;
}
}  // namespace detail

inline std::uint64_t model_view::data_bytes(const instruction& s, int i) noexcept {
  const auto cols = static_cast<std::uint64_t>(s.cols);
  const auto inner = static_cast<std::uint64_t>(s.inner);
  switch (s.kind) {
    case opcode::encode:
      if (i == 0) return 8 * (s.per_column != 0 ? cols : 1);
      if (s.inner == 0) return 0;
      return i == 1 ? 4 * cols : i == 2 ? cols : error_feedback::reach_of(s.cols, s.inner);
    case opcode::linear:
      return i == 0 ? cols * inner : 4 * cols;
    case opcode::norm:
      return i == 0 || (i == 1 && s.flag == 0) ? 4 * cols : 0;
    case opcode::attention:
      if (i == 0) return 4 * static_cast<std::uint64_t>(s.heads);
      return 4 * inner * static_cast<std::uint64_t>(i == 1 ? s.heads : s.kv_heads);
    case opcode::prepend_row:
    case opcode::hadamard:
      return i == 0 ? 4 * cols : 0;
    case opcode::add_rows:
    case opcode::mix_heads:
      return i == 0 ? 4 * cols * inner : 0;
    case opcode::rotate:
      return i < 2 && s.heads > 0 ? 4 * inner * (cols / 2 / static_cast<std::uint64_t>(s.heads)) : 0;
    default:
      return 0;
  }
}

inline failure model_view::check_instruction(std::size_t i) const noexcept {
  const instruction& s = instructions_[i];
  const auto at = static_cast<std::int64_t>(i);
  if (s.kind > opcode::mix_heads) return {errc::bad_format, "model: kind of instruction", at, 0};
  if (s.cols < 1 || s.inner < 0) return {errc::bad_format, "model: columns of instruction", at, s.cols};
  if (s.kind == opcode::linear && s.inner < 1)
    return {errc::bad_format, "model: inner size of instruction", at, 1};
  // registers exist, and results are wide enough; what operands hold, follow() says
  const auto registers = static_cast<std::int32_t>(row_bytes_.size());
  const std::int32_t operands[] = {s.a, s.b, s.c};
  for (int k = 0; k < operand_count(s.kind); ++k) {
    if (operands[k] < 0 || operands[k] >= registers) {
      return {errc::bad_format, "model: operand register of instruction", at, operands[k]};
    }
  }
  if (s.out < 0 || s.out >= registers)
    return {errc::bad_format, "model: result register of instruction", at, s.out};
  const std::int64_t width = row_bytes_[static_cast<std::size_t>(s.out)];
  const std::int64_t result_bytes = static_cast<std::int64_t>(s.cols) * (s.kind == opcode::encode ? 1 : 4);
  if (width < result_bytes) return {errc::bad_format, "model: width of a result", width, result_bytes};
  if (s.kind == opcode::attention) {
    const std::int64_t d = s.inner;
    if (s.heads < 1 || s.kv_heads < 1 || s.heads % s.kv_heads != 0 || d < 1 || d * s.heads != s.cols) {
      return {errc::bad_format, "model: heads of instruction", at, s.heads};
    }
    if (s.probability > probability_kind::as_log_sqrt2 || s.probability_bits < 2 || s.probability_bits > 8 ||
        s.probability_zero_rule > 1 || s.probability_depth > 30 || s.probability_relative > 1) {
      return {errc::bad_format, "model: probability code of instruction", at, s.probability_bits};
    }
    if (!probability_of(s).well_formed()) {
      return {errc::bad_format, "model: relative probability code of instruction", at, s.probability_zero};
    }
  }
  if (s.kind == opcode::rotate && (s.heads < 1 || s.cols % (std::int64_t{2} * s.heads) != 0)) {
    return {errc::bad_format, "model: heads of instruction", at, s.heads};
  }
  if (s.kind == opcode::mix_heads && (s.inner < 1 || s.cols % s.inner != 0)) {
    return {errc::bad_format, "model: inner size of instruction", at, s.inner};
  }
  if (s.kind == opcode::activate && s.function > 3) {
    return {errc::bad_format, "model: function of instruction", at, s.function};
  }
  if (s.kind == opcode::encode && s.inner > error_feedback::most)
    return {errc::too_large, "model: block of instruction", s.inner, error_feedback::most};
  const bool coded = s.kind == opcode::encode || s.kind == opcode::linear;
  if (coded && (s.bits < 2 || s.bits > 8)) return {errc::bad_bits, "model: bits of instruction", s.bits, 8};
  if ((s.kind == opcode::linear || s.kind == opcode::attention) && (s.bits_a < 2 || s.bits_a > 8)) {
    return {errc::bad_bits, "model: bits of the operand of instruction", s.bits_a, 8};
  }
  const bool sited = s.kind == opcode::encode || s.kind == opcode::attention;
  if (sited && (s.site < 0 || s.site >= static_cast<std::int32_t>(sites_.size()))) {
    return {errc::bad_format, "model: site of instruction", s.site, static_cast<std::int64_t>(sites_.size())};
  }
  for (int k = 0; k < 4; ++k) {
    const std::uint64_t need = data_bytes(s, k);
    if (need == 0) continue;
    if (s.data[k] % 8 != 0 || s.data[k] > constants_.size() || constants_.size() - s.data[k] < need) {
      return {errc::bad_format, "model: constants of instruction", at, static_cast<std::int64_t>(s.data[k])};
    }
  }
  if (s.kind == opcode::linear && s.bits < 8) {
    if (failure f = check_codes(s, at)) return f;
  }
  if (s.kind == opcode::encode && s.inner > 0) {
    if (failure f = check_order(s, at)) return f;
  }
  return check_numbers(s, at);
}

/// Packing takes for granted that codes of weights are below 2^bits.
inline failure model_view::check_codes(const instruction& s, std::int64_t at) const noexcept {
  std::uint8_t most = 0;
  for (std::uint8_t c : numbers<std::uint8_t>(s.data[0], data_bytes(s, 0))) most = c > most ? c : most;
  if (most >> s.bits == 0) return {};
  return {errc::bad_format, "model: largest weight code of instruction", at, most};
}

/// Every channel of a block is coded once.
inline failure model_view::check_order(const instruction& s, std::int64_t at) const noexcept {
  const auto order = numbers<std::uint8_t>(s.data[2], static_cast<std::size_t>(s.cols));
  for (std::int64_t first = 0; first < s.cols; first += s.inner) {
    const auto n = static_cast<std::int32_t>(std::min<std::int64_t>(s.inner, s.cols - first));
    std::array<bool, error_feedback::most> coded{};
    for (std::int32_t i = 0; i < n; ++i) {
      const std::uint8_t channel = order[static_cast<std::size_t>(first + i)];
      if (channel >= n || std::exchange(coded[channel], true))
        return {errc::bad_format, "model: order of channels of instruction", at, first + i};
    }
  }
  return {};
}

/// Zero points beyond what uniform::fit gives would overflow integer arithmetic. Scales of an attention that
/// are not finite, or multipliers of scores that turn their order around, would make every score or value of
/// a head NaN.
inline failure model_view::check_numbers(const instruction& s, std::int64_t at) const noexcept {
  constexpr std::int32_t most = 1 << 22;
  const auto fits = [](std::int32_t zero) { return zero >= -most && zero <= most; };
  bool good = fits(s.zero_a) && fits(s.zero_b) && fits(s.probability_zero);
  if (s.kind == opcode::linear) {
    for (std::int32_t z : numbers<std::int32_t>(s.data[1], static_cast<std::size_t>(s.cols)))
      good = good && fits(z);
  }
  if (s.kind == opcode::attention) {
    for (int i : {1, 2}) {
      for (std::int32_t z : numbers<std::int32_t>(s.data[i], data_bytes(s, i) / sizeof(std::int32_t)))
        good = good && fits(z);
    }
    constexpr float largest = std::numeric_limits<float>::max();
    for (int i : {0, 3}) {
      for (float x : numbers<float>(s.data[i], data_bytes(s, i) / sizeof(float))) {
        const bool good_scale = i == 0 ? steps_of(x).ordered : x >= -largest && x <= largest;
        if (!good_scale) return {errc::bad_format, "model: scale of instruction", at, i};
      }
    }
  }
  if (s.kind == opcode::encode) {  // pairs of a scale and a zero point
    const std::size_t sets = s.per_column != 0 ? static_cast<std::size_t>(s.cols) : 1;
    const auto pairs = numbers<std::int32_t>(s.data[0], 2 * sets);
    for (std::size_t k = 1; k < pairs.size(); k += 2) good = good && fits(pairs[k]);
    if (s.inner > 0) {
      for (float x : numbers<float>(s.data[1], static_cast<std::size_t>(s.cols))) {
        if (!std::isfinite(x)) return {errc::bad_format, "model: unit of feedback of instruction", at, 1};
      }
    }
  }
  return good ? failure{} : failure{errc::bad_format, "model: zero point of instruction", at, most};
}

inline failure model_view::open(std::span<const std::byte> bytes, model_view& view) noexcept {
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (bytes.size() < sizeof(model_header))
    return {errc::shape_mismatch, "model: bytes", size, sizeof(model_header)};
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % 8 != 0)
    return {errc::bad_format, "model: alignment", 1, 8};
  model_view v;
  std::memcpy(&v.header_, bytes.data(), sizeof(model_header));
  const model_header& h = v.header_;
  if (h.magic != model_header::expected_magic) {
    return {errc::bad_format, "model: first four bytes", h.magic, model_header::expected_magic};
  }
  if (h.version != model_header::current_version) {
    return {errc::bad_format, "model: version", h.version, model_header::current_version};
  }
  if (h.total_bytes != bytes.size()) {
    return {errc::shape_mismatch, "model: bytes", size, static_cast<std::int64_t>(h.total_bytes)};
  }
  const std::uint64_t parts[] = {h.instructions * sizeof(instruction),
                                 detail::round_up(h.registers * sizeof(std::int32_t), 8),
                                 h.sites * sizeof(site_record), h.constants};
  std::uint64_t sum = sizeof(model_header);
  for (std::uint64_t p : parts) sum += p;
  if (sum != bytes.size() || h.constants % 8 != 0) {
    return {errc::shape_mismatch, "model: parts", static_cast<std::int64_t>(sum), size};
  }
  if (checksum(h, bytes.subspan(sizeof(model_header))) != h.checksum) {
    return {errc::bad_checksum, "model: checksum", 0, static_cast<std::int64_t>(h.checksum)};
  }
  const std::byte* p = bytes.data() + sizeof(model_header);
  v.instructions_ = {reinterpret_cast<const instruction*>(p), h.instructions};
  p += parts[0];
  v.row_bytes_ = {reinterpret_cast<const std::int32_t*>(p), h.registers};
  p += parts[1];
  v.sites_ = {reinterpret_cast<const site_record*>(p), h.sites};
  p += parts[2];
  v.constants_ = {p, h.constants};
  if (h.registers < 1 || h.instructions < 1) return {errc::empty, "model: instructions", h.instructions, 1};
  if (h.output < 0 || static_cast<std::uint32_t>(h.output) >= h.registers || h.input_cols < 1 ||
      h.output_cols < 1 || v.row_bytes_[0] < std::int64_t{4} * h.input_cols) {
    return {errc::bad_format, "model: header", h.output, h.input_cols};
  }
  for (std::int32_t width : v.row_bytes_) {
    if (width < 1) return {errc::bad_format, "model: width of a register", width, 1};
  }
  for (const site_record& s : v.sites_) {
    if (s.path_offset > h.constants || h.constants - s.path_offset < s.path_size) {
      return {errc::bad_format, "model: path of a site", static_cast<std::int64_t>(s.path_offset),
              h.constants};
    }
  }
  for (std::size_t i = 0; i < v.instructions_.size(); ++i) {
    if (failure f = v.check_instruction(i)) return f;
  }
  model_rows rows;
  if (failure f = follow(v.instructions_, h.registers, h.input_cols, h.output, h.output_cols, rows)) return f;
  if (rows != model_rows{h.extra_rows, h.min_rows, h.max_rows, h.output_rows}) {
    return {errc::bad_format, "model: rows in the header", h.output_rows, rows.output};
  }
  view = v;
  return {};
}

}  // namespace repquant
