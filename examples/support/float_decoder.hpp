// SPDX-License-Identifier: MIT
/// A LLaMA-style decoder in float, token by token with its keys and values kept: what the integer decoder is
/// compared with.
#pragma once

#include <repquant/infer/rotate.hpp>
#include <repquant/infer/softmax.hpp>

#include "models/stories_model.hpp"
#include <vector>

namespace examples {

/// Runs stories_model on one token at a time. Products are Eigen's, keys and values stand channel by channel,
/// so that sums run along tokens; all memory is taken at the start.
class float_decoder {
 public:
  float_decoder(const stories_model& m, index most) : model_(m), caches_(m.blocks.size()) {
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      caches_[i].keys.resize(m.blocks[i].k.out(), most);
      caches_[i].values.resize(m.blocks[i].v.out(), most);
    }
    scores_.resize(1, most);
  }

  /// Logits of the token that follows `token`, which is the next one of the sequence.
  ///
  /// Requires  a token of the vocabulary; room for it
  const repquant::matrix<>& step(std::int32_t token) {
    x_ = model_.tokens.row(token);
    for (std::size_t i = 0; i < caches_.size(); ++i) run_block(model_.blocks[i], caches_[i]);
    norm(model_.norm, x_);
    logits_.noalias() = n_ * model_.tokens.transpose();
    ++position_;
    return logits_;
  }

 private:
  struct cache {
    repquant::matrix<> keys;
    repquant::matrix<> values;
  };
  static std::span<float> all(repquant::matrix<>& m) {
    return {m.data(), static_cast<std::size_t>(m.size())};
  }
  void norm(const repquant::rms_norm& layer, repquant::matrix<>& x) {
    n_.resize(1, x.cols());
    repquant::rms_norm_row(all(x), {layer.gamma.data(), static_cast<std::size_t>(layer.gamma.size())},
                           layer.eps, all(n_));
  }
  void run_block(const repquant::gated_decoder_block& b, cache& c) {
    norm(std::get<repquant::rms_norm>(b.norm1), x_);
    q_.noalias() = n_ * b.q.weight.transpose();
    key_.noalias() = n_ * b.k.weight.transpose();
    c.values.col(position_).noalias() = b.v.weight * n_.transpose();
    const repquant::matrix_view cosines = b.positions.cosines;
    const repquant::matrix_view sines = b.positions.sines;
    repquant::rotate_row(all(q_), cosines.row(position_), sines.row(position_), all(q_));
    repquant::rotate_row(all(key_), cosines.row(position_), sines.row(position_), all(key_));
    c.keys.col(position_) = key_.transpose();
    const index d = q_.cols() / b.heads.heads;
    const index keys = position_ + 1;
    const float scale = 1 / std::sqrt(static_cast<float>(d));
    mixed_.resize(1, q_.cols());
    for (index h = 0; h < b.heads.heads; ++h) {
      const index g = h / (b.heads.heads / b.heads.kv_heads) * d;
      auto s = scores_.leftCols(keys);
      s.noalias() = q_.middleCols(h * d, d) * c.keys.block(g, 0, d, keys);
      s *= scale;
      const std::span<float> row(scores_.data(), static_cast<std::size_t>(keys));
      repquant::softmax_row(row, row);
      mixed_.middleCols(h * d, d).noalias() = s * c.values.block(g, 0, d, keys).transpose();
    }
    x_.noalias() += mixed_ * b.out.weight.transpose();
    norm(std::get<repquant::rms_norm>(b.norm2), x_);
    gate_.noalias() = n_ * b.gate.weight.transpose();
    up_.noalias() = n_ * b.up.weight.transpose();
    repquant::activate(b.function, all(gate_), all(gate_));
    gate_.array() *= up_.array();
    x_.noalias() += gate_ * b.down.weight.transpose();
  }

  const stories_model& model_;
  std::vector<cache> caches_;
  index position_ = 0;
  repquant::matrix<> x_, n_, q_, key_, mixed_, scores_, gate_, up_, logits_;
};

}  // namespace examples
