// SPDX-License-Identifier: MIT
/// attention_parameters: scales of q and k whose products are one number per head.
#pragma once

#include <repquant/block/program.hpp>
#include <repquant/reparam/widened.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace repquant::detail {

/// Parameters of q, k and v for every column, and what a product of their codes in a head is worth.
struct attention_parameters {
  std::vector<affine> query;
  std::vector<affine> key;
  std::vector<affine> value;
  std::vector<double> score;  ///< s_q s_k, by head
};

/// Widens the scales of q and k until each channel's product is the same in a head. The head's product is the
/// largest that a channel asks for; what others get too much goes to both sides alike, as a factor
/// sqrt(product / (s_q s_k)). Heads that share keys are brought to one size first.
inline void equalize_scores(const attention_options& o, const uniform& q_codec, const uniform& k_codec,
                            attention_parameters& p) {
  const index d = static_cast<index>(p.query.size()) / o.heads;
  const index share = o.heads / o.kv_heads;
  p.score.assign(static_cast<std::size_t>(o.heads), 0);
  for (index g = 0; g < o.kv_heads; ++g) {
    const auto key = [&](index c) -> affine& { return p.key[static_cast<std::size_t>(g * d + c)]; };
    const auto query = [&](index h, index c) -> affine& {
      return p.query[static_cast<std::size_t>(h * d + c)];
    };
    std::vector<double> size(static_cast<std::size_t>(share));
    std::vector<double> most(static_cast<std::size_t>(d));
    for (index n = 0; n < share; ++n) {
      double logs = 0;
      for (index c = 0; c < d; ++c) logs += std::log(static_cast<double>(query(g * share + n, c).scale));
      size[static_cast<std::size_t>(n)] = std::exp(logs / static_cast<double>(d));
      for (index c = 0; c < d; ++c) {
        double& m = most[static_cast<std::size_t>(c)];
        m = std::fmax(m,
                      static_cast<double>(query(g * share + n, c).scale) / size[static_cast<std::size_t>(n)]);
      }
    }
    double product = 0;
    for (index c = 0; c < d; ++c) {
      product = std::fmax(product, most[static_cast<std::size_t>(c)] * static_cast<double>(key(c).scale));
    }
    for (index c = 0; c < d; ++c) {
      const double q = most[static_cast<std::size_t>(c)];
      const double wider = std::sqrt(product / (q * static_cast<double>(key(c).scale)));
      key(c) = widened(k_codec, key(c), static_cast<double>(key(c).scale) * wider);
      for (index n = 0; n < share; ++n) {
        affine& own = query(g * share + n, c);
        own = widened(q_codec, own, q * size[static_cast<std::size_t>(n)] * wider);
      }
    }
    for (index n = 0; n < share; ++n) {
      p.score[static_cast<std::size_t>(g * share + n)] = product * size[static_cast<std::size_t>(n)];
    }
  }
}

}  // namespace repquant::detail
