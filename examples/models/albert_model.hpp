// SPDX-License-Identifier: MIT
/// The network of RXNMapper's ALBERT: one post-norm block, called twelve times.
#pragma once

#include <repquant/block/post_norm.hpp>

#include "models/model_case.hpp"
#include "models/read_block.hpp"

namespace examples {

/// embedding [tokens x 128] -> norm -> 256 wide -> block x12 -> masked-token head [tokens x 591].
struct albert_model {
  repquant::matrix<> tokens;     ///< [591 x 128], looked up outside of the program; also the last weights
  repquant::matrix<> positions;  ///< [512 x 128], the type's row added
  repquant::layer_norm norm;
  repquant::linear projection;
  repquant::post_norm_block block;
  repquant::linear dense;
  repquant::layer_norm dense_norm;
  repquant::column<> out_bias;
  bool head = true;  ///< false: the program ends with the last hidden state

  repquant::value forward(repquant::trace& t, repquant::value x) const {
    x = t.linear("embed_proj", projection, t.norm("ln_emb", norm, x));
    for (index call = 0; call < 12; ++call) {
      const auto scope = t.scope("block", call);
      x = block.forward(t, x);
    }
    if (!head) return x;
    x = t.activate(repquant::activation::gelu_erf, t.linear("mlm.dense", dense, x));
    return t.linear("mlm.out", {tokens, out_bias}, t.norm("mlm.ln", dense_norm, x));
  }

  /// What the program reads: the token's row plus the position's and the type's.
  ///
  /// Errors  shape_mismatch: more tokens than positions; bad_format: an id beyond the vocabulary
  [[nodiscard]] repquant::result<repquant::matrix<>> embed(std::span<const std::int32_t> ids) const {
    const auto length = static_cast<index>(ids.size());
    if (length > positions.rows())
      return repquant::failure{repquant::errc::shape_mismatch, "albert: tokens", length, positions.rows()};
    auto x = rows_of(tokens, ids, "albert: token");
    if (x) *x += positions.topRows(length);
    return x;
  }
};

/// Errors  those of safetensors and weight_reader
inline repquant::result<albert_model> load_albert_weights(const std::string& path) {
  const auto file = repquant::safetensors::open(path);
  if (!file) return file.error();
  constexpr float eps = 1e-12F;
  weight_reader r(*file);
  albert_model m;
  m.tokens = r.matrix("tok_embed.weight", 591, 128);
  m.positions = r.matrix("pos_embed", 512, 128);
  const repquant::matrix<> types = r.matrix("type_embed", 2, 128);
  m.norm = r.layer_norm("ln_emb", 128, eps);
  m.projection = r.linear("embed_proj", 256, 128);
  m.block = read_block<repquant::post_norm_block>(
      r, "block", {.dim = 256, .hidden = 512, .heads = {.heads = 8}, .eps = eps});
  m.dense = r.linear("mlm.dense", 128, 256);
  m.dense_norm = r.layer_norm("mlm.ln", 128, eps);
  m.out_bias = r.column("mlm.out.bias", 591);
  if (repquant::failure f = r.finish()) return f;
  m.positions.rowwise() += types.row(0);
  return m;
}

}  // namespace examples
