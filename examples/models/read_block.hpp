// SPDX-License-Identifier: MIT
/// Transformer blocks from a safetensors file, by the names that the models here share.
#pragma once

#include <repquant/block/trace.hpp>

#include "support/weights.hpp"

namespace examples {

using repquant::index;

/// The sizes of an attention and MLP block, and what its weights do not tell.
struct block_sizes {
  index dim = 0;
  index hidden = 0;
  repquant::attention_options heads;
  float eps = 1e-5F;
  bias qkv_bias = bias::yes;
  bool fused_qkv = false;  ///< one layer `attn.qkv`, rows q, k, v
  repquant::activation function = repquant::activation::gelu_erf;
};

/// `<name>.ln1`, `.attn.{q,k,v}` or `.attn.qkv`, `.attn.out`, `.ln2`, `.mlp.fc1`, `.mlp.fc2` as a block with
/// the members of repquant::encoder_block. Errors are in the reader, as ever.
template<class B>
B read_block(weight_reader& r, const std::string& name, const block_sizes& s) {
  B b;
  b.norm1 = r.layer_norm(name + ".ln1", s.dim, s.eps);
  if (s.fused_qkv) {
    split_rows(r.linear(name + ".attn.qkv", 3 * s.dim, s.dim, s.qkv_bias), {&b.q, &b.k, &b.v});
  } else {
    b.q = r.linear(name + ".attn.q", s.dim, s.dim, s.qkv_bias);
    b.k = r.linear(name + ".attn.k", s.dim, s.dim, s.qkv_bias);
    b.v = r.linear(name + ".attn.v", s.dim, s.dim, s.qkv_bias);
  }
  b.out = r.linear(name + ".attn.out", s.dim, s.dim);
  b.norm2 = r.layer_norm(name + ".ln2", s.dim, s.eps);
  b.fc1 = r.linear(name + ".mlp.fc1", s.hidden, s.dim);
  b.fc2 = r.linear(name + ".mlp.fc2", s.dim, s.hidden);
  b.heads = s.heads;
  b.function = s.function;
  return b;
}

/// `count` blocks named `<name>.0`, `<name>.1`, ...
template<class B>
std::vector<B> read_blocks(weight_reader& r, const std::string& name, index count, const block_sizes& s) {
  std::vector<B> all;
  for (index i = 0; i < count; ++i) all.push_back(read_block<B>(r, name + "." + std::to_string(i), s));
  return all;
}

/// One block after the other, under the scopes block.0, block.1, ...
template<class B>
repquant::value forward_all(const std::vector<B>& blocks, repquant::trace& t, repquant::value x) {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto scope = t.scope("block", static_cast<index>(i));
    x = blocks[i].forward(t, x);
  }
  return x;
}

}  // namespace examples
