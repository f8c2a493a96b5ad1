// SPDX-License-Identifier: MIT
/// The vision transformer as a block that repquant can trace: the same function as logits() in vit.hpp.
#pragma once

#include <repquant/block/transformer.hpp>

#include "support/vit.hpp"

namespace examples {

/// patches -> embedding -> class token and positions -> blocks -> norm -> class token -> head.
struct vit_model {
  vit_weights weights;
  repquant::activation function = repquant::activation::gelu_erf;

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    const vit_sizes& sizes = weights.sizes;
    repquant::matrix<> token = weights.class_token.transpose();
    x = t.linear("patch_embed", weights.patch_embed, x);
    x = t.prepend_row("cls_token", token, x);
    x = t.add_rows("positions", weights.positions, x);
    for (std::size_t i = 0; i < weights.blocks.size(); ++i) {
      const auto scope = t.scope("block", static_cast<index>(i));
      const vit_block& b = weights.blocks[i];
      const repquant::encoder_block block{
          b.ln1, b.query, b.key, b.value, b.out, b.ln2, b.fc1, b.fc2, {.heads = sizes.heads}, function};
      x = block.forward(t, x);
    }
    x = t.select_row(0, t.norm("norm", weights.norm, x));
    return t.linear("head", weights.head, x);
  }
};

}  // namespace examples
