// SPDX-License-Identifier: MIT
/// refine_flow: the instructions of a model with a value of its own for every result, beside the steps of its
/// program, cut into the ranges that block-wise refinement works on.
#pragma once

#include <repquant/block/program.hpp>
#include <repquant/infer/model.hpp>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

namespace repquant::detail {

/// A run of instructions from one value of floats to another.
struct refine_range {
  std::vector<int> code;  ///< instructions, in order
  int input = 0;          ///< value
  int output = 0;
};

/// Value 0 is the input, value i + 1 the result of instruction i.
struct refine_flow {
  std::vector<instruction> code;  ///< with values for registers
  std::vector<int> real;          ///< of each value: what the program calls it, -1 for codes
  std::vector<refine_range> ranges;
  int output = 0;

  [[nodiscard]] std::vector<int> operands(int i) const {
    const instruction& s = code[static_cast<std::size_t>(i)];
    std::vector<int> v{s.a};
    if (operand_count(s.kind) > 1) v.push_back(s.b);
    if (operand_count(s.kind) > 2) v.push_back(s.c);
    return v;
  }
};

/// The scope of a path up to its first number: "block.3.attn.q" gives "block.3."; nothing where none has one.
inline std::string numbered_scope(const std::string& path) {
  std::size_t from = 0;
  for (std::size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', from)) {
    const std::string part = path.substr(from, dot - from);
    from = dot + 1;
    if (!part.empty() &&
        std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c); }))
      return path.substr(0, from);
  }
  return {};
}

/// True where quantization put in an instruction that is no step of the program that is refined.
constexpr bool added_by_quantization(opcode k) noexcept {
  return k == opcode::encode || k == opcode::hadamard || k == opcode::mix_heads;
}

/// Where each instruction stands among the steps: its own, or for one that quantization added that of its
/// first reader.
inline std::vector<int> places_of(const refine_flow& f) {
  std::vector<int> place(f.code.size(), -1);
  int next = 0;
  for (std::size_t i = 0; i < f.code.size(); ++i) {
    if (!added_by_quantization(f.code[i].kind)) place[i] = next++;
  }
  // backwards: the reader of a reader is known before it is asked for
  for (std::size_t i = f.code.size(); i-- > 0;) {
    for (int v : f.operands(static_cast<int>(i))) {
      if (v == 0) continue;
      int& p = place[static_cast<std::size_t>(v - 1)];
      if (!added_by_quantization(f.code[static_cast<std::size_t>(v - 1)].kind)) continue;
      p = p < 0 ? place[i] : std::min(p, place[i]);
    }
  }
  return place;
}

/// Cuts a flow where the scope of the steps changes and a single value of floats passes.
inline void cut(const program& p, refine_flow& f) {
  const std::vector<int> place = places_of(f);
  const auto steps = static_cast<int>(p.steps.size());
  std::string scope;
  int start = 0;
  int input = 0;
  for (int s = 0; s < steps; ++s) {
    const bool last = s + 1 == steps;
    if (!p.steps[static_cast<std::size_t>(s)].path.empty())
      scope = numbered_scope(p.steps[static_cast<std::size_t>(s)].path);
    const std::string& next = last ? std::string() : p.steps[static_cast<std::size_t>(s) + 1].path;
    if (!last && (next.empty() || numbered_scope(next) == scope)) continue;
    // what is made up to here and read later
    std::vector<int> live;
    const auto made_here = [&](int v) { return v == 0 || place[static_cast<std::size_t>(v - 1)] <= s; };
    for (std::size_t i = 0; i < f.code.size(); ++i) {
      if (place[i] <= s) continue;
      for (int v : f.operands(static_cast<int>(i))) {
        if (made_here(v) && std::find(live.begin(), live.end(), v) == live.end()) live.push_back(v);
      }
    }
    if (made_here(f.output) && std::find(live.begin(), live.end(), f.output) == live.end())
      live.push_back(f.output);
    if (live.size() != 1 || f.real[static_cast<std::size_t>(live.front())] < 0 || live.front() == input)
      continue;
    refine_range r;
    r.input = input;
    r.output = input = live.front();
    for (std::size_t i = 0; i < f.code.size(); ++i) {
      if (place[i] >= start && place[i] <= s) r.code.push_back(static_cast<int>(i));
    }
    start = s + 1;
    f.ranges.push_back(std::move(r));
  }
}

/// The flow of a model that was made from a program.
///
/// Errors  shape_mismatch where the instructions that quantization did not add (encode, hadamard, mix_heads)
///         are not the steps of the program, in order: the model was made from another
inline failure make_flow(const program& p, const model_view& m, refine_flow& f) {
  f.code.assign(m.instructions().begin(), m.instructions().end());
  f.real.assign(f.code.size() + 1, -1);
  f.real[0] = 0;
  std::vector<int> holds(m.row_bytes().size(), 0);
  std::size_t step = 0;
  for (std::size_t i = 0; i < f.code.size(); ++i) {
    instruction& s = f.code[i];
    const int operands = operand_count(s.kind);
    s.a = holds[static_cast<std::size_t>(s.a)];
    if (operands > 1) s.b = holds[static_cast<std::size_t>(s.b)];
    if (operands > 2) s.c = holds[static_cast<std::size_t>(s.c)];
    const auto value = static_cast<int>(i + 1);
    holds[static_cast<std::size_t>(s.out)] = value;
    s.out = value;
    if (added_by_quantization(s.kind)) continue;
    const bool same = step < p.steps.size() && opcode_of(p.steps[step].kind) == s.kind;
    if (!same) {
      return {errc::shape_mismatch, "refine: instruction of the program's step", static_cast<std::int64_t>(i),
              static_cast<std::int64_t>(step)};
    }
    f.real[static_cast<std::size_t>(value)] = p.steps[step++].out;
  }
  if (step != p.steps.size()) {
    return {errc::shape_mismatch, "refine: steps of the program", static_cast<std::int64_t>(p.steps.size()),
            static_cast<std::int64_t>(step)};
  }
  f.output = holds[static_cast<std::size_t>(m.header().output)];
  cut(p, f);
  return {};
}

}  // namespace repquant::detail
