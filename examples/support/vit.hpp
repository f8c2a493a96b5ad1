// SPDX-License-Identifier: MIT
/// A pre-norm vision transformer: its weights, and its float function written out plainly.
#pragma once

#include "support/weights.hpp"
#include <cmath>
#include <string>
#include <vector>

namespace examples {

using repquant::index;

/// The sizes of a vision transformer. The defaults are those of the Fashion-MNIST one.
struct vit_sizes {
  index patches = 49;
  index patch_pixels = 16;
  index dim = 64;
  index depth = 4;
  index heads = 4;
  index head_dim = 16;
  index mlp_dim = 128;
  index classes = 10;
  bias qkv_bias = bias::yes;
  float eps = 1e-5F;
};

/// h += out(attention(query(ln1 h), key(ln1 h), value(ln1 h))); h += fc2(gelu(fc1(ln2 h)))
struct vit_block {
  repquant::layer_norm ln1;
  repquant::linear query;  ///< [heads*head_dim x dim], head after head; so key and value
  repquant::linear key;
  repquant::linear value;
  repquant::linear out;
  repquant::layer_norm ln2;
  repquant::linear fc1;
  repquant::linear fc2;
};

/// All of a vision transformer, in float.
struct vit_weights {
  vit_sizes sizes;
  repquant::linear patch_embed;
  repquant::column<> class_token;  ///< token 0; patches follow
  repquant::matrix<> positions;    ///< [1 + patches x dim]
  std::vector<vit_block> blocks;
  repquant::layer_norm norm;
  repquant::linear head;  ///< reads token 0
};

/// The weights in a safetensors file, `attn.qkv` split into its three layers.
///
/// Errors  io, bad_format: not a safetensors file; empty: a tensor is missing; shape_mismatch: a tensor of
///         other sizes, or tensors that this network does not have; non_finite: NaN or infinity
inline repquant::result<vit_weights> load_vit(const std::string& path, const vit_sizes& sizes = {}) {
  const repquant::result<repquant::safetensors> file = repquant::safetensors::open(path);
  if (!file) return file.error();
  weight_reader r(*file);
  const index inner = sizes.heads * sizes.head_dim;
  vit_weights w;
  w.sizes = sizes;
  w.patch_embed = r.linear("patch_embed", sizes.dim, sizes.patch_pixels);
  w.class_token = r.column("cls_token", sizes.dim);
  w.positions = r.matrix("pos_embed", 1 + sizes.patches, sizes.dim);
  for (index i = 0; i < sizes.depth; ++i) {
    const std::string name = "blocks." + std::to_string(i);
    vit_block b;
    b.ln1 = r.layer_norm(name + ".ln1", sizes.dim, sizes.eps);
    split_rows(r.linear(name + ".attn.qkv", 3 * inner, sizes.dim, sizes.qkv_bias),
               {&b.query, &b.key, &b.value});
    b.out = r.linear(name + ".attn.out", sizes.dim, inner);
    b.ln2 = r.layer_norm(name + ".ln2", sizes.dim, sizes.eps);
    b.fc1 = r.linear(name + ".mlp.fc1", sizes.mlp_dim, sizes.dim);
    b.fc2 = r.linear(name + ".mlp.fc2", sizes.dim, sizes.mlp_dim);
    w.blocks.push_back(std::move(b));
  }
  w.norm = r.layer_norm("ln_f", sizes.dim, sizes.eps);
  w.head = r.linear("head", sizes.classes, sizes.dim);
  if (const repquant::failure f = r.finish()) return f;
  return w;
}

/// Multiplies four channels of every ln1 and ln2 by 16 and divides what reads them by 16: the float function
/// stays the same to the bit (powers of two), but a quantizer with one scale for all channels loses the
/// other sixty. Channels (7 + 16 k + 5 block) mod dim, k = 0 .. 3; the final norm is left alone.
inline void unbalance(vit_weights& w) {
  constexpr float factor = 16.0F;
  index number = 0;
  for (vit_block& b : w.blocks) {
    for (index k = 0; k < 4; ++k) {
      const index c = (7 + 16 * k + 5 * number) % w.sizes.dim;
      for (repquant::layer_norm* n : {&b.ln1, &b.ln2}) {
        n->gamma[c] *= factor;
        n->beta[c] *= factor;
      }
      for (repquant::linear* l : {&b.query, &b.key, &b.value, &b.fc1}) l->weight.col(c) /= factor;
    }
    ++number;
  }
}

/// The logits of one image, in float, one line a step: what the quantized networks are compared with.
///
///   attention  softmax(q k^T / sqrt(head_dim)) v, per head;   gelu(x) = x (1 + erf(x / sqrt 2)) / 2
///
/// Shapes    patches [sizes.patches x sizes.patch_pixels], result [classes]
inline repquant::column<> logits(const vit_weights& w, repquant::matrix_view patches) {
  const vit_sizes& s = w.sizes;
  repquant::matrix<> h(1 + s.patches, s.dim);
  h.row(0) = w.class_token.transpose();
  h.bottomRows(s.patches) = repquant::apply(w.patch_embed, patches);
  h += w.positions;
  const float scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  for (const vit_block& b : w.blocks) {
    const repquant::matrix<> x = repquant::apply(b.ln1, h);
    const repquant::matrix<> q = repquant::apply(b.query, x);
    const repquant::matrix<> k = repquant::apply(b.key, x);
    const repquant::matrix<> v = repquant::apply(b.value, x);
    repquant::matrix<> mixed(h.rows(), s.heads * s.head_dim);
    for (index head = 0; head < s.heads; ++head) {
      const auto columns = [&](const repquant::matrix<>& m) {
        return m.middleCols(head * s.head_dim, s.head_dim);
      };
      repquant::matrix<> p = columns(q) * columns(k).transpose() * scale;  // [tokens x tokens]
      for (index i = 0; i < p.rows(); ++i) {
        const float top = p.row(i).maxCoeff();
        float sum = 0;
        for (index j = 0; j < p.cols(); ++j) sum += p(i, j) = std::exp(p(i, j) - top);
        p.row(i) /= sum;
      }
      mixed.middleCols(head * s.head_dim, s.head_dim) = p * columns(v);
    }
    h += repquant::apply(b.out, mixed);
    repquant::matrix<> m = repquant::apply(b.fc1, repquant::apply(b.ln2, h));
    for (index i = 0; i < m.size(); ++i) m.data()[i] *= 0.5F * (1.0F + std::erf(m.data()[i] * 0.70710678F));
    h += repquant::apply(b.fc2, m);
  }
  const repquant::matrix<> first = h.topRows(1);
  return repquant::apply(w.head, repquant::apply(w.norm, first)).row(0).transpose();
}

/// The class of the largest logit; the first of equal ones.
inline index class_of(const repquant::column<>& logits_of_image) {
  index c = 0;
  logits_of_image.maxCoeff(&c);
  return c;
}

}  // namespace examples
