// SPDX-License-Identifier: MIT
/// The network of stories260K, a small LLaMA: RMS norms, rotary positions, grouped queries, gated MLPs, no
/// biases.
#pragma once

#include <repquant/block/gated.hpp>

#include "models/read_block.hpp"
#include <cstring>

namespace examples {

/// embedding [tokens x 64] -> 5 blocks -> norm -> logits [tokens x 512].
struct stories_model {
  repquant::matrix<> tokens;  ///< [512 x 64], looked up outside of the program; also the last weights
  std::vector<repquant::gated_decoder_block> blocks;
  repquant::rms_norm norm;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    x = forward_all(blocks, t, x);
    return t.linear("head", {tokens, {}}, t.norm("norm", norm, x));
  }
};

/// The weights of a llama2.c file, version 0: seven int32 (dim, hidden, layers, heads, key/value heads,
/// vocabulary, positions), then the tensors one after the other, each for all layers.
///
/// Errors  io; bad_format: other sizes than stories260K's, or other than the file has bytes for; non_finite
inline repquant::result<stories_model> load_stories260k_weights(const std::string& path) {
  const auto bytes = repquant::read_file(path);
  if (!bytes) return bytes.error();
  const std::string place = repquant::detail::file_name(path, 40);
  constexpr std::int32_t sizes[7] = {64, 172, 5, 8, 4, 512, 512};
  constexpr std::size_t count = 264128;
  if (bytes->size() != sizeof sizes + 4 * count) {
    return repquant::failure{repquant::errc::bad_format, place + ": bytes", static_cast<index>(bytes->size()),
                             sizeof sizes + 4 * count};
  }
  if (std::memcmp(bytes->data(), sizes, sizeof sizes) != 0)
    return repquant::failure{repquant::errc::bad_format, place + ": sizes"};
  std::vector<float> numbers(count);
  std::memcpy(numbers.data(), bytes->data() + sizeof sizes, 4 * count);
  if (repquant::failure f = repquant::check_finite({numbers.data(), 1, count}, place)) return f;

  const float* at = numbers.data();
  const auto next = [&](index rows, index cols) -> repquant::matrix<> {
    const repquant::matrix_view v(at, rows, cols);
    at += rows * cols;
    return v.eigen();
  };
  constexpr index dim = 64, hidden = 172, layers = 5, keys = 32, positions = 512, half = 4;
  stories_model m;
  m.tokens = next(512, dim);
  m.blocks.resize(layers);
  for (auto& b : m.blocks) b.norm1 = repquant::rms_norm{next(dim, 1), 1e-5F};
  for (auto& b : m.blocks) b.q.weight = next(dim, dim);
  for (auto& b : m.blocks) b.k.weight = next(keys, dim);
  for (auto& b : m.blocks) b.v.weight = next(keys, dim);
  for (auto& b : m.blocks) b.out.weight = next(dim, dim);
  for (auto& b : m.blocks) b.norm2 = repquant::rms_norm{next(dim, 1), 1e-5F};
  for (auto& b : m.blocks) b.gate.weight = next(hidden, dim);
  for (auto& b : m.blocks) b.down.weight = next(dim, hidden);
  for (auto& b : m.blocks) b.up.weight = next(hidden, dim);
  m.norm = {next(dim, 1), 1e-5F};
  const repquant::matrix<> cosines = next(positions, half);
  const repquant::matrix<> sines = next(positions, half);
  for (auto& b : m.blocks) {
    b.heads = {.heads = 8, .kv_heads = 4, .causal = true};
    b.positions = {cosines, sines};
  }
  return m;
}

}  // namespace examples
