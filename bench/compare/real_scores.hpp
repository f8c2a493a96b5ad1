// SPDX-License-Identifier: MIT
/// Attention scores as a trained network makes them: those of the main job's vision transformer (four blocks
/// of four heads, 50 tokens, one image), brought to the size of the cases.
#pragma once

#include <repquant/block/evaluate.hpp>

#include "random.hpp"
#include "support/data_directory.hpp"
#include "support/fashion_mnist.hpp"
#include "support/vit_model.hpp"
#include <string>
#include <vector>

namespace compare {

using repquant::index;

/// Scores [heads x tokens x tokens], softmax scale applied: head h has the rows of head h mod 16 of the
/// network, each drawn, with repetition, from a row of the network's 50 scores. So every row has the
/// distribution of a real one, at another length.
inline repquant::result<buffer<float>> real_scores(index heads, index tokens) {
  const auto weights = examples::load_vit(examples::data_directory() + "/vit_weights.safetensors");
  if (!weights) return weights.error();
  const auto data = examples::load_fashion_mnist(examples::data_directory(), 1);
  if (!data) return data.error();
  const auto network = repquant::record(examples::vit_model{*weights}, weights->patch_embed.in());
  if (!network) return network.error();
  std::vector<repquant::matrix<>> real;
  repquant::activations x(network->value_cols.size());
  x[0] = examples::patches_of(data->evaluation.images.image(0));
  for (const repquant::step& s : network->steps) {
    if (s.kind == repquant::step_kind::attention) {
      const repquant::matrix<>& q = x[static_cast<std::size_t>(s.a)];
      const repquant::matrix<>& k = x[static_cast<std::size_t>(s.b)];
      const index d = q.cols() / s.attention.heads;
      for (index h = 0; h < s.attention.heads; ++h)
        real.emplace_back(s.attention.scale * q.middleCols(h * d, d) * k.middleCols(h * d, d).transpose());
    }
    x[static_cast<std::size_t>(s.out)] = repquant::evaluate(*network, s, x);
  }

  bit_source bits;
  buffer<float> out(static_cast<std::size_t>(heads * tokens * tokens));
  const index there = real[0].rows();
  for (index h = 0; h < heads; ++h) {
    const repquant::matrix<>& from = real[static_cast<std::size_t>(h) % real.size()];
    for (index i = 0; i < tokens; ++i) {
      float* row = out.data() + (h * tokens + i) * tokens;
      for (index j = 0; j < tokens; ++j)
        row[j] = from(i % there, static_cast<index>(bits() % static_cast<unsigned>(there)));
    }
  }
  return out;
}

}  // namespace compare
