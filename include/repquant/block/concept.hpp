// SPDX-License-Identifier: MIT
/// Block: one float function, written once against a trace. Every other file of this folder reads what
/// it recorded. A whole model is a block, too; a block may call others under scopes, one of them twelve
/// times.
///
/// Laws (testing/host_laws.hpp): tracing twice records the same steps; every path is visited once.
#pragma once

#include <repquant/block/trace.hpp>

#include <concepts>

namespace repquant {

/// b.forward(t, x) says what the block does to x and returns the result.
template<class B>
concept Block = requires(const B& b, trace& t, value x) {
  { b.forward(t, x) } -> std::same_as<value>;
};

/// The program of a block for inputs of `input_cols` columns.
///
/// Errors  the first that the trace found, with the path of the step
/// Cost    copies the layers
template<Block B>
result<program> record(const B& block, index input_cols) {
  trace t(input_cols);
  const value out = block.forward(t, t.input());
  return std::move(t).finish(out);
}

}  // namespace repquant
