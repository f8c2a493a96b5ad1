// SPDX-License-Identifier: MIT
/// model_writer: collects instructions and constants and lays them out as infer/model.hpp says.
#pragma once

#include <repquant/infer/model.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace repquant {

namespace detail {

/// Nothing, or too_large where so many bytes of constants are more than a header counts.
constexpr failure check_constants(std::uint64_t bytes) noexcept {
  constexpr std::uint64_t most = std::numeric_limits<decltype(model_header::constants)>::max();
  if (bytes <= most) return {};
  return {errc::too_large, "model: bytes of constants", static_cast<std::int64_t>(bytes),
          static_cast<std::int64_t>(most)};
}

}  // namespace detail

/// Builds the saved form of a model. Registers may be numbered freely while writing: finish() renumbers
/// them so that values that do not live at the same time share one.
class model_writer {
 public:
  /// Appends numbers to the constants and returns their byte offset. Equal numbers are stored once, so
  /// that a weight that several calls share costs its bytes once.
  template<class T>
  std::uint64_t constants(std::span<const T> numbers) {
    const auto bytes = std::as_bytes(numbers);
    std::string key(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto [entry, added] = known_.try_emplace(std::move(key), constants_.size());
    if (added) {
      constants_.insert(constants_.end(), bytes.begin(), bytes.end());
      constants_.resize(detail::round_up(constants_.size(), 8));
    }
    return entry->second;
  }
  /// Adds a site and returns its number.
  std::int32_t site(std::string_view path, int bits, site_role role) {
    site_record s;
    s.path_offset = constants(std::span<const char>(path.data(), path.size()));
    s.path_size = static_cast<std::uint32_t>(path.size());
    s.bits = bits;
    s.role = role;
    sites_.push_back(s);
    return static_cast<std::int32_t>(sites_.size()) - 1;
  }
  void add(const instruction& s) { instructions_.push_back(s); }

  [[nodiscard]] std::span<const std::byte> constants() const noexcept { return constants_; }

  /// The bytes of the model. `input` is the register that holds the input, `output` the result. What
  /// follow() finds wrong with the instructions, model_view::open will say.
  ///
  /// Errors  too_large: more constants than the header counts, 4 GiB
  [[nodiscard]] result<std::vector<std::byte>> finish(std::int32_t input, index input_cols,
                                                      std::int32_t output, index output_cols) const {
    if (failure f = detail::check_constants(constants_.size())) return f;
    std::vector<instruction> code = instructions_;
    const std::vector<std::int32_t> widths = share_registers(code, input, input_cols, output);
    model_header h;
    h.instructions = static_cast<std::uint32_t>(code.size());
    h.registers = static_cast<std::uint32_t>(widths.size());
    h.sites = static_cast<std::uint32_t>(sites_.size());
    h.constants = static_cast<std::uint32_t>(constants_.size());
    h.input_cols = static_cast<std::int32_t>(input_cols);
    h.output_cols = static_cast<std::int32_t>(output_cols);
    h.output = output;
    model_rows rows;
    static_cast<void>(follow(code, h.registers, h.input_cols, h.output, h.output_cols, rows));
    h.extra_rows = rows.extra;
    h.min_rows = rows.least;
    h.max_rows = rows.most;
    h.output_rows = rows.output;
    std::vector<std::byte> bytes(sizeof h);
    const auto append = [&](auto numbers) {
      const auto b = std::as_bytes(std::span(numbers));
      bytes.insert(bytes.end(), b.begin(), b.end());
      bytes.resize(detail::round_up(bytes.size(), 8));
    };
    append(std::span<const instruction>(code));
    append(std::span<const std::int32_t>(widths));
    append(std::span<const site_record>(sites_));
    append(std::span<const std::byte>(constants_));
    h.total_bytes = bytes.size();
    h.checksum = checksum(h, std::span<const std::byte>(bytes).subspan(sizeof h));
    std::memcpy(bytes.data(), &h, sizeof h);
    return bytes;
  }

 private:
  /// Gives every register a place whose former value is dead, first fit in order; place 0 is the input.
  /// A result never takes the place of an operand of the same instruction.
  static std::vector<std::int32_t> share_registers(std::vector<instruction>& code, std::int32_t input,
                                                   index input_cols, std::int32_t& output) {
    std::map<std::int32_t, std::size_t> last_use;
    for (std::size_t i = 0; i < code.size(); ++i) {
      for (std::int32_t r : {code[i].a, code[i].b, code[i].c}) last_use[r] = i;
    }
    last_use[output] = code.size();
    std::map<std::int32_t, std::int32_t> place{{input, 0}};
    std::vector<std::int32_t> widths{static_cast<std::int32_t>(4 * input_cols)};
    std::vector<std::size_t> busy_until{last_use[input]};
    for (std::size_t i = 0; i < code.size(); ++i) {
      instruction& s = code[i];
      const std::int32_t result = s.out;
      for (std::int32_t* r : {&s.a, &s.b, &s.c}) {
        if (*r >= 0) *r = place[*r];
      }
      std::size_t p = 0;
      while (p < widths.size() && busy_until[p] >= i) ++p;
      if (p == widths.size()) {
        widths.push_back(0);
        busy_until.push_back(0);
      }
      const std::int32_t width = s.cols * (s.kind == opcode::encode ? 1 : 4);
      widths[p] = std::max(widths[p], width);
      busy_until[p] = last_use.contains(result) ? last_use[result] : i;
      place[result] = static_cast<std::int32_t>(p);
      s.out = static_cast<std::int32_t>(p);
    }
    output = place[output];
    return widths;
  }

  std::vector<instruction> instructions_;
  std::vector<site_record> sites_;
  std::vector<std::byte> constants_;
  std::map<std::string, std::uint64_t> known_;
};

}  // namespace repquant
